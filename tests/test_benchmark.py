"""The benchmark runs, and gives no time for a wrong result. Times themselves are not asserted."""

import sys
from pathlib import Path

import pytest
import torch

from aaformer_lit.benchmarks import SUITES
from aaformer_lit.benchmarks.measure import Measurement, WrongResult, check, peak_memory, product_rate
from aaformer_lit.benchmarks.peers import PEERS, peers
from cli_tools import only, read_json, run_cli


def test_every_suite_runs_and_writes_its_table(tmp_path, monkeypatch):
    module = sys.modules["aaformer_lit.benchmarks.train_step"]
    # a large product in bfloat16 takes a minute on a CPU that has no such arithmetic
    monkeypatch.setattr(module, "product_rate", lambda device, dtype: product_rate(device))
    code = run_cli(
        "benchmark",
        "repeats=1",
        "suite=[data,assignment,attention,train_step,extract,evaluate,rerank]",
        f"paths.runs={tmp_path}",
    )
    assert code == 0
    content = read_json(only(tmp_path.rglob("benchmark.json")))
    assert {row["suite"] for row in content["rows"]} == set(SUITES) - {"startup", "peers"}  # the first starts processes
    for row in content["rows"]:
        assert row["ratio"] == pytest.approx(min(row["ours_seconds"]) / min(row["baseline_seconds"]))
        assert row["floor_ratio"] == pytest.approx(min(row["ours_seconds"]) / row["floor_seconds"])
    boxes = [row["against"] for row in content["rows"] if " boxes of a " in row["what"]]
    assert boxes == ["a tracker's own loop", "the same ViT without parts"]
    steps = [row["what"] for row in content["rows"] if row["suite"] == "train_step"]
    assert len(set(steps)) == len(steps) == 5 * (1 if torch.cuda.is_available() else 3)  # forms and passes, cases
    assert {"device", "versions", "threads", "size"} <= content.keys()


def test_a_wrong_result_has_no_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("aaformer_lit.assign.sinkhorn", lambda scores, **_: torch.zeros_like(scores))
    assert run_cli("benchmark", "suite=assignment", f"paths.runs={tmp_path}") == 2
    assert "differs from its reference" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.rglob("benchmark.json"))


@pytest.mark.parametrize(
    ("stops_with", "code"), [(KeyboardInterrupt, 130), (WrongResult("suite data: not the same"), 2)]
)
def test_what_was_measured_before_the_end_is_kept(tmp_path, monkeypatch, capsys, stops_with, code):
    def broken_off(full, repeats):
        yield Measurement("data", "the first", "another", (1.0,), (2.0,), 0.5, "less")
        raise stops_with

    monkeypatch.setitem(SUITES, "data", broken_off)
    assert run_cli("benchmark", "suite=[data,assignment]", f"paths.runs={tmp_path}") == code
    rows = read_json(only(tmp_path.rglob("benchmark.json")))["rows"]
    assert [(row["what"], row["ratio"]) for row in rows] == [("the first", 0.5)]
    assert "the first" in capsys.readouterr().out


def test_peers_have_a_row_where_they_are_installed_and_agree(monkeypatch, caplog):
    def absent(full, repeats):
        raise ImportError("No module named 'absent'")

    def other(full, repeats):
        check("peers", torch.ones(1), torch.zeros(1), 1e-5)

    kept = ("scikit-learn", "FAISS")
    for name in PEERS.keys() - set(kept):
        monkeypatch.delitem(PEERS, name)
    monkeypatch.setitem(PEERS, "absent", absent)
    monkeypatch.setitem(PEERS, "other", other)
    with caplog.at_level("INFO"):
        rows = list(peers(full=False, repeats=1))
    assert [row.suite for row in rows] == [f"peers: {name}" for name in kept]
    assert all(row.ratio > 0 for row in rows)
    assert "absent is not compared with, as it cannot be imported" in caplog.text
    assert "other is not compared with, as it gives another result" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("suite=everything", "suite must be one of startup, data, assignment"),
        ("suite=3", "suite must be one of startup, data, assignment"),
        ("size=large", "size must be one of small, full; got 'large'"),
        ("repeats=0", "repeats=0 is too small. Use 1 or more"),
        ("repeats=null", "repeats=null leaves nothing to go by"),
    ],
)
def test_a_mistake_is_one_message(tmp_path, capsys, wrong, message):
    assert run_cli("benchmark", "suite=assignment", wrong, f"paths.runs={tmp_path}") == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not count peaks")
@pytest.mark.skipif(torch.cuda.is_available(), reason="of the GPU, where there is one")
def test_memory_is_what_a_call_holds_at_its_peak_and_no_earlier_one():
    torch.ones(2**27, dtype=torch.uint8)  # 128 MiB, given back before the start
    peak = peak_memory(lambda: torch.ones(2**26, dtype=torch.uint8))
    assert 0.9 * 2**26 < peak < 1.3 * 2**26
