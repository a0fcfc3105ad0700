"""What a run leaves in its directory: `metadata.json` (what was run), `metrics.json`, `per_query.parquet` and, where parts
were compared with masks, `alignment.json` (what came out).

Files are written under a temporary name and renamed, so that each is whole or not there.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf

from aaformer_lit import __version__
from aaformer_lit.alignment import AlignmentTest, flatten_alignment, write_alignment
from aaformer_lit.dashboard import log_best, log_hardest, log_run_files
from aaformer_lit.module import ReIDModule, flatten_results
from aaformer_lit.stability import StabilityTest
from aaformer_lit.structures import Record, RetrievalMetrics

_PACKAGES = ("torch", "lightning", "timm", "torchmetrics", "albumentations", "hydra-core", "numpy")


class _TestSet(Protocol):
    @property
    def query(self) -> Sequence[Record]: ...


def run_test(
    trainer: Trainer,
    module: ReIDModule,
    data: Any,
    run_dir: Path,
    metrics: Mapping[str, float] | None = None,
    ckpt_path: str | None = None,
) -> dict[str, float]:
    """Test, and write `per_query.parquet`, `alignment.json` and `metrics.json` (last: it says that the run is finished).

    Args:
        metrics: what is known already and goes into `metrics.json` too.
        ckpt_path: weights to test; None for those of the module.
    """
    trainer.test(module, datamodule=data, ckpt_path=ckpt_path, verbose=False)
    metrics = dict(metrics or {}) | flatten_results(module.results)
    alignment = AlignmentTest.of(trainer)
    if alignment is not None:
        metrics |= flatten_alignment(alignment.results)
    stability = StabilityTest.of(trainer)
    if stability is not None:
        metrics |= stability.metrics()
    if trainer.is_global_zero:
        table = per_query_table(module.results, data.test_sets)
        write_atomically(run_dir / "per_query.parquet", lambda path: table.to_parquet(path))
        if alignment is not None and alignment.results:
            body_parts, measured = alignment.body_parts, alignment.results
            write_atomically(run_dir / "alignment.json", lambda path: write_alignment(path, body_parts, measured))
        write_json(run_dir / "metrics.json", metrics)
        _to_dashboards(trainer, table, data, metrics["test/mAP"], run_dir)
    return metrics


def _to_dashboards(trainer: Trainer, per_query: pd.DataFrame, data: Any, tested: float, run_dir: Path) -> None:
    """The hardest queries, the best mAP (of the validations, where there were any) and the run's files."""
    scores = [
        float(one.best_model_score)
        for one in trainer.checkpoint_callbacks
        if isinstance(one, ModelCheckpoint) and one.monitor == "val/mAP" and one.best_model_score is not None
    ]
    queries = {name: test_set.query for name, test_set in data.test_sets.items()}
    log_hardest(trainer.loggers, per_query, queries, trainer.global_step)
    log_best(trainer.loggers, max(scores, default=tested), trainer.global_step)
    log_run_files(trainer.loggers, run_dir)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """JSON with stable formatting, atomically."""
    write_atomically(path, lambda p: p.write_text(json.dumps(content, indent=2, default=str) + "\n"))


def metadata(cfg: DictConfig, fingerprint: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """What was run, on what, with which versions.

    Args:
        cfg: the composed config.
        fingerprint: of the data (name, variant, counts).
        choices: option of each config group.
    """
    config = OmegaConf.to_container(cfg, resolve=True)
    return {
        "aaformer_lit": __version__,
        "git_commit": _git_commit(),
        "config": config,
        "choices": dict(choices),
        "data": dict(fingerprint),
        **machine(),
    }


def machine() -> dict[str, Any]:
    """Versions and device."""
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
    }


def per_query_table(
    results: Mapping[str, Mapping[str, RetrievalMetrics]], test_sets: Mapping[str, _TestSet]
) -> pd.DataFrame:
    """One row per test set, token subset ("" is all tokens) and valid query: its file, ids, AP and first-hit rank."""
    tables = []
    for name, subsets in results.items():
        query = test_sets[name].query
        for subset, metrics in subsets.items():
            records = [query[i] for i in metrics.per_query.index.tolist()]
            columns = {
                "set": name,
                "subset": subset,
                "query": [record.path.name for record in records],
                "pid": [record.pid for record in records],
                "camid": [record.camid for record in records],
                "average_precision": metrics.per_query.average_precision.numpy(),
                "first_hit_rank": metrics.per_query.first_hit_rank.numpy(),
            }
            tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of the checkout this package runs from, marked if it has changes; None for an installed wheel."""
    folder = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() or None
