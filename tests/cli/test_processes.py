"""A rank that dies ends the job within a minute of its death, and the job's error is that rank's."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aaformer_lit.cli import processes
from aaformer_lit.errors import RankError
from cli_tools import TINY, only
from faults.campaign import differences

TWO_RANKS = (*(option for option in TINY if option != "trainer=cpu"), "trainer=ddp", "trainer.accelerator=cpu")
TRAIN = ("-m", "aaformer_lit.train")
DYING = str(Path(__file__).with_name("dying_rank.py"))
LOST = RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:25799")


def start(*command: str, **variables: str) -> subprocess.Popen[str]:
    """Python as a user starts it; Lightning starts the second rank, which shares the output."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *command], env=environment, **streams)


def test_a_lost_partner_is_told_from_an_error_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_REPORT_TIMEOUT", 0.1)
    failure = tmp_path / "failure.txt"
    assert processes.root_cause(ValueError("Connection closed by peer"), failure) is None
    assert "without an error of its own" in str(processes.root_cause(LOST, failure))
    failure.write_text("rank 1: cannot decode x.jpg\n\nTraceback ...")
    error = processes.root_cause(LOST, failure)
    assert isinstance(error, RankError)
    assert str(error) == "rank 1: cannot decode x.jpg"


def test_a_further_rank_leaves_its_error_and_not_an_echo(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_end_with_parent", lambda: None)
    monkeypatch.setenv("LOCAL_RANK", "3")
    failure = tmp_path / "failure.txt"

    def fail(error):
        raise error

    with pytest.raises(SystemExit):
        processes.run_further_process(lambda: fail(LOST), failure)
    assert not failure.exists()
    with pytest.raises(ZeroDivisionError):
        processes.run_further_process(lambda: fail(ZeroDivisionError("by zero")), failure)
    assert failure.read_text().startswith("rank 3: ZeroDivisionError: by zero\n\n")


ORPHAN = """
import os, sys, time
from aaformer_lit.cli import processes
if os.fork():
    time.sleep(0.5)
    os._exit(0)
processes._end_with_parent()
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(60)
"""


def test_a_further_rank_ends_with_the_first(tmp_path):
    """Though its main thread waits, as in a collective."""
    subprocess.run([sys.executable, "-c", ORPHAN, str(tmp_path / "pid")], check=True, timeout=120)
    process = Path("/proc", (tmp_path / "pid").read_text())
    until = time.monotonic() + 20
    while process.exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not process.exists()


def test_a_sweep_of_several_processes_outlives_a_job_that_failed(tmp_path, data_dir):
    """The second job meets its own partner, though the first's are gone, and is not killed for their error."""
    sweep = ["-m", "optim.optimizer.lr=1e30,0.01", "optim.schedule.warmup_epochs=0", "trainer.max_epochs=2"]
    job = start(*TRAIN, *sweep, *TWO_RANKS, f"paths.data={data_dir}", f"paths.runs={tmp_path}")
    output, _ = job.communicate(timeout=300)
    assert job.returncode == 2, output
    assert "the loss is not finite" in output
    failed, finished = (only(tmp_path.rglob(name)).parent for name in ("failure.txt", "metrics.json"))
    assert failed.parent == finished.parent
    assert failed != finished


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "how", "says"),
    [
        (1, "kill", "ended without an error of its own|terminated with code -9"),
        (1, "raise", "rank 1: the image 0001_c1s1.jpg cannot be decoded"),
        (1, "defect", "rank 1: ZeroDivisionError: a defect of rank 1"),
        (0, "kill", ""),
        (0, "raise", "the image 0001_c1s1.jpg cannot be decoded"),
    ],
)
def test_a_rank_that_dies_ends_the_job(rank, how, says, tmp_path, data_dir):
    death = tmp_path / "death"
    options = (*TWO_RANKS, f"paths.data={data_dir}", f"paths.runs={tmp_path}")
    job = start(DYING, *options, DYING=f"{rank} 0 {how} {death}")
    output, _ = job.communicate(timeout=540)  # until the pipe is closed: that is, until the last rank has ended
    took = time.time() - float(death.read_text())
    assert job.returncode not in (0, None)
    assert took < 60, f"{took:.0f} s\n{output}"
    failures = [path.read_text() for path in tmp_path.rglob("failure.txt")]
    assert re.search(says, " ".join([output, *failures])), output
    if how != "kill":
        assert says in only(tmp_path.rglob("failure.txt")).read_text().splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_job_of_two_ranks_ends_as_an_unbroken_one(rank, tmp_path, data_dir):
    """To the bit, though each rank drops paths of its own."""
    options = (*TWO_RANKS, "trainer.max_epochs=3", "model.backbone.drop_path=0.5", "resume=auto")
    options += (f"paths.data={data_dir}",)
    for name, command, died in (("whole", TRAIN, False), ("broken", (DYING,), True), ("broken", TRAIN, False)):
        job = start(*command, *options, f"paths.runs={tmp_path / name}", DYING=f"{rank} 2 kill {tmp_path / 'death'}")
        output, _ = job.communicate(timeout=300)
        assert (job.returncode != 0) == died, output
    whole, broken = (only((tmp_path / name).rglob("metrics.json")).parent for name in ("whole", "broken"))
    assert differences(whole, broken) == []
