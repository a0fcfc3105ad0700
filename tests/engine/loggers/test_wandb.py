"""What an offline W&B run and the CSV log recorded, read back."""

import io
import json
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from matplotlib.image import imread
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from timm.layers import Attention
from torch.nn.functional import normalize
from wandb.proto import wandb_internal_pb2

import aaformer_lit.cli.run  # noqa: F401  (the resolvers of the config)
from aaformer_lit.assign import Sinkhorn
from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.engine.callbacks.assignment import marginal_errors
from aaformer_lit.engine.loggers.csv import MetricsCSV
from aaformer_lit.engine.loggers.media import hardest, log_picture
from aaformer_lit.engine.loggers.wandb import flat
from aaformer_lit.models.attention import AutoAlignedAttention
from cli_tools import TINY, only, read_json


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


def name_of(item):
    return item.key or "/".join(item.nested_key)


@pytest.fixture(scope="module")
def logged(tmp_path_factory, data_dir):
    """The run directory of the session's tiny training again, logged to W&B (offline) and TensorBoard."""
    runs = tmp_path_factory.mktemp("logged")
    loggers = ("logger=[wandb,tensorboard]", "logger.wandb.offline=true", "logger.wandb.log_artifacts=true")
    # in a process of its own: W&B's service is one per process, and other tests end or interrupt theirs
    command = [
        sys.executable,
        "-m",
        "aaformer_lit.train",
        *TINY,
        f"paths.data={data_dir}",
        f"paths.runs={runs}",
        "trainer.log_every_n_steps=1",
        *loggers,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return only(runs.rglob("metrics.json")).parent


@pytest.fixture(scope="module")
def recorded(logged):
    return list(records(only(logged.rglob("*.wandb"))))


def test_wandb_metrics_are_grouped_over_epochs(logged, recorded):
    history = {name_of(item): item.value_json for r in recorded for item in r.history.item}
    groups = {key.split("/")[0] for key in history if "/" in key}
    assert {"train", "test", "assign", "pictures"} <= groups
    assert 0 <= float(history["assign/marginal_error"]) < 2
    assert 0 < float(history["assign/entropy"]) <= 1
    metrics = {r.metric.name or r.metric.glob_name: r.metric for r in recorded if r.HasField("metric")}
    assert metrics["val/mAP"].summary.max
    assert all(metrics[name].step_metric == "epoch" for name in ("train/*", "assign/*", "val/*", "val/mAP"))
    summary = {name_of(item): item.value_json for r in recorded for item in r.summary.update}
    written = read_json(logged / "metrics.json")
    assert float(summary["best_mAP"]) == written["test/mAP"]
    assert float(summary["test/alignment/nmi"]) == pytest.approx(written["test/alignment/nmi"], abs=1e-6)


def test_wandb_runs_say_what_ran(recorded):
    (run,) = (r.run for r in recorded if r.HasField("run"))
    assert run.display_name == "synthetic aaformer seed 0"
    assert run.run_group == "synthetic aaformer"
    assert list(run.tags) == ["synthetic", "aaformer"]


def test_losses_of_single_steps_are_on_the_dashboard(recorded):
    history = {name_of(item): item.value_json for r in recorded for item in r.history.item}
    assert float(history["step/loss"]) > 0
    assert {"step/id", "step/triplet"} <= {key for key in history if key.startswith("step/")}


def test_wandb_config_is_flat_as_on_the_command_line(recorded):
    (run,) = (r.run for r in recorded if r.HasField("run"))
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["model.backbone.embed_dim"] == 24
    assert config["model.parts"] == [2, 3]
    assert config["data.ids_per_batch"] == 4
    assert not any(isinstance(value, dict) and value for key, value in config.items() if key != "_wandb")
    assert flat({"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}}) == {"a.b": 1, "a.c.d": [1, {"e": 2}], "f": {}}


def test_pictures_are_in_wandb_and_tensorboard(logged, recorded):
    history = {name_of(item): item.value_json for r in recorded for item in r.history.item}
    events = EventAccumulator(str(logged / "tensorboard"))
    events.Reload()
    for name in ("pictures/assignment", "pictures/rankings"):
        (file,) = json.loads(history[f"{name}/filenames"])
        ours = imread(only(logged.glob(f"wandb/offline-run-*/files/{file}")))
        (image,) = events.Images(name)
        theirs = imread(io.BytesIO(image.encoded_image_string))
        np.testing.assert_array_equal(ours[..., :3], theirs[..., :3])
        assert ours[..., :3].std() > 0.05, f"{name} is blank"


def test_the_hardest_queries_are_a_table(logged, recorded):
    table = read_json(only(logged.glob("wandb/offline-run-*/files/media/table/test/hardest*.json")))
    rows = pd.DataFrame(table["data"], columns=table["columns"])
    queries = pd.read_parquet(logged / "per_query.parquet").query("subset == ''")
    expected = queries.sort_values("average_precision").average_precision.head(20)
    assert rows.average_precision.tolist() == pytest.approx(expected.tolist())
    of_query = queries.set_index("query").average_precision
    assert rows.average_precision.tolist() == pytest.approx(of_query[rows["query"]].tolist())
    images = {entry.path for r in recorded for entry in r.artifact.manifest.contents if entry.path.endswith(".jpg")}
    assert {path.rpartition("/")[2] for path in images} == set(rows["query"])
    events = EventAccumulator(str(logged / "tensorboard"))
    events.Reload()
    (text,) = events.Tensors("test/hardest/text_summary")
    assert rows["query"][0] in text.tensor_proto.string_val[0].decode()


def test_the_run_is_kept_as_an_artifact(recorded):
    (model,) = (r.artifact for r in recorded if r.artifact.type == "model")
    files = {entry.path for entry in model.manifest.contents}
    assert {"checkpoints/last.ckpt", "metadata.json", "metrics.json"} <= files


def test_pictures_leave_the_training_as_it_was(logged, trained):
    """To the bit the weights of the run that drew nothing."""
    ours, theirs = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (logged, trained))
    assert all(torch.equal(ours["state_dict"][key], theirs["state_dict"][key]) for key in theirs["state_dict"])
    assert torch.equal(ours["random_state"]["cpu"], theirs["random_state"]["cpu"])


def test_a_picture_that_cannot_be_written_costs_a_warning(tmp_path, caplog, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    logger, figure = TensorBoardLogger(tmp_path), Figure()
    monkeypatch.setattr(logger.experiment, "add_image", full)
    log_picture([logger], "pictures/assignment", figure, step=3)
    assert "pictures/assignment is missing on the dashboard: [Errno 28] No space left on device" in caplog.text


def test_ties_of_the_hardest_are_broken():
    table = pd.DataFrame(
        [("", "a", 0.5, 2), ("", "b", 0.1, 5), ("", "c", 0.1, 9), ("parts", "d", 0.0, 9), ("", "e", 0.2, 4)],
        columns=["subset", "query", "average_precision", "first_hit_rank"],
    ).assign(set="s", pid=0, camid=0)
    assert hardest(table, 3)["query"].tolist() == ["c", "b", "e"]


def test_jobs_of_a_sweep_share_a_group():
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        single = compose("train", ["logger=wandb", "run_dir=RUN"])
        sweep = compose("train", ["logger=wandb", "run_dir=RUN", "sweep=table5"])
    assert single.logger.wandb.group is None
    assert sweep.logger.wandb.group == "table5"


def test_the_sweep_file_names_keys_that_exist():
    sweep = OmegaConf.to_container(OmegaConf.load(CONF_DIR.parent / "docs" / "wandb_sweep.yaml"), resolve=False)
    fixed = [word for word in sweep["command"] if "=" in word]
    varied = [f"{key}={(how.get('values') or [how.get('min')])[-1]}" for key, how in sweep["parameters"].items()]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", [*fixed, *varied, "run_dir=RUN"])
    assert cfg.data.val_ids == 0.1
    assert cfg.model.parts == [2, 3, 4]


def test_marginal_errors_by_hand():
    """Enough steps give equal parts; the column step alone gives what it gives."""
    torch.manual_seed(0)
    for iterations, converged in ((0, False), (200, True)):
        attention = Attention(8, num_heads=2, qkv_bias=True)
        layer = AutoAlignedAttention(attention, [2, 3], Sinkhorn(epsilon=0.5, iterations=iterations))
        sequence = torch.randn(2, 1 + 5 + 12, 8)
        scores = layer(sequence, (3, 4), return_scores=True).scores
        errors = marginal_errors(layer.assigner, scores, [2, 3], (3, 4))
        q, k, _ = layer.qkv(sequence).reshape(2, 18, 3, 2, 4).permute(2, 0, 3, 1, 4)
        cosine = torch.einsum("bhpd,bhnd->bhpn", normalize(q[:, :, 1:6], dim=-1), normalize(k[:, :, 6:], dim=-1))
        assert len(errors) == 2
        for error, scores in zip(errors, cosine.split([2, 3], dim=2), strict=True):
            if converged:
                assert error < 1e-4
            else:
                shares = (scores / 0.5).softmax(dim=2).mean(dim=3)
                assert error == pytest.approx((shares - 1 / shares.shape[2]).abs().sum(dim=2).mean().item(), rel=1e-4)


def test_the_log_is_whole_with_each_row(tmp_path):
    log = MetricsCSV(tmp_path)
    log.log_metrics({"train/loss": 1.0}, step=3)
    assert (tmp_path / "metrics.csv").read_text().split() == ["step,train/loss", "3,1.0"]
    log.log_metrics({"val/mAP": 0.5, "epoch": 0}, step=3)
    rows = ["epoch,step,train/loss,val/mAP", ",3,1.0,", "0,3,,0.5"]
    assert (tmp_path / "metrics.csv").read_text().split() == rows
    log.log_metrics({"step/loss": 2.0, "epoch": 1}, step=4)  # single steps are for dashboards
    assert (tmp_path / "metrics.csv").read_text().split() == rows
