"""No secret in what a run writes, Ctrl-C, and weights without a network: what a user must be able to rely on."""

from __future__ import annotations

import logging
import signal
import time

import pytest

from aaformer_lit.engine.module import ReIDModule
from cli_tools import TINY, run_cli

SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def same_handlers():
    """Hydra's handlers write to the stdout of the test that made them."""
    handlers = list(logging.root.handlers)
    yield
    for handler in set(logging.root.handlers) - set(handlers):
        handler.close()
    logging.root.handlers[:] = handlers


def test_a_wandb_key_is_in_nothing_that_a_run_writes(tmp_path, data_dir, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    options = (*TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "trainer.limit_train_batches=1")
    assert run_cli("train", *options, "logger=[csv,wandb]", "logger.wandb.offline=true") == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files), "a test of nothing"
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in "".join(capsys.readouterr())


def test_ctrl_c_during_the_fit_is_one_line_and_130(tmp_path, data_dir, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ReIDModule, "training_step", interrupt)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert run_cli("train", *TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}") == 130
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning ignores further ones while it tidies up
    error = capsys.readouterr().err
    assert error.count("interrupted") == 1
    assert "resume=auto" in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("metrics.json"))


def test_weights_of_an_unreachable_hub_are_refused_at_once(tmp_path, data_dir, monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    started = time.process_time(), time.monotonic()
    options = (*TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "model.backbone.weights=timm")
    assert run_cli("train", *options) == 2
    assert time.monotonic() - started[1] < 20 + 10 * (time.process_time() - started[0]), "no retries"
    error = " ".join(capsys.readouterr().err.split())
    assert "cannot fetch timm's pre-trained weights" in error
    assert "model.backbone.weights=null" in error
    assert constants.HF_HUB_OFFLINE is False
