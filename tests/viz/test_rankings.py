import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from aaformer_lit.metrics import evaluate_retrieval
from aaformer_lit.structures import FeatureSet
from aaformer_lit.viz import Ranking, rank_gallery, ranking_lists
from aaformer_lit.viz.palette import DECISIONS, RIGHT, UNKNOWN, WRONG


def features(pids: list[int], camids: list[int]) -> FeatureSet:
    return FeatureSet(torch.zeros(len(pids), 1), torch.tensor(pids), torch.tensor(camids))


def slow_ranking(row: list[float], pid: int, camid: int, pids: list[int], camids: list[int], k: int) -> list[int]:
    left = [i for i in range(len(row)) if pids[i] >= 0 and not (pids[i] == pid and camids[i] == camid and camid >= 0)]
    return sorted(left, key=lambda i: row[i])[:k]  # sorted() is stable


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_ranking_equals_the_slow_loop_ties_included(data: st.DataObject) -> None:
    queries, gallery, k = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    few = st.integers(0, 2)
    q_pids, q_cams = ([data.draw(st.integers(low, 2)) for _ in range(queries)] for low in (0, -1))
    g_pids, g_cams = ([data.draw(st.integers(-1, 2)) for _ in range(gallery)] for _ in range(2))
    table = torch.tensor([[data.draw(few) / 2 for _ in range(gallery)] for _ in range(queries)])
    ranking = rank_gallery(table, features(q_pids, q_cams), features(g_pids, g_cams), k)
    for row in range(queries):
        wanted = slow_ranking(table[row].tolist(), q_pids[row], q_cams[row], g_pids, g_cams, k)
        shown = ranking.gallery[row]
        assert shown[shown >= 0].tolist() == wanted
        assert (shown[len(wanted) :] == -1).all()
        assert ranking.distances[row, : len(wanted)].tolist() == [float(table[row, i]) for i in wanted]
        assert ranking.matches is not None
        assert ranking.matches[row, : len(wanted)].tolist() == [g_pids[i] == q_pids[row] for i in wanted]


def test_the_average_precision_is_that_of_the_metric() -> None:
    generator = torch.Generator().manual_seed(0)
    pids, camids = torch.randint(-1, 5, (50,), generator=generator), torch.randint(0, 3, (50,), generator=generator)
    everything = FeatureSet(torch.randn(50, 4, generator=generator), pids, camids)
    query, gallery = everything.select(pids >= 0), everything
    query.pids[0] = 9  # nobody in the gallery
    table = torch.cdist(query.features, gallery.features)
    found = rank_gallery(table, query, gallery).average_precision
    metrics = evaluate_retrieval(query, gallery).per_query
    assert found is not None
    assert np.isnan(found[0])
    assert found[metrics.index.numpy()] == pytest.approx(metrics.average_precision.numpy())


def test_the_ap_stands_beside_the_answers_and_captions_below_them() -> None:
    ranking = replace(RANKING, average_precision=np.array([0.834, np.nan]))
    figure = ranking_lists(QUERIES, gallery, ranking, captions=lambda row: f"pid {row}")
    first, second = figure.axes[:4], figure.axes[4:]
    assert [panel.get_ylabel() for panel in first] == ["", "AP 83 %", "", ""]
    assert [panel.get_xlabel() for panel in first] == ["", "pid 2", "pid 0", "pid 1"]
    assert second[1].get_ylabel() == ""


def test_captions_of_long_names_do_not_run_into_each_other() -> None:
    names = "pid Person_Number_Thirty_Three\ncamera Entrance-North"
    figure = ranking_lists(QUERIES, gallery, RANKING, labels=[names] * 2, captions=lambda row: names)
    for row in (figure.axes[1:4], figure.axes[5:]):
        boxes = [panel.xaxis.label.get_window_extent() for panel in row]
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    figure.canvas.draw()  # places the labels
    label, below = figure.axes[1].xaxis.label.get_window_extent(), figure.axes[5].title.get_window_extent()
    assert label.y0 > below.y1
    assert figure.axes[5].xaxis.label.get_window_extent().y0 > 0


def test_a_decision_stands_on_a_label_framed_in_its_color() -> None:
    words = np.array([["accepted", "unsure", "rejected"], ["rejected", "rejected", ""]])
    figure = ranking_lists(QUERIES, gallery, replace(RANKING, decisions=words))
    said = [
        (text.get_text(), text.get_bbox_patch().get_edgecolor()[:3]) for panel in figure.axes for text in panel.texts
    ]
    assert said == [(word, to_rgb(DECISIONS[word])) for word in words.flatten()[:5]]
    assert not any(panel.texts for panel in ranking_lists(QUERIES, gallery, RANKING).axes)


def test_rank_gallery_wants_one_distance_per_pair() -> None:
    with pytest.raises(ValueError, match=r"= \(1, 2\); got \(2, 1\)"):
        rank_gallery(torch.zeros(2, 1), features([0], [0]), features([0, 1], [1, 1]))


def test_a_ranking_is_rectangular() -> None:
    with pytest.raises(ValueError, match=r"\(queries, k\)"):
        Ranking(np.zeros((1, 3), int), np.zeros((1, 2)))


RANKING = Ranking(
    gallery=np.array([[2, 0, 1], [1, 2, -1]]),
    distances=np.array([[0.1, 0.25, 0.5], [0.3, 0.75, np.nan]]),
    matches=np.array([[True, False, True], [False, True, False]]),
)


def gallery(index: int) -> np.ndarray:
    return np.full((32, 16, 3), 10 * index, np.uint8)


QUERIES = [np.full((32, 16, 3), 200, np.uint8)] * 2


def test_borders_and_signs_say_right_or_wrong_on_the_canvas(pixel) -> None:
    figure = ranking_lists(QUERIES, gallery, RANKING, labels=["a", "b"])
    first, second = figure.axes[:4], figure.axes[4:]
    assert [panel.get_title() for panel in first] == ["query", "✓ 0.10", "✗ 0.25", "✓ 0.50"]
    assert [panel.get_title() for panel in second] == ["query", "✗ 0.30", "✓ 0.75"]  # two answers are all there are
    for panel, color, index in zip(
        first[1:] + second[1:], (RIGHT, WRONG, RIGHT, WRONG, RIGHT), (2, 0, 1, 1, 2), strict=True
    ):
        assert to_rgb(panel.spines["top"].get_edgecolor()) == to_rgb(color)
        assert np.abs(pixel(figure, panel, 0.0, 0.5) - 255 * np.array(to_rgb(color))).max() <= 3
        assert (pixel(figure, panel, 0.5, 0.5) == 10 * index).all()
    assert (pixel(figure, first[0], 0.5, 0.5) == 200).all()
    assert [panel.get_xlabel() for panel in (first[0], second[0])] == ["a", "b"]


def test_unknown_people_have_gray_borders_and_no_sign() -> None:
    figure = ranking_lists(QUERIES, gallery, Ranking(RANKING.gallery, RANKING.distances))
    assert figure.axes[1].get_title() == "0.10"
    assert to_rgb(figure.axes[1].spines["left"].get_edgecolor()) == to_rgb(UNKNOWN)


def test_two_models_stand_side_by_side() -> None:
    better = Ranking(RANKING.gallery[:, ::-1].copy(), RANKING.distances)
    figure = ranking_lists(QUERIES, gallery, {"ViT": RANKING, "AAformer": better})
    names = {text.get_text(): panel for panel in figure.axes for text in panel.texts}
    row = sorted(figure.axes, key=lambda panel: (-round(panel.get_position().y0, 3), panel.get_position().x0))[:7]
    assert names == {"ViT": row[1], "AAformer": row[4]}
    shown = [int(panel.images[0].get_array()[0, 0, 0]) for panel in row]
    assert shown == [200, 20, 0, 10, 10, 0, 20]
    gaps = [b.get_position().x0 - a.get_position().x1 for a, b in itertools.pairwise(row)]
    assert gaps[0] == pytest.approx(gaps[3])
    assert gaps[0] > 2 * gaps[1]


def test_long_lists_of_two_models_stand_one_below_the_other() -> None:
    wide = Ranking(np.arange(8)[None], np.linspace(0, 1, 8)[None])
    figure = ranking_lists(QUERIES[:1], gallery, {"ViT": wide, "AAformer": wide})
    assert len(figure.axes) == 1 + 2 * 8
    query, upper, lower = figure.axes[0], figure.axes[1], figure.axes[9]
    assert (upper.get_ylabel(), lower.get_ylabel()) == ("ViT", "AAformer")
    assert upper.get_position().x0 == lower.get_position().x0
    middle = [(panel.get_position().y0 + panel.get_position().y1) / 2 for panel in (query, upper, lower)]
    assert middle[0] == pytest.approx((middle[1] + middle[2]) / 2)


def test_only_shown_images_are_asked_for() -> None:
    asked = []
    ranking = Ranking(np.array([[1]]), np.array([[0.5]]))
    figure = ranking_lists(QUERIES[:1], lambda row: (asked.append(row), gallery(5 * row))[1], ranking)
    assert int(figure.axes[1].images[0].get_array()[0, 0, 0]) == 50
    assert asked == [1]


def test_models_must_have_answered_the_same_queries() -> None:
    other = Ranking(RANKING.gallery[:1], RANKING.distances[:1])
    with pytest.raises(ValueError, match=r"got \[\(2, 3\), \(1, 3\)\]"):
        ranking_lists(QUERIES, gallery, {"a": RANKING, "b": other})
    with pytest.raises(ValueError, match="ranking lists need"):
        ranking_lists(QUERIES, gallery, {})
