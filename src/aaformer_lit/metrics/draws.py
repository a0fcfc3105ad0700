"""Single-shot protocols: one gallery image of each person, drawn again and again; results are means over the draws.

A single draw moves the numbers by points on data sets of some dozens of people, so a mean without its deviation says little.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from aaformer_lit.errors import ConfigError
from aaformer_lit.structures import PerQuery, RetrievalMetrics


@dataclass(frozen=True, slots=True)
class DrawnMetrics(RetrievalMetrics):
    """Means over draws; `single` are the draws' own results.

    `per_query` has the mean AP and the median first-hit rank of each query over the draws in which it has a match.
    `num_valid_queries` counts the queries that have one in some draw.
    """

    single: Sequence[RetrievalMetrics] = field(default=(), repr=False)

    @property
    def deviation(self) -> dict[str, float]:
        """Sample standard deviation over the draws, by the names of `as_dict("")`; 0 for a single draw."""
        values = [one.as_dict("") for one in self.single]
        several = len(values) > 1
        return {name: statistics.stdev(v[name] for v in values) if several else 0.0 for name in values[0]}

    def as_dict(self, prefix: str = "test/") -> dict[str, float]:
        """Flat names as in `metrics.json`: `test/mAP`, ..., and `test/deviation/mAP`, ..."""
        deviations = {f"{prefix}deviation/{name}": value for name, value in self.deviation.items()}
        return RetrievalMetrics.as_dict(self, prefix) | deviations


def single_shot(pids: Int[Tensor, " gallery"], draws: int, seed: int = 0) -> list[Int[Tensor, " people"]]:
    """For each of the draws the gallery rows of one image per pid, in the order of the gallery; a function of the seed."""
    if draws < 1:
        raise ConfigError(f"a single-shot protocol needs 1 or more draws; got {draws}.")
    numbers = pids.cpu().numpy()
    drawn = []
    for draw in range(draws):
        shuffled = np.random.default_rng((seed, draw)).permutation(len(numbers))
        _, first = np.unique(numbers[shuffled], return_index=True)
        drawn.append(torch.from_numpy(np.sort(shuffled[first])))
    return drawn


def mean_of_draws(results: Sequence[RetrievalMetrics]) -> DrawnMetrics:
    """The results of several draws of one test set as one."""
    each = [(one.per_query.index, one.per_query.average_precision, one.per_query.first_hit_rank) for one in results]
    index, precision, rank = map(torch.cat, zip(*each, strict=True))
    queries, query = index.unique(return_inverse=True)
    rows_of_queries = query.argsort().split(query.bincount().tolist())
    return DrawnMetrics(
        mAP=statistics.fmean(one.mAP for one in results),
        mINP=statistics.fmean(one.mINP for one in results),
        mAP_trapezoid=statistics.fmean(one.mAP_trapezoid for one in results),
        num_valid_queries=len(queries),
        cmc={k: statistics.fmean(one.cmc[k] for one in results) for k in results[0].cmc},
        per_query=PerQuery(
            queries,
            torch.stack([precision[rows].mean() for rows in rows_of_queries]),
            torch.stack([rank[rows].median() for rows in rows_of_queries]),  # of two in the middle the lower
        ),
        single=tuple(results),
    )
