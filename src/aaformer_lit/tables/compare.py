"""Rows against a reference row, query by query, from the runs' `per_query.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aaformer_lit.errors import ConfigError
from aaformer_lit.tables.bootstrap import PairedDifference, paired_bootstrap
from aaformer_lit.tables.collect import Run
from aaformer_lit.tables.join import Cell, Column

# a rank-k score is 1 where the first right answer is among the first k
_RANKS = {"rank1": 1, "rank5": 5, "rank10": 10}


@dataclass(frozen=True)
class Comparison:
    """`row - reference` in one metric, in points; `problem` says why there is no difference to state."""

    row: str
    reference: str
    metric: str
    difference: PairedDifference | None
    problem: str = ""


def compare_rows(
    column: Column, reference: str, metrics: Sequence[str], samples: int = 10_000, seed: int = 0
) -> list[Comparison]:
    """Each row that was run against the reference row, over the seeds that both have.

    Raises:
        ConfigError: there is no such row.
    """
    by_key = {cell.row.key: cell for cell in column.cells}
    if reference not in by_key:
        raise ConfigError(f"there is no row {reference!r} to compare with. Rows: {', '.join(by_key)}.")
    other = by_key[reference]
    comparisons = []
    for cell in column.cells:
        if cell is other or not cell.runs or not other.runs:
            continue
        for metric in (m for m in metrics if m == "mAP" or m in _RANKS):
            try:
                difference = paired_bootstrap(*paired_scores(cell, other, metric), samples=samples, seed=seed)
            except ConfigError as error:
                comparisons.append(Comparison(cell.row.label, other.row.label, metric, None, str(error)))
            else:
                comparisons.append(Comparison(cell.row.label, other.row.label, metric, difference))
    return comparisons


def paired_scores(first: Cell, second: Cell, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores (seeds, queries) in percent of the seeds and queries of both rows, in one order.

    Raises:
        ConfigError: no common seed, no per-query results, or other queries in one run than in another.
    """
    seeds = sorted(first.runs.keys() & second.runs.keys())
    if not seeds:
        raise ConfigError("no seed in common")
    scores = [[query_scores(cell.runs[seed], metric) for seed in seeds] for cell in (first, second)]
    queries = scores[0][0].index
    if not all(one.index.equals(queries) for runs in scores for one in runs):
        raise ConfigError("the runs did not answer the same queries")
    return np.stack(scores[0]), np.stack(scores[1])


def query_scores(run: Run, metric: str) -> pd.Series:
    """Percent per query of all tokens together, sorted by the query: file name, pid, camera, and of several such which."""
    path = run.folder / "per_query.parquet"
    if metric != "mAP" and any(key.startswith("test/deviation/") for key in run.metrics):
        raise ConfigError(
            f"{run.folder} has a median over drawn galleries of each query's rank, of which Rank-k is no mean"
        )
    try:
        table = pd.read_parquet(path)
        table = table[table["subset"] == ""]
        known = ["query", "pid", "camid"]
        table = table.assign(nth=table.groupby(known).cumcount()).set_index([*known, "nth"]).sort_index()
        values = table["average_precision"] if metric == "mAP" else table["first_hit_rank"] <= _RANKS[metric]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"no per-query results of seed {run.seed} in {run.folder}") from error
    if table["set"].nunique() != 1:
        raise ConfigError(f"{run.folder} has several test sets; compare runs on one")
    return 100 * values.astype(float)
