"""Stability against the changes made by hand, networks whose movement is known, and what runs write of it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import OmegaConf
from torch import nn

from aaformer_lit import load_model
from aaformer_lit.data.images import read_image
from aaformer_lit.data.person_images import PersonImages
from aaformer_lit.engine.callbacks.stability import CHANGES, StabilityTest, grey1, jpeg95, shift1
from aaformer_lit.engine.module import ReIDModule
from aaformer_lit.metrics import between_people, movement
from cli_tools import TINY_DATA, only, read_json, run_cli


@pytest.fixture(scope="module")
def data(trained):
    module = instantiate(OmegaConf.load(trained / "config.yaml").data)
    module.setup("test")
    return module


@pytest.fixture
def network(trained):
    return load_model(trained / "checkpoints" / "last.ckpt")


def measured(network, data, folder: Path, precision: str = "32-true", **options) -> dict[str, float]:
    callback = StabilityTest(**options)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    trainer = Trainer(callbacks=[callback], default_root_dir=folder, precision=precision, **quiet)
    trainer.test(ReIDModule(network), datamodule=data, verbose=False)
    logged = {
        key.removeprefix("test/stability/"): v.item() for key, v in trainer.callback_metrics.items() if "stab" in key
    }
    assert logged == pytest.approx(callback.results)
    return callback.results


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (20, 10, 3), np.uint8)


def test_movement_and_distance_by_hand():
    before = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    after = torch.tensor([[0.0, 5.0], [0.0, 7.0], [-1.0, 0.0]])
    assert movement(before, after) == pytest.approx(2**0.5)  # 90 degrees, none, 90 degrees, whatever the lengths
    assert movement(before, -before) == pytest.approx(2.0)
    turned = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    assert between_people(turned, torch.tensor([1, 2, 1])) == pytest.approx(2**0.5)  # both pairs are at 90 degrees
    assert between_people(before, torch.tensor([4, 4, 4])) is None


def test_the_changes_are_what_they_say():
    original = image()
    kept = original.copy()
    difference = grey1(original).astype(int) - original
    inner = (original > 0) & (original < 255)
    assert set(np.unique(difference[inner])) == {-1, 1}
    assert np.abs(difference).max() == 1
    assert np.array_equal(shift1(original)[:, 1:], original[:, :-1])
    assert np.array_equal(shift1(original)[:, 0], original[:, 0])
    smooth = cv2.GaussianBlur(original, (0, 0), 3)
    assert 0 < np.abs(jpeg95(smooth).astype(int) - smooth).mean() < 3
    for change in CHANGES.values():
        changed = change(original)
        assert changed.shape == original.shape
        assert changed.dtype == np.uint8
        assert np.array_equal(changed, change(original)), "the same each time"
    assert np.array_equal(original, kept), "not in place"


def test_the_callback_is_a_loop_over_images(network, data, tmp_path):
    (test_set,) = data.test_sets.values()
    records = [*test_set.query, *test_set.gallery]
    results = measured(network, data, tmp_path, images=1000)
    pipeline = data.transforms.test()

    def descriptor(record, change=None):
        one = PersonImages([record], data.image_size, pipeline, change=change)[0]["image"]
        with torch.no_grad():
            return nn.functional.normalize(network.embed(one[None])[0], dim=0)

    assert read_image(records[0].path).shape[:2] != data.image_size, "else the order of change and resize is not tested"
    plain = [descriptor(record) for record in records]
    for name, change in CHANGES.items():
        moves = [(descriptor(r, change) - d).norm().item() for r, d in zip(records, plain, strict=True)]
        assert results[name] == pytest.approx(sorted(moves)[(len(moves) - 1) // 2], rel=1e-3, abs=1e-5)
        assert results[name] > 0
    apart = [
        (a - b).norm().item()
        for a, r in zip(plain, records, strict=True)
        for b, s in zip(plain, records, strict=True)
        if r.pid != s.pid
    ]
    assert results["people"] == pytest.approx(sorted(apart)[(len(apart) - 1) // 2], rel=1e-3)


def test_the_sample_is_drawn_by_the_seed(network, data, tmp_path):
    one, same, other = (measured(network, data, tmp_path, images=5, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_half_precision_does_not_add_its_rounding(network, data, tmp_path):
    full, mixed = (measured(network, data, tmp_path, precision, images=5) for precision in ("32-true", "bf16-mixed"))
    assert mixed == pytest.approx(full, rel=1e-4)
    assert set(measured(network, data, tmp_path, "bf16-true", images=5)) == set(full)


def test_runs_write_it_and_it_can_be_switched_off(trained, data_dir, tmp_path):
    """That `evaluate` writes the same numbers is seen in test_train.py, in which all are compared."""
    names = {f"test/stability/{name}" for name in (*CHANGES, "people")}
    assert names <= set(read_json(trained / "metrics.json"))
    code = run_cli(
        "evaluate", f"ckpt={trained}/checkpoints/last.ckpt", *TINY_DATA, f"paths.data={data_dir}", "trainer=cpu",
        f"paths.runs={tmp_path}", "trainer.enable_progress_bar=false", "stability=0",
    )  # fmt: skip
    assert code == 0
    assert not names & set(read_json(only(tmp_path.rglob("metrics.json"))))
