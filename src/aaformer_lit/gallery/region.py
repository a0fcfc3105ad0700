"""Find this bag: which parts of a picture lie in a region of it, so that a search can rank by these.

Part tokens have no names; what a part is, its patches say. Each part counts as much as its patches in the last layer and the
region's cover each other (Dice coefficient, heads averaged). The weights are the query's alone: its parts are scaled
by them, and the gallery's stay as they are, so that one index of `parts` serves all regions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aaformer_lit.errors import ConfigError
from aaformer_lit.gallery.extractor import Extractor
from aaformer_lit.models import ReIDViT
from aaformer_lit.structures import Pixels


@torch.inference_mode()
def parts_in_region(extractor: Extractor, pixels: Pixels, region: Sequence[float]) -> Float[Tensor, " parts"]:
    """How well each part and the region cover each other, 0 to 1.

    Args:
        pixels: the query.
        region: x, y, width and height in its pixels; may reach over the edge.

    Raises:
        ConfigError: no region of the picture, or the network has no parts that lie anywhere and can be weighted.
    """
    covered = coverage(region, (pixels.shape[0], pixels.shape[1]), extractor.network.grid)
    patches = _patches(extractor.network, extractor.transform(pixels)[None].to(extractor.device))
    return 2 * patches @ covered / (patches.sum(dim=1) + covered.sum())


def weighted(
    descriptors: Float[Tensor, "images tokens dim"], weights: Float[Tensor, " parts"]
) -> Float[Tensor, "images tokens dim"]:
    """The descriptors with their parts scaled; CLS stays."""
    return descriptors * torch.cat([weights.new_ones(1), weights])[:, None]


def coverage(region: Sequence[float], size: tuple[int, int], grid: tuple[int, int]) -> Float[Tensor, " patches"]:
    """Of each patch the share that lies in the region of a picture of (height, width) `size`."""
    if len(region) != 4 or not all(isinstance(value, int | float) and math.isfinite(value) for value in region):
        raise ConfigError(f"region={list(region)} must be [x,y,width,height] in pixels of the query.")
    sides = []
    for start, length, pixels, cells in zip(region[1::-1], region[3:1:-1], size, grid, strict=True):
        edges = np.arange(cells + 1) * pixels / cells
        inside = np.clip(edges, max(start, 0), max(start + length, 0))
        sides.append(torch.from_numpy(np.diff(inside) * cells / pixels).float())
    covered = torch.outer(*sides).flatten()
    if not covered.any():
        raise ConfigError(f"region={list(region)} lies outside the query, which is {size[1]} x {size[0]} pixels.")
    return covered


def _patches(network: ReIDViT, images: Float[Tensor, "1 3 height width"]) -> Float[Tensor, "parts patches"]:
    """How many of the heads give each patch to each part in the last layer."""
    if network.descriptor_shape[0] == 1 or network.joined:
        raise ConfigError("region= needs a network whose descriptor has parts; this one has none. Leave region= out.")
    if not network.normalize:  # scaled and unscaled features would be at different distances from 0
        raise ConfigError("region= needs a network that normalizes its descriptor (model.normalize=true).")
    assigned = network.assignments(images)
    if not assigned or bool((assigned[-1] == assigned[-1][..., :1, :]).all()):
        raise ConfigError(
            "region= needs parts that divide the patches by what the image shows; those of this network do not."
        )
    return assigned[-1][0].float().mean(dim=0).cpu()
