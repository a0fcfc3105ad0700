"""The paired bootstrap against a loop that draws one query after another, and cases with a known answer."""

import numpy as np
import pytest

from aaformer_lit.tables.bootstrap import bootstrap_means, paired_bootstrap


def slow_means(values, samples, generator):
    seeds, queries = values.shape
    means = []
    for _ in range(samples):
        rows = [generator.integers(seeds) for _ in range(seeds)]
        columns = [generator.integers(queries) for _ in range(queries)]
        total = 0.0
        for row in rows:
            for column in columns:
                total += values[row, column]
        means.append(total / (seeds * queries))
    return np.array(means)


def test_means_are_distributed_as_those_of_the_slow_loop():
    values = np.random.default_rng(0).normal(size=(3, 7)) + np.array([[0.0], [0.5], [2.0]])
    fast = bootstrap_means(values, 20_000, np.random.default_rng(1))
    slow = slow_means(values, 2_000, np.random.default_rng(2))
    assert fast.mean() == pytest.approx(values.mean(), abs=0.02)
    assert fast.std() == pytest.approx(slow.std(), rel=0.06)
    assert np.quantile(fast, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(slow, [0.1, 0.5, 0.9]), abs=0.08)


def test_one_seed_has_the_standard_error_of_the_mean_over_queries():
    scores = np.random.default_rng(0).random((1, 400))
    d = paired_bootstrap(scores, np.zeros((1, 400)), samples=4_000)
    error = scores.std() / 20
    assert d.mean == pytest.approx(scores.mean())
    assert (d.low, d.high) == pytest.approx((scores.mean() - 1.96 * error, scores.mean() + 1.96 * error), abs=error / 5)


def test_difficulty_of_the_queries_cancels():
    difficulty = np.random.default_rng(0).random((2, 50)) * 100
    d = paired_bootstrap(difficulty + 1, difficulty, samples=200)
    assert (d.mean, d.low, d.high) == pytest.approx((1, 1, 1))
    assert d.p_value == pytest.approx(2 / 201)
    assert (d.seeds, d.queries) == (2, 50)


def test_seeds_that_disagree_widen_the_interval():
    base = np.random.default_rng(0).random((3, 500))
    agreeing = paired_bootstrap(base + 1, base, samples=500)
    disagreeing = paired_bootstrap(base + np.array([[-2.0], [1.0], [4.0]]), base, samples=500)
    assert agreeing.p_value < 0.01 < disagreeing.p_value
    assert disagreeing.low < 0 < disagreeing.high


def test_no_difference_is_p_one_and_the_same_seed_the_same_answer():
    scores = np.random.default_rng(0).random((2, 30))
    assert paired_bootstrap(scores, scores, samples=100).p_value == 1
    runs = [paired_bootstrap(scores, scores[::-1], samples=100, seed=s) for s in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


def test_chunks_do_not_matter_for_the_size_and_shapes_must_fit(monkeypatch):
    monkeypatch.setattr("aaformer_lit.tables.bootstrap._CHUNK", 100)
    assert len(bootstrap_means(np.ones((2, 30)), 47, np.random.default_rng(0))) == 47
    with pytest.raises(ValueError, match="of one shape"):
        paired_bootstrap(np.ones((2, 3)), np.ones((1, 3)))
