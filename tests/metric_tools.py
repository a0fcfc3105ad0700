"""Queries and galleries to evaluate, for tests of metrics."""

import numpy as np
import torch

from aaformer_lit.structures import FeatureSet


def tied_sets(seed, queries=12, gallery=70, ids=6, cameras=3, levels=3, dim=4):
    """Query and gallery with junk and unknown cameras among them, on a small integer grid.

    Distances are exact in float32, and most of them are tied.
    """
    rng = np.random.default_rng(seed)

    def draw(images):
        features = torch.from_numpy(rng.integers(0, levels, (images, dim))).float()
        pids, camids = (torch.from_numpy(rng.integers(-1, n, images)) for n in (ids, cameras))
        return FeatureSet(features, pids, camids)

    return draw(queries), draw(gallery)
