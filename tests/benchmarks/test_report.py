"""The page about a machine: every step on it, whatever becomes of the others; on a CPU it says what needs a GPU."""

import json
import subprocess
import sys

import pytest

from aaformer_lit.benchmarks import report as module
from aaformer_lit.benchmarks.report import Step, report


def test_a_step_that_fails_takes_no_other_with_it(tmp_path, monkeypatch):
    def breaks(device, size):
        raise subprocess.TimeoutExpired("python", 1)

    steps = {
        "first": breaks,
        "second": lambda device, size: Step("", True, "2 of 2", rows=[{"ratio": 1.0625, "what": "forward"}]),
        "third": lambda device, size: Step("", None, "not run: needs two GPUs"),
    }
    monkeypatch.setattr(module, "STEPS", steps)
    found = report("cpu", "small", tmp_path)
    assert [(step.name, step.held) for step in found] == [("first", False), ("second", True), ("third", None)]
    page = (tmp_path / "report.md").read_text()
    assert "| first | FAILED | TimeoutExpired" in page
    assert "| second | held | 2 of 2 |" in page
    assert "| 1.06 | forward |" in page
    assert [step["held"] for step in json.loads((tmp_path / "report.json").read_text())["steps"]] == [False, True, None]


def test_what_needs_a_gpu_says_so_and_wrong_options_are_one_message(tmp_path):
    command = [sys.executable, "-m", "aaformer_lit.benchmarks.report", "device=cpu", "size=small"]
    done = subprocess.run([*command, f"out={tmp_path}", "only=tests,parity"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [step["held"] for step in json.loads((tmp_path / "report.json").read_text())["steps"]] == [None, None]
    wrong = subprocess.run([*command, "only=everything"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "Steps: tests, parity" in wrong.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_on_a_cpu(tmp_path):
    steps = report("cpu", "small", tmp_path)
    assert [step.name for step in steps if step.held is False] == []
    assert {step.name for step in steps if step.held} == {"speed", "memory", "processes", "curve"}
