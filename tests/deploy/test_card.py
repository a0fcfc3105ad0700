"""The model card: filled from the run, silent about the machine, and honest about what it does not know."""

import json

import pytest

from aaformer_lit.checkpoints.load import describe
from aaformer_lit.deploy import model_card
from aaformer_lit.deploy.formats import portable
from aaformer_lit.errors import CheckpointError

MODEL = {
    "_target_": "aaformer_lit.models.AAformer",
    "backbone": {"_target_": "aaformer_lit.models.build_backbone", "name": "vit_small_patch16_224", "weights": "/home/x/w.pth"},
    "parts": [2, 3],
    "assigner": {"_target_": "aaformer_lit.assign.Sinkhorn", "epsilon": 0.05},
}  # fmt: skip
ABOUT = describe(MODEL, 751, {"image_size": [256, 128], "mean": [0.5] * 3, "std": [0.5] * 3})


@pytest.fixture
def ckpt(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "last.ckpt").touch()
    metrics = {"test/mAP": 0.8768, "test/rank1": 0.95, "test/mAP_global": 0.8, "test/mINP": 0.5}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    metadata = {
        "data": {"name": "market1501", "counts": {"train": {"images": 12936}}},
        "config": {"paths": {"data": "/home/x/data"}},
        "choices": {"data": "market1501", "paths": "default", "experiment": None},
        "git_commit": "abc123",
    }
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    return folder / "last.ckpt"


def test_filled_from_the_run(ckpt):
    card = model_card(portable(ABOUT), ckpt)
    assert card.startswith("---\nlibrary_name: aaformer_lit\n")
    assert "# AAformer [2, 3] on vit_small_patch16_224" in card
    assert "| CLS and parts | 87.7 | 95.0 | - | - | 50.0 |" in card
    assert "| CLS alone | 80.0 |" in card
    assert "| counts | train: images: 12936 |" in card
    assert "data=market1501" in card
    assert "Sinkhorn, epsilon=0.05" in card
    assert "256x128 (height x width)" in card
    assert "/home/x" not in card
    assert "None" not in card


def test_results_belong_to_the_checkpoint_that_was_tested(ckpt):
    (ckpt.parent / "best.ckpt").touch()
    assert "the run tested its best.ckpt" in model_card(ABOUT, ckpt)
    assert "87.7" not in model_card(ABOUT, ckpt)
    assert "87.7" in model_card(ABOUT, ckpt.with_name("best.ckpt"))


def test_unknown_is_said_to_be_unknown(ckpt, tmp_path):
    (tmp_path / "metrics.json").unlink()
    assert "Unknown: no metrics.json" in model_card(ABOUT, ckpt)
    assert model_card(ABOUT, None).count("Unknown") == 3
    (tmp_path / "metadata.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"metadata\.json is no JSON"):
        model_card(ABOUT, ckpt)
