"""Signals and losses that are not finite: what a training leaves when it is stopped, and that it goes on from there."""

import os
import signal

import pytest
import torch

from aaformer_lit import load_model
from aaformer_lit.checkpoints.load import read_checkpoint
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.engine.module import ReIDModule
from cli_tools import TINY, only, run_cli


def signalled(number, epoch, batch):
    """A training step in which the process gets a signal."""
    step = ReIDModule.training_step

    def training_step(self, one, batch_idx):
        if (self.current_epoch, batch_idx) == (epoch, batch):
            os.kill(os.getpid(), number)
        return step(self, one, batch_idx)

    return training_step


def test_a_signal_after_the_last_image_of_the_test_leaves_a_finished_run(tmp_path, data_dir, monkeypatch, capsys):
    end = ReIDModule.on_test_epoch_end

    def on_test_epoch_end(self):
        os.kill(os.getpid(), signal.SIGTERM)
        end(self)

    monkeypatch.setattr(ReIDModule, "on_test_epoch_end", on_test_epoch_end)
    assert run_cli("train", *TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}") == 0
    assert "SIGTERM came when all images were tested" in " ".join(capsys.readouterr().out.split())
    assert only(tmp_path.rglob("metrics.json"))


@pytest.mark.parametrize(("name", "slurm", "code"), [("SIGTERM", False, 143), ("SIGUSR1", True, 138)])
def test_a_signal_stops_after_the_batch_and_the_run_goes_on(
    name, slurm, code, tmp_path, data_dir, trained, monkeypatch, capsys
):
    options = (*TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "trainer.max_epochs=3", "resume=auto")
    asked = tmp_path / "scontrol.txt"
    if slurm:  # as srun starts a job's only task
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho $* > {asked}\n")
        (tmp_path / "scontrol").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        for key, value in {
            "NTASKS": 1,
            "JOB_ID": 4711,
            "JOB_NAME": "train",
            "PROCID": 0,
            "LOCALID": 0,
            "NODEID": 0,
        }.items():
            monkeypatch.setenv(f"SLURM_{key}", str(value))
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    with monkeypatch.context() as patch:
        patch.setattr(ReIDModule, "training_step", signalled(getattr(signal, name), epoch=1, batch=1))
        assert run_cli("train", *options) == code
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == handlers
    assert f"stopped by {name} in epoch 2. The same command with resume=auto continues" in " ".join(
        capsys.readouterr().out.split()
    )
    assert asked.exists() is slurm
    if slurm:
        assert asked.read_text() == "requeue 4711\n"
    run = only(tmp_path.rglob("last.ckpt")).parents[1]
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["epoch"] == 0
    assert not list(run.glob("hpc_ckpt*"))  # Lightning's, of the middle of a batch
    assert not (run / "failure.txt").exists()
    assert run_cli("train", *options) == 0
    assert only(tmp_path.rglob("metrics.json")).parent == run
    assert run_cli("train", *options, f"paths.runs={tmp_path / 'whole'}") == 0
    whole = only((tmp_path / "whole").rglob("last.ckpt"))
    states = [torch.load(path, weights_only=True)["state_dict"] for path in (run / "checkpoints" / "last.ckpt", whole)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert (run / "metrics.csv").read_bytes() == (whole.parents[1] / "metrics.csv").read_bytes()


def test_a_signal_in_the_test_is_no_success(tmp_path, data_dir, trained, monkeypatch):
    def test_start(self):
        begin(self)
        os.kill(os.getpid(), signal.SIGTERM)

    begin = ReIDModule.on_test_epoch_start
    monkeypatch.setattr(ReIDModule, "on_test_epoch_start", test_start)
    assert run_cli("train", *TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}") == 143
    assert not list(tmp_path.rglob("metrics.json"))


@pytest.mark.parametrize("worker", ["lives", "was ended too"])
def test_a_signal_before_the_test_has_begun_is_not_missed(tmp_path, data_dir, trained, monkeypatch, worker):
    """Not while a stage makes its loaders, when Lightning's own handlers would be in place."""

    def test_dataloader(self):
        os.kill(os.getpid(), signal.SIGTERM)
        if worker != "lives":
            raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")
        return loaders(self)

    loaders = ReIDDataModule.test_dataloader
    monkeypatch.setattr(ReIDDataModule, "test_dataloader", test_dataloader)
    assert run_cli("train", *TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}") == 143
    assert not list(tmp_path.rglob("metrics.json"))


def test_a_loss_that_is_not_finite_leaves_its_weights_and_batch(tmp_path, data_dir, trained, monkeypatch, capsys):
    before = {}
    step = ReIDModule.training_step

    def training_step(self, batch, batch_idx):
        if (self.current_epoch, batch_idx) == (1, 1):
            batch["image"][2] = torch.inf
            before.update({key: value.clone() for key, value in self.state_dict().items()})
            before["index"] = batch["index"].clone()
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ReIDModule, "training_step", training_step)
    options = (*TINY, "trainer.max_epochs=3", f"paths.data={data_dir}", f"paths.runs={tmp_path}")
    assert run_cli("train", *options) == 2
    error = capsys.readouterr().err
    saved = only(tmp_path.rglob("debug/*.ckpt"))
    content = read_checkpoint(saved)
    assert f"The weights and the batch are in {saved}." in error
    assert all(name in error for name in content["files"][:8])
    assert f"at step {content['global_step']} (epoch 2): " in error  # counted from 1, as in the log
    assert content["batch"]["image"][2].isinf().all()
    assert torch.equal(content["batch"]["index"], before.pop("index"))
    assert not torch.isfinite(torch.tensor(content["terms"]["loss"]))
    weights = [key for key in before if "running" not in key and "num_batches" not in key]
    assert all(torch.equal(content["state_dict"][key], before[key]) for key in weights)
    assert load_model(saved).image_size == (64, 32)


def test_the_best_checkpoint_is_the_one_tested(tmp_path, data_dir, trained, monkeypatch):
    tested = []
    start = ReIDModule.on_test_epoch_start

    def on_test_epoch_start(self):
        tested.append({key: value.clone() for key, value in self.network.state_dict().items()})
        start(self)

    def falling(self):  # the first epoch is the best by far
        self.log("val/mAP", 1.0 / (1 + self.current_epoch))

    monkeypatch.setattr(ReIDModule, "on_test_epoch_start", on_test_epoch_start)
    monkeypatch.setattr(ReIDModule, "on_validation_epoch_end", falling)
    options = (
        *TINY,
        "data.val_ids=0.25",
        "data.ids_per_batch=2",
        "trainer.max_epochs=3",
        "trainer.check_val_every_n_epoch=1",
    )
    assert run_cli("train", *options, f"paths.data={data_dir}", f"paths.runs={tmp_path}") == 0
    best = read_checkpoint(only(tmp_path.rglob("best.ckpt")))
    last = read_checkpoint(only(tmp_path.rglob("last.ckpt")))
    assert (best["epoch"], last["epoch"]) == (0, 2)
    assert all(torch.equal(best["state_dict"][f"network.{key}"], value) for key, value in tested[0].items())
    (known,) = [state for key, state in last["callbacks"].items() if "val/mAP" in key]
    assert known["best_model_score"] == 1.0


def test_the_curve_is_the_same_with_any_number_of_workers(tmp_path, data_dir, trained):
    """Loss curve, metrics and weights to the bit: the draw of an image depends on seed, epoch and image alone."""
    runs = []
    for workers in (0, 1, 2):
        options = (*TINY, "trainer.max_epochs=2", f"paths.data={data_dir}", f"paths.runs={tmp_path / str(workers)}")
        assert run_cli("train", *options, f"data.num_workers={workers}") == 0
        runs.append(only((tmp_path / str(workers)).rglob("metrics.json")).parent)
    for name in ("metrics.csv", "metrics.json"):
        assert len({(run / name).read_bytes() for run in runs}) == 1
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in runs]
    for state in states[1:]:
        assert all(torch.equal(states[0][key], state[key]) for key in state)
