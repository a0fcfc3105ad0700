"""Two processes never train in one directory."""

import os
import subprocess
import sys

import pytest

from aaformer_lit.cli.run_lock import LOCK, StillTrainingError, locked
from cli_tools import TINY, only, run_cli

HOLD = """
import os, sys, time
from pathlib import Path
from aaformer_lit.cli.run_lock import locked
with locked(Path(sys.argv[1])):
    if os.fork() == 0:  # as the loader's workers are
        os.setsid()
        print("held", flush=True)  # the worker says so: on a busy machine its parent would be killed before it has begun
        os.close(1)
        time.sleep(10)
        os._exit(0)
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
