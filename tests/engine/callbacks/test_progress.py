"""A training without a terminal says how it gets on; on one, the bar says its stage, its pace and the best result."""

import re

import pandas as pd
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from aaformer_lit.engine.callbacks import progress
from cli_tools import TINY, only, run_cli

LINE = re.compile(
    r"epoch (\d) of 3: loss (\d+\.\d+)(?:, validation mAP (\d+\.\d) \(best (\d+\.\d)\))?, (\d+) images/s"
    r"(?:, about \d+ minutes? left)?$",
    re.MULTILINE,
)
TRAINING = [option for option in TINY if "progress" not in option and "max_epochs" not in option]
VALIDATED = ("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", "data.val_ids=0.4", "data.ids_per_batch=2")


def train(tmp_path, *options: str) -> None:
    overrides = [*TRAINING, *VALIDATED, *options, f"paths.runs={tmp_path}/runs", f"paths.data={tmp_path}/data"]
    assert run_cli("train", *overrides) == 0


def test_without_a_terminal_each_epoch_is_one_line(tmp_path, capsys):
    train(tmp_path)
    out = capsys.readouterr().out
    lines = list(LINE.finditer(out))
    assert [line[1] for line in lines] == ["1", "2", "3"], out
    assert [line[3] is not None for line in lines] == [False, True, False]
    assert lines[1][3] == lines[1][4]
    assert all(int(line[5]) > 0 for line in lines)
    assert [" left" in line[0] for line in lines] == [True, True, False]
    assert "it/s" not in out
    run = only((tmp_path / "runs").rglob("metrics.csv"))
    logged = pd.read_csv(run)["train/loss"].dropna()
    assert [line[2] for line in lines] == [f"{loss:.3f}" for loss in logged]


def test_the_line_tells_the_best_validation_from_the_last():
    bar = progress.EpochLines()
    for value, best in ((0.5, 0.5), (0.25, 0.5), (0.75, 0.75)):
        bar.on_validation_end(_Validated(value), None)
        assert bar.best == best


def test_a_training_that_goes_on_knows_its_best_validation():
    best = ModelCheckpoint(monitor="val/mAP", mode="max")
    best.best_model_score = torch.tensor(0.75)  # as its state in the checkpoint says
    bar = progress.EpochLines()
    bar.on_train_start(_Validated(0.0, best), None)
    bar.on_validation_end(_Validated(0.5), None)
    assert bar.best == 0.75
    bar.on_train_start(_Validated(0.0), None)
    assert bar.best is None, "a training of its own"


class _Validated:
    sanity_checking, current_epoch = False, 0

    def __init__(self, value: float, *checkpoint_callbacks: ModelCheckpoint) -> None:
        self.callback_metrics = {"val/mAP": value}
        self.checkpoint_callbacks = [ModelCheckpoint(), *checkpoint_callbacks]


def test_a_terminal_has_a_bar_with_stage_pace_and_best(tmp_path, capsys, monkeypatch):
    shown: list[dict] = []
    stages: set[str] = set()

    class Watched(progress.StageBar):
        def get_metrics(self, trainer, pl_module):
            shown.append(super().get_metrics(trainer, pl_module))
            return shown[-1]

        def _add_task(self, total_batches, description, visible=True):
            stages.add(description.strip())
            return super()._add_task(total_batches, description, visible)

    monkeypatch.setattr(progress, "StageBar", Watched)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    train(tmp_path)
    assert {"Training, epoch 1 of 3", "Validation", "Testing"} <= stages
    assert all(int(one["images/s"]) > 0 and "loss" in one for one in shown)
    assert "best mAP" not in shown[0]
    assert re.fullmatch(r"\d+\.\d", shown[-1]["best mAP"])
    assert not LINE.search(capsys.readouterr().out)
