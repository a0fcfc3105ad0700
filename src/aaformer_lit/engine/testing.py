"""What a run leaves in its directory: `metadata.json` (what was run), `metrics.json`, `per_query.parquet` and, where parts
were compared with masks, `alignment.json` (what came out).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import pandas as pd
from lightning import Callback, Trainer

from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.test_set import TestSet
from aaformer_lit.engine.callbacks.alignment import AlignmentTest
from aaformer_lit.engine.callbacks.progress import best_validation
from aaformer_lit.engine.callbacks.stability import StabilityTest
from aaformer_lit.engine.loggers.media import log_best, log_hardest, log_run_files
from aaformer_lit.engine.module import ReIDModule
from aaformer_lit.engine.results import alignment_text, flatten_alignment, flatten_results
from aaformer_lit.structures import RetrievalMetrics
from aaformer_lit.utils.files import whole_file, write_json, write_text

C = TypeVar("C", bound=Callback)


def callback_of(kind: type[C], trainer: Trainer) -> C | None:
    """The trainer's callback of this kind, if it has one."""
    return next((one for one in trainer.callbacks if isinstance(one, kind)), None)  # type: ignore[attr-defined]


def run_test(
    trainer: Trainer,
    module: ReIDModule,
    data: ReIDDataModule,
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
    alignment = callback_of(AlignmentTest, trainer)
    if alignment is not None:
        metrics |= flatten_alignment(alignment.results)
    stability = callback_of(StabilityTest, trainer)
    if stability is not None:
        metrics |= stability.metrics()
    if trainer.is_global_zero:
        table = per_query_table(module.results, data.test_sets)
        with whole_file(run_dir / "per_query.parquet") as path:
            table.to_parquet(path)
        if alignment is not None and alignment.results:
            write_text(run_dir / "alignment.json", alignment_text(alignment.body_parts, alignment.results))
        write_json(run_dir / "metrics.json", metrics)
        queries = {name: test_set.query for name, test_set in data.test_sets.items()}
        log_hardest(trainer.loggers, table, queries, trainer.global_step)
        validated = best_validation(trainer)
        log_best(trainer.loggers, metrics["test/mAP"] if validated is None else validated, trainer.global_step)
        log_run_files(trainer.loggers, run_dir)
    return metrics


def per_query_table(
    results: Mapping[str, Mapping[str, RetrievalMetrics]], test_sets: Mapping[str, TestSet]
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
