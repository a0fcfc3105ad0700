"""The page about a machine: every step on it, whatever becomes of the others; on a CPU it says what needs a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aaformer_lit.benchmarks import report as module
from aaformer_lit.benchmarks.report import Step, report


def test_a_step_that_fails_takes_no_other_with_it_and_the_page_opens_with_what_held(tmp_path, monkeypatch):
    def breaks(device, size):
        raise subprocess.TimeoutExpired("python", 600)

    def dies(device, size):
        """Something that dies."""
        raise RuntimeError("Traceback\n  File x\nValueError: no such thing")

    steps = {
        "first": breaks,
        "second": lambda device, size: Step(
            True, "2 of 2", [{"ratio": 1.0625, "what": "forward", "memory_bytes": None}]
        ),
        "third": lambda device, size: Step(None, "needs two GPUs"),
        "fourth": dies,
    }
    monkeypatch.setattr(module, "STEPS", steps)
    found = report("cpu", "small", tmp_path)
    assert {name: step.held for name, step in found.items()} == {
        "first": False,
        "second": True,
        "third": None,
        "fourth": False,
    }
    page = (tmp_path / "report.md").read_text()
    assert page.splitlines()[2] == "**FAILED**: first, fourth. **held**: second. **not run**: third."
    assert "| first | FAILED | did not end within 600 s |" in page
    assert "| second | held | 2 of 2 |" in page
    assert "| ratio | what | memory, MiB |" in page
    assert "| 1.06 | forward |  |" in page
    assert "| fourth | FAILED | ValueError: no such thing |" in page
    assert (
        "## fourth: FAILED\n\nSomething that dies.\n\n```text\nTraceback\n  File x\nValueError: no such thing\n```"
        in page
    )
    assert json.loads((tmp_path / "report.json").read_text())["steps"]["third"]["held"] is None


def test_a_machine_that_stops_leaves_what_was_found(tmp_path, monkeypatch):
    def stops(device, size):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "STEPS", {"one": lambda device, size: Step(True, "fine"), "two": stops, "three": stops})
    with pytest.raises(KeyboardInterrupt):
        report("cpu", "small", tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert page.splitlines()[2] == "**held**: one. **not run**: two, three."
    assert "| three | not run | not reached | 0 |" in page


def test_of_the_kernel_it_says_what_is_wrong_and_what_is_slow(monkeypatch):
    rows = [
        {"shape": "a", "kernel": "triton", "reason": "equal and not slower", "triton_ms": 1.0, "torch_ms": 2.0},
        {"shape": "b", "kernel": "torch", "reason": "it takes 2.00 ms", "triton_ms": 2.0, "torch_ms": 1.0},
        {"shape": "c", "kernel": "torch", "reason": "its output differs by 1", "triton_ms": None, "torch_ms": None},
    ]
    monkeypatch.setattr(module, "_rows", lambda *call: rows)
    step = module.parity("cuda", "full")
    assert step.held is False
    assert step.says == "1 of 3 shapes equal and not slower; 1 wrong or failing, 1 slower: plain torch computes these"
    assert [row["shape"] for row in step.rows] == ["c", "b", "a"]  # what needs a look stands first
    del rows[2]
    assert module.parity("cuda", "full").held is True  # slower is not wrong


def test_of_a_suite_that_does_not_end_it_has_the_rows_before(monkeypatch):
    def benchmark(*command):
        options = dict(option.split("=") for option in command[2:])
        row = dict.fromkeys(("what", "against", "ratio", "floor_is", "floor_ratio", "memory_bytes", "ours_seconds"), 1)
        folder = Path(options["paths.runs"])
        folder.mkdir()
        (folder / "benchmark.json").write_text(json.dumps({"rows": [{"suite": options["suite"], **row}]}))
        if options["suite"] == "data":
            raise subprocess.TimeoutExpired("python", 600)

    monkeypatch.setattr(module, "_python", benchmark)
    step = module.speed("cpu", "small")
    assert step.held is False
    assert step.says == "5 of 6 suites ran and were right; data: did not end within 600 s"
    assert [row["suite"] for row in step.rows] == list(module.SUITES)


@pytest.mark.parametrize(
    ("gpu", "held"), [([1.0, 2.1], True), ([1.0, 3.0], False), ([1.0, float("nan")], False), ([], False)]
)
def test_losses_that_go_apart_do_not_hold_and_neither_do_those_that_are_no_number(monkeypatch, gpu, held):
    cpu = [1.0, 2.0][: len(gpu)]
    monkeypatch.setattr(module, "_losses", lambda accelerator, _: gpu if accelerator.endswith("gpu") else cpu)
    assert module.curve("cuda", "small").held is held


def test_what_needs_a_gpu_says_so_and_wrong_options_are_one_message(tmp_path):
    command = [sys.executable, "-m", "aaformer_lit.benchmarks.report", "size=small"]
    done = subprocess.run(
        [*command, "device=cpu", f"out={tmp_path}", "only=tests,parity,curve"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "**not run**: tests, parity, curve." in (tmp_path / "report.md").read_text()
    wrong = subprocess.run([*command, "only=everything"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "Steps: tests, parity" in wrong.stderr


def test_without_a_gpu_its_report_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["report", f"out={tmp_path}/page"])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    assert "finds no CUDA device. With device=cpu" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_on_a_cpu(tmp_path):
    steps = report("cpu", "small", tmp_path)
    assert {name for name, step in steps.items() if step.held} == {"speed", "memory", "processes"}
    assert not any(step.held is False for step in steps.values())
