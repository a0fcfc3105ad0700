import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from aaformer_lit.metrics.verification import evaluate_verification
from aaformer_lit.structures import FeatureSet
from aaformer_lit.viz import PairDistances, distance_histogram, eer_threshold, verification_pairs, verification_roc


@dataclass(frozen=True)
class Rates:
    """Counted the slow way: FAR and TAR at every distance of a positive pair."""

    tar: Mapping[float, float]
    eer: float
    num_impostor: int
    roc_far: torch.Tensor
    roc_tar: torch.Tensor
    thresholds: torch.Tensor


def counted(positive: list[float], negative: list[float], far: tuple[float, ...] = (), eer: float = 0.1) -> Rates:
    thresholds = sorted(set(positive))
    roc_far = [sum(d <= t for d in negative) / len(negative) for t in thresholds]
    roc_tar = [sum(d <= t for d in positive) / len(positive) for t in thresholds]
    tar = {rate: max([0.0, *(t for f, t in zip(roc_far, roc_tar, strict=True) if f <= rate)]) for rate in far}
    return Rates(
        tar, eer, len(negative), *(torch.tensor(x, dtype=torch.float64) for x in (roc_far, roc_tar, thresholds))
    )


def test_the_roc_is_the_best_tar_at_each_far_and_goes_through_the_chosen_points() -> None:
    generator = np.random.default_rng(0)
    positive, negative = generator.normal(0, 1, 60).tolist(), generator.normal(2, 1, 400).tolist()
    model = counted(positive, negative, far=(0.1, 0.01), eer=0.15)
    figure = verification_roc({"AAformer": model})
    line, chosen, eer, chance = figure.axes[0].lines
    assert (chance.get_label(), list(chance.get_xdata())) == ("chance", list(chance.get_ydata()))
    assert list(chosen.get_xdata()) == [0.01, 0.1]
    assert list(chosen.get_ydata()) == [model.tar[0.01], model.tar[0.1]]
    assert (eer.get_xdata()[0], eer.get_ydata()[0]) == (0.15, 0.85)
    assert line.get_drawstyle() == "steps-post"
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    for far in generator.uniform(1 / 400, 1, 200):
        (best,) = counted(positive, negative, far=(far,)).tar.values()
        assert y[np.searchsorted(x, far, side="right") - 1] == best
    assert (x[0], x[-1], y[-1]) == (1 / 400, 1, 1)
    assert y[0] == sum(d < min(negative) for d in positive) / 60  # the curve begins with the best TAR at FAR 0
    legend = figure.axes[0].get_legend().get_texts()[0].get_text().splitlines()
    assert legend[:2] == ["AAformer: EER 15 %", f"TAR {100 * model.tar[0.01]:.3g} % at FAR 1 %"]


def test_two_models_share_the_finer_axis() -> None:
    coarse, fine = counted([0.1, 0.4], [0.3] * 10), counted([0.1, 0.4], [0.3] * 1000)
    figure = verification_roc({"coarse": coarse, "fine": fine})
    assert figure.axes[0].get_xlim() == pytest.approx((1e-3, 1))
    assert [line.get_label().split(":")[0] for line in figure.axes[0].lines[:6:3]] == ["coarse", "fine"]
    assert verification_roc(fine).axes[0].lines[0].get_label() == "EER 10 %"


def test_one_pair_of_different_people_is_drawn() -> None:
    figure = verification_roc(counted([0.1, 0.4], [0.3]))
    assert figure.axes[0].get_xlim() == pytest.approx((0.1, 1))
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.5, 1, 1]
    figure.canvas.draw()


def test_a_far_too_fine_to_measure_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        figure = verification_roc(counted([0.1] * 10, [0.2] * 100, far=(0.001, 0.01)))
    assert list(figure.axes[0].lines[1].get_xdata()) == [0.01]
    assert "there are 100 negative pairs" in caplog.text


def test_the_threshold_of_the_eer() -> None:
    # at 0.3 one in three negatives is accepted and one in three positives refused; 1 / 3 + 2 / 3 must count as 1
    assert eer_threshold(counted([0.1, 0.3, 0.6], [0.2, 0.5, 0.7])) == 0.3
    assert eer_threshold(counted([0.1, 0.3], [0.8, 0.9])) == 0.3


def sets(queries: int, gallery: int) -> tuple[FeatureSet, FeatureSet]:
    generator = torch.Generator().manual_seed(0)

    def one(size: int, lowest_pid: int) -> FeatureSet:
        pids = torch.randint(lowest_pid, 6, (size,), generator=generator)
        camids = torch.randint(-1, 3, (size,), generator=generator)
        return FeatureSet(torch.randn(size, 5, generator=generator), pids, camids)

    return one(queries, -1), one(gallery, -1)


def test_pair_distances_equal_the_slow_loop() -> None:
    query, gallery = sets(20, 30)
    found = verification_pairs(query, gallery)
    positive, negative = [], []
    for q, g in itertools.product(range(20), range(30)):
        distance = float((query.features[q] - gallery.features[g]).norm())
        if -1 in (query.pids[q], gallery.pids[g]):
            continue
        if query.pids[q] != gallery.pids[g]:
            negative.append(distance)
        elif query.camids[q] != gallery.camids[g] or query.camids[q] < 0:
            positive.append(distance)
    assert found.positive == pytest.approx(positive, abs=1e-5)
    assert found.negative == pytest.approx(negative, abs=1e-5)
    rates = evaluate_verification(query, gallery)
    assert (len(found.positive), len(found.negative)) == (rates.num_genuine, rates.num_impostor)


def test_many_negatives_are_sampled_repeatably_and_positives_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery = sets(200, 300)
    monkeypatch.setattr("aaformer_lit.viz.verification.QUERY_CHUNK", 64)
    every, some = verification_pairs(query, gallery), verification_pairs(query, gallery, max_negatives=6000)
    assert np.array_equal(every.positive, some.positive)
    pairs = int((query.pids >= 0).sum() * (gallery.pids >= 0).sum())
    assert len(some.negative) == pytest.approx(6000 * len(every.negative) / pairs, rel=0.1)
    assert set(some.negative) <= set(every.negative)
    assert np.array_equal(some.negative, verification_pairs(query, gallery, max_negatives=6000).negative)
    assert not np.array_equal(some.negative, verification_pairs(query, gallery, max_negatives=6000, seed=1).negative)


def test_what_the_metrics_compute_is_drawn() -> None:
    query, gallery = sets(20, 30)
    pairs, far = verification_pairs(query, gallery), (0.01, 0.1, 0.5)
    model = evaluate_verification(query, gallery, far=far)
    line, chosen, *_ = verification_roc(model).axes[0].lines
    slow = counted(pairs.positive.tolist(), pairs.negative.tolist(), far=far)
    assert list(chosen.get_ydata()) == pytest.approx([slow.tar[rate] for rate in far])
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert [y[np.searchsorted(x, rate, side="right") - 1] for rate in far] == pytest.approx([slow.tar[r] for r in far])
    assert eer_threshold(model) == pytest.approx(eer_threshold(slow), abs=1e-5)


def test_pairs_need_both_kinds() -> None:
    with pytest.raises(ValueError, match="got 0 and 1"):
        PairDistances(np.zeros(0), np.array([0.5]))
    query, gallery = sets(3, 0)
    with pytest.raises(ValueError, match="got 0 and 0"):
        verification_pairs(query, gallery)


def test_the_histogram_counts_both_kinds_and_marks_the_threshold() -> None:
    pairs = PairDistances(np.array([0.1, 0.1, 0.3, 0.5]), np.array([0.4, 0.9, 0.9, 1.3]))
    (axes,) = distance_histogram(pairs, 0.45).axes
    shares = np.array([[bar.get_width() * bar.get_height() for bar in bars] for bars in axes.containers])
    assert shares.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert shares[0][0] == pytest.approx(0.5)  # two of the four positives in the first bin
    assert list(axes.lines[0].get_xdata()) == [0.45, 0.45]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "same person (4 pairs)",
        "different people (4 pairs)",
        "threshold 0.450: TAR 75 %, FAR 25 %",
    ]
    (axes,) = distance_histogram(pairs, {"accepted up to": 0.45, "rejected beyond": 0.7}).axes
    assert [line.get_xdata()[0] for line in axes.lines] == [0.45, 0.7]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[2:] == ["accepted up to 0.450", "rejected beyond 0.700"]
