"""What an offline W&B run and the CSV log recorded, read back."""

import struct

from wandb.proto import wandb_internal_pb2

from aaformer_lit.history import MetricsCSV
from cli_tools import TINY, only, run_cli


def records(path):
    """Read a .wandb file: blocks of 32 KiB with chunks of a record, each behind checksum (4), length (2) and type (1)."""
    content, position, chunks = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        chunks += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last chunk
            yield wandb_internal_pb2.Record.FromString(chunks)
            chunks = b""


def test_an_offline_wandb_run_groups_its_metrics(tmp_path, data_dir):
    options = (*TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "logger=[wandb]", "logger.wandb.offline=true")
    assert run_cli("train", *options) == 0
    found = list(records(only(tmp_path.rglob("*.wandb"))))
    keys = {item.key or "/".join(item.nested_key) for r in found for item in r.history.item}
    groups = {key.split("/")[0] for key in keys if "/" in key}
    assert {"train", "test", "assign"} <= groups
    best = {r.metric.name: r.metric.summary.max for r in found if r.HasField("metric")}
    assert best["test/mAP"]


def test_the_log_is_whole_with_each_row(tmp_path):
    log = MetricsCSV(tmp_path)
    log.log_metrics({"train/loss": 1.0}, step=3)
    assert (tmp_path / "metrics.csv").read_text().split() == ["step,train/loss", "3,1.0"]
    log.log_metrics({"val/mAP": 0.5, "epoch": 0}, step=3)
    assert (tmp_path / "metrics.csv").read_text().split() == ["epoch,step,train/loss,val/mAP", ",3,1.0,", "0,3,,0.5"]
