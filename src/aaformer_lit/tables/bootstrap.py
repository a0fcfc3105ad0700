"""Is one model better than another? A paired bootstrap over queries and seeds.

Both models answered the same queries, so the queries' difficulty cancels in the difference. Which identities end up in a
test set and which seed a training starts from are both chance: queries and seeds are drawn anew together, with
replacement, each draw the same for both models. With a single seed the interval says nothing about the training's chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

_CHUNK = 2**22  # counts held at once


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of `first - second`, its 95% percentile interval, and the two-sided p-value for no difference."""

    mean: float
    low: float
    high: float
    p_value: float
    seeds: int
    queries: int

    @property
    def cells(self) -> list[str]:
        """Mean, interval and p-value as tables print them."""
        return [f"{self.mean:+.1f}", f"{self.low:+.1f} to {self.high:+.1f}", f"{self.p_value:.2g}"]


def paired_bootstrap(
    first: Float[NDArray[np.float64], "seeds queries"],
    second: Float[NDArray[np.float64], "seeds queries"],
    samples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Compare two models by a score per seed and query (average precision, or 1 where the first answer is right).

    Args:
        first, second: scores of the same queries in the same order, one row per training seed.
        samples: bootstrap samples.
        seed: of the bootstrap itself.
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    if difference.ndim != 2 or difference.size == 0 or np.shape(first) != np.shape(second):
        raise ValueError(f"two (seeds, queries) arrays of one shape; got {np.shape(first)} and {np.shape(second)}.")
    seeds, queries = difference.shape
    means = bootstrap_means(difference, samples, np.random.default_rng(seed))
    low, high = np.quantile(means, [0.025, 0.975])
    # the observed sample counts as one of the draws, so that no p-value is 0
    extreme = 1 + min(int((means <= 0).sum()), int((means >= 0).sum()))
    p_value = min(1.0, 2 * extreme / (samples + 1))
    return PairedDifference(float(difference.mean()), float(low), float(high), p_value, seeds, queries)


def bootstrap_means(
    values: Float[NDArray[np.float64], "seeds queries"], samples: int, generator: np.random.Generator
) -> Float[NDArray[np.float64], " samples"]:
    """Means of `values` over rows and columns drawn with replacement."""
    seeds, queries = values.shape
    means = np.empty(samples)
    step = max(1, _CHUNK // (seeds + queries))
    for start in range(0, samples, step):
        count = min(step, samples - start)
        # how often each row and column was drawn stands for the drawing itself
        rows = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=count)
        columns = generator.multinomial(queries, np.full(queries, 1 / queries), size=count)
        means[start : start + count] = ((rows @ values) * columns).sum(axis=1) / (seeds * queries)
    return means
