"""Which unfinished run `resume=auto` continues, and that two processes never train in one directory."""

import os
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from aaformer_lit.cli.unfinished import LOCK, StillTrainingError, locked, same_run
from cli_tools import TINY, only, run_cli

HOLD = """
import os, sys, time
from pathlib import Path
from aaformer_lit.cli.unfinished import locked
with locked(Path(sys.argv[1])):
    if os.fork() == 0:  # as the loader's workers are
        os.setsid()
        os.close(1)
        time.sleep(10)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def elsewhere(tmp_path):
    """Another process that trains in a directory, with a worker; both are ended."""
    holders = []

    def hold(run_dir):
        holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run_dir)], stdout=subprocess.PIPE, text=True)
        holders.append(holder)
        assert holder.stdout.readline() == "held\n"
        return holder

    yield hold
    for holder in holders:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_the_newest_run_is_the_one_started_last_whatever_it_is_called(tmp_path):
    names = ["99999", "2026-01-01_10-00-00", "100000"]  # of SLURM's jobs, and of a run outside them
    for seconds, name in enumerate(names):
        config = tmp_path / "hash" / name / "config.yaml"
        config.parent.mkdir(parents=True)
        OmegaConf.save({"seed": 0}, config)
        os.utime(config, (1_000 + seconds, 1_000 + seconds))
    assert same_run(tmp_path, {"seed": 0}).name == "100000"
    assert same_run(tmp_path, {"seed": 1}) is None


def test_a_directory_is_one_training_s_at_a_time(tmp_path, elsewhere):
    holder = elsewhere(tmp_path)
    with pytest.raises(StillTrainingError, match=f"still being trained, by process {holder.pid} on "), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("rank", ["RANK", "SLURM_PROCID", "NODE_RANK"])
def test_a_further_process_belongs_to_the_training(rank, tmp_path, elsewhere, monkeypatch):
    elsewhere(tmp_path)
    monkeypatch.setenv(rank, "1")
    with locked(tmp_path):
        pass


def test_a_second_start_with_resume_auto_leaves_a_training_alone(tmp_path, data_dir, elsewhere, capsys):
    options = (*TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "resume=auto")
    assert run_cli("train", *options) == 0
    metrics = only(tmp_path.rglob("metrics.json"))
    metrics.unlink()  # as if it still went on
    holder = elsewhere(metrics.parent)
    before = {path: path.stat().st_mtime_ns for path in metrics.parent.glob("*") if path.suffix != ".log"}
    assert run_cli("train", *options, "data.num_workers=-1") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{metrics.parent} is still being trained, by process {holder.pid} on " in said
    assert {path: path.stat().st_mtime_ns for path in metrics.parent.glob("*") if path.suffix != ".log"} == before
