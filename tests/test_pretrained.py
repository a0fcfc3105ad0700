"""The weights that come with the package: they load by name, are small, and find people as published."""

import numpy as np
import pytest
import torch

from aaformer_lit import load_model
from aaformer_lit.checkpoints.hub import PACKAGED
from aaformer_lit.checkpoints.load import description
from aaformer_lit.data.preparation import resize
from aaformer_lit.data.synthetic import SyntheticSpec, render
from aaformer_lit.metrics import evaluate_retrieval
from aaformer_lit.structures import FeatureSet

# the first 20 test people of the quickstart, as drawn, without the losses of a JPEG file
SPEC = SyntheticSpec(num_train_ids=100, num_test_ids=20, num_cameras=4, difficulty=0.2, box_width=0.75)
PUBLISHED = 0.527  # mAP; 49.0 on all 100 (docs/reproduction.md)


def test_synthetic_small_finds_synthetic_people_as_published():
    network = load_model("synthetic-small")
    data = description("synthetic-small")["data"]
    mean, std = np.array(data["mean"]), np.array(data["std"])
    shots = [shot for shot in SPEC.shots() if shot.split != "train"]
    pictures = [resize(render(SPEC, s.pid, s.camid, s.index)[0], network.image_size) for s in shots]
    images = torch.from_numpy((np.stack(pictures) / 255 - mean) / std).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        features = network.embed(images)
    pids, camids = (torch.tensor([getattr(shot, name) for shot in shots]) for name in ("pid", "camid"))
    query = torch.tensor([shot.split == "query" for shot in shots])
    sets = [FeatureSet(features[rows], pids[rows], camids[rows]) for rows in (query, ~query)]
    assert evaluate_retrieval(*sets).mAP == pytest.approx(PUBLISHED, abs=0.01)


def test_synthetic_small_is_small():
    folder = PACKAGED / "synthetic-small"
    assert {file.name for file in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3e6
