"""`evaluate` without `data=` tests on the data of the checkpoint's training, says so, and asks where it cannot know."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from aaformer_lit.checkpoints.load import description
from aaformer_lit.data.synthetic import SyntheticSpec, generate
from aaformer_lit.engine.training_data import _find
from aaformer_lit.errors import ConfigError
from cli_tools import only, read_json, run_cli

QUIET = ("trainer=cpu", "trainer.enable_progress_bar=false", "alignment=false", "data.num_workers=0")
Evaluate = Callable[..., tuple[int, str]]


@pytest.fixture
def evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """The exit code, and all that is said."""
    root = logging.getLogger()

    def call(ckpt: Path, *overrides: str) -> tuple[int, str]:
        handlers = list(root.handlers)
        code = run_cli("evaluate", f"ckpt={ckpt}", f"paths.runs={tmp_path}/runs", *QUIET, *overrides)
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers  # Hydra's write to the stdout of this test, which later ones do not have
        out, err = capsys.readouterr()
        return code, " ".join(f"{out} {err}".split())

    return call


def written_by(tmp_path: Path, name: str) -> dict[str, Any]:
    return read_json(only((tmp_path / "runs").rglob(name)))


@pytest.fixture
def run_without(trained: Path, tmp_path: Path) -> Callable[[dict[str, Any] | None], Path]:
    """A checkpoint that says nothing of its data, as older ones; with `config.yaml` of its run where a config is given."""

    def make(data: dict[str, Any] | None) -> Path:
        content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
        del content["aaformer_lit"]["data"]["config"]
        ckpt = tmp_path / "old" / "checkpoints" / "last.ckpt"
        ckpt.parent.mkdir(parents=True)
        torch.save(content, ckpt)
        if data is not None:
            (tmp_path / "old" / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "data": data}))
        return ckpt

    return make


@pytest.mark.parametrize("what", ["checkpoints/last.ckpt", ""])
def test_a_checkpoint_or_run_is_tested_on_the_data_of_its_training(
    trained: Path, tmp_path: Path, evaluate: Evaluate, what: str
) -> None:
    code, says = evaluate(trained / what, "seed=5")
    assert code == 0, says
    assert "tested on the data of its training: Synthetic in" in says
    assert written_by(tmp_path, "metadata.json")["data"] == read_json(trained / "metadata.json")["data"]
    metrics, trained_metrics = written_by(tmp_path, "metrics.json"), read_json(trained / "metrics.json")
    assert metrics["test/mAP"] == pytest.approx(trained_metrics["test/mAP"], abs=1e-6)
    written = yaml.safe_load(only((tmp_path / "runs").glob("*/*/config.yaml")).read_text())
    assert written["data"]["spec"]["num_train_ids"] == 8  # what further processes of a test read
    assert written["data"]["num_workers"] == 0


def test_the_config_of_an_older_run_is_read_beside_the_checkpoint(
    tmp_path: Path, evaluate: Evaluate, run_without: Callable[..., Path]
) -> None:
    spec = SyntheticSpec(num_train_ids=3, num_test_ids=2, num_cameras=2, images_per_camera=2)
    generate(tmp_path / "data", spec, "market1501", progress=False)
    old = "aaformer_lit.data.market1501.Market1501DataModule"
    transforms = {"_target_": "aaformer_lit.data.transforms.Transforms"}
    data = {"_target_": old, "root": "/moved/away", "image_size": [64, 32], "num_workers": 2, "transforms": transforms}
    code, says = evaluate(run_without(data), f"paths.data={tmp_path}/data")
    assert code == 0, says
    assert written_by(tmp_path, "metadata.json")["data"]["name"] == "market1501"
    code, says = evaluate(tmp_path / "old", f"paths.data={tmp_path}/data", "data.spec.seed=3")
    assert code == 2
    assert "data.spec.seed is no option of the data that the checkpoint was trained on" in says


def test_without_any_word_on_the_data_they_are_asked_for(evaluate: Evaluate, run_without: Callable[..., Path]) -> None:
    code, says = evaluate(run_without(None))
    assert code == 2
    assert "does not say which data it was trained on" in says
    assert "data=NAME" in says


def test_a_packaged_model_is_tried_on_drawn_people() -> None:
    with pytest.raises(ConfigError, match=r"Say on which to test: data=synthetic, drawn people .*num_test_ids=12"):
        _find("synthetic-small", description("synthetic-small"))


@pytest.mark.parametrize(
    "target", ["os.system", "aaformer_lit.data.datamodule.os.system", "aaformer_lit.data.nothing.X"]
)
def test_a_config_runs_no_code_of_others(evaluate: Evaluate, run_without: Callable[..., Path], target: str) -> None:
    code, says = evaluate(run_without({"_target_": target, "root": "echo", "command": "false"}))
    assert code == 2
    assert "no data module of aaformer_lit" in says


def test_a_sampler_of_ones_own_is_not_needed_for_a_test(run_without: Callable[..., Path]) -> None:
    market = "aaformer_lit.data.datasets.market1501.Market1501DataModule"
    run = run_without(
        {"_target_": market, "root": "data", "sampler": {"_target_": "mine.CameraSampler", "_partial_": True}}
    )
    found, _ = _find(str(run), {"data": {}})
    assert found == {"_target_": market, "root": "data"}


def test_an_export_does_not_tell_where_the_data_lay(trained: Path, tmp_path: Path) -> None:
    from aaformer_lit.checkpoints.load import description
    from aaformer_lit.deploy.formats import portable

    about = description(trained)
    assert about["data"]["config"]["root"]
    assert about["data"]["config"]["root"] not in json.dumps(portable(about))
