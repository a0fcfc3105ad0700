import itertools
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from aaformer_lit.structures import FeatureSet
from aaformer_lit.viz import PairDistances, distance_histogram, verification_curve, verification_pairs, verification_roc

few_distances = st.lists(st.integers(0, 8).map(lambda i: i / 8), min_size=1, max_size=12)


def pairs(positive: list[float], negative: list[float]) -> PairDistances:
    return PairDistances(np.array(positive, float), np.array(negative, float))


@settings(deadline=None, max_examples=100)
@given(few_distances, few_distances, st.floats(0, 1))
def test_rates_equal_counting_at_every_threshold(positive: list[float], negative: list[float], far: float) -> None:
    curve = verification_curve(pairs(positive, negative))
    counted = [
        (sum(d <= t for d in negative) / len(negative), sum(d <= t for d in positive) / len(positive))
        for t in [-1.0, *sorted({*positive, *negative})]
    ]
    assert list(zip(curve.far, curve.tar, strict=True)) == counted
    assert curve.tar_at(far) == max(tar for rate, tar in counted if rate <= far)
    # the EER lies between the last threshold with FAR < FRR and the first with FAR >= FRR
    after = next(i for i, (rate, tar) in enumerate(counted) if rate >= 1 - tar - 1e-9)
    assert counted[max(after - 1, 0)][0] - 1e-9 <= curve.eer <= counted[after][0] + 1e-9


def test_eer_of_two_normal_distributions() -> None:
    places = norm.ppf((np.arange(4000) + 0.5) / 4000)
    curve = verification_curve(PairDistances(places, places + 2.0))
    assert curve.eer == pytest.approx(norm.cdf(-1.0), abs=1e-3)
    assert curve.eer_threshold == pytest.approx(1.0, abs=0.01)
    assert curve.tar_at(0.01) == pytest.approx(norm.cdf(norm.ppf(0.01) + 2.0), abs=2e-3)


def test_separable_pairs_have_no_error_and_a_threshold_half_way() -> None:
    curve = verification_curve(pairs([0.1, 0.3], [0.8, 0.9]))
    assert (curve.eer, curve.eer_threshold) == (0.0, pytest.approx(0.55))


def test_the_worst_model_errs_always() -> None:
    assert verification_curve(pairs([0.8, 0.9], [0.1, 0.3])).eer == 1.0


def test_pairs_need_both_kinds() -> None:
    with pytest.raises(ValueError, match="got 0 and 1"):
        pairs([], [0.5])


def sets(queries: int, gallery: int) -> tuple[FeatureSet, FeatureSet]:
    generator = torch.Generator().manual_seed(0)

    def one(size: int) -> FeatureSet:
        draw = lambda low, high: torch.randint(low, high, (size,), generator=generator)  # noqa: E731
        return FeatureSet(torch.randn(size, 5, generator=generator), draw(0, 6), draw(-1, 3))

    return one(queries), one(gallery)


def test_pair_distances_equal_the_slow_loop() -> None:
    query, gallery = sets(20, 30)
    found = verification_pairs(query, gallery)
    positive, negative = [], []
    for q, g in itertools.product(range(20), range(30)):
        distance = float((query.features[q] - gallery.features[g]).norm())
        if query.pids[q] != gallery.pids[g]:
            negative.append(distance)
        elif query.camids[q] != gallery.camids[g] or query.camids[q] < 0:
            positive.append(distance)
    assert found.positive == pytest.approx(positive, abs=1e-5)
    assert found.negative == pytest.approx(negative, abs=1e-5)


def test_many_negatives_are_sampled_repeatably_and_positives_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery = sets(200, 300)
    monkeypatch.setattr("aaformer_lit.viz.verification.QUERY_CHUNK", 64)
    every, some = verification_pairs(query, gallery), verification_pairs(query, gallery, max_negatives=6000)
    assert np.array_equal(every.positive, some.positive)
    assert len(some.negative) == pytest.approx(6000 * len(every.negative) / 60000, rel=0.1)
    assert set(some.negative) <= set(every.negative)
    assert np.array_equal(some.negative, verification_pairs(query, gallery, max_negatives=6000).negative)
    assert not np.array_equal(some.negative, verification_pairs(query, gallery, max_negatives=6000, seed=1).negative)


def test_the_roc_goes_through_the_chosen_points() -> None:
    generator = np.random.default_rng(0)
    model = PairDistances(generator.normal(0, 1, 500), generator.normal(2, 1, 2000))
    curve = verification_curve(model)
    figure = verification_roc({"AAformer": model}, far=(0.1, 0.01))
    line, chosen, eer = figure.axes[0].lines
    assert list(chosen.get_xdata()) == [0.01, 0.1]
    assert list(chosen.get_ydata()) == [curve.tar_at(0.01), curve.tar_at(0.1)]
    assert (eer.get_xdata()[0], eer.get_ydata()[0]) == (curve.eer, 1 - curve.eer)
    # the drawn corners describe the same steps as all points
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert len(x) < len(curve.far)
    for far in generator.uniform(1 / 2000, 1, 200):
        assert y[np.searchsorted(x, far, side="right") - 1] == curve.tar_at(far)
    legend = figure.axes[0].get_legend().get_texts()[0].get_text().splitlines()
    assert legend[0] == f"AAformer: EER {100 * curve.eer:.3g} %"
    assert legend[1] == f"TAR {100 * curve.tar_at(0.01):.3g} % at FAR 1 %"


def test_a_far_too_fine_to_measure_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        figure = verification_roc(pairs([0.1] * 10, [0.2] * 100), far=(0.001, 0.01))
    assert list(figure.axes[0].lines[1].get_xdata()) == [0.01]
    assert "there are 100 negative pairs" in caplog.text


def test_the_histogram_counts_both_kinds_and_marks_the_threshold() -> None:
    model = pairs([0.1, 0.1, 0.3, 0.5], [0.4, 0.9, 0.9, 1.3])
    figure = distance_histogram(model, threshold=0.45)
    (axes,) = figure.axes
    widths = np.array([[bar.get_width() * bar.get_height() for bar in bars] for bars in axes.containers])
    assert widths.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert widths[0][0] == pytest.approx(0.5)  # two of the four positives in the first bin
    assert list(axes.lines[0].get_xdata()) == [0.45, 0.45]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "threshold 0.450: TAR 75 %, FAR 25 %" in texts
    assert "same person (4 pairs)" in texts
    default = distance_histogram(model)
    assert default.axes[0].lines[0].get_xdata()[0] == verification_curve(model).eer_threshold
