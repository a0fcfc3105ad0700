"""CMC, AP and mINP against a loop over queries: ties, junk, distractors, unknown cameras, queries without a match."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import reference
from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.metrics import evaluate_retrieval, ranking
from aaformer_lit.metrics.protocol import Pairs, without_junk
from aaformer_lit.structures import FeatureSet
from metric_tools import tied_sets


def slow(query, gallery, ranks=(1, 5, 10)):
    distances = reference.squared_euclidean(query.features.numpy(), gallery.features.numpy())
    labels = (query.pids, query.camids, gallery.pids, gallery.camids)
    return reference.retrieval(distances, *(x.tolist() for x in labels), ranks=ranks)


def assert_same(fast, expected):
    assert fast.num_valid_queries == expected.num_valid_queries
    assert fast.per_query.index.tolist() == expected.index
    assert fast.per_query.first_hit_rank.tolist() == expected.first_hit_rank
    np.testing.assert_allclose(fast.per_query.average_precision, expected.average_precision, rtol=1e-12)
    assert fast.cmc == pytest.approx(expected.cmc, rel=1e-12)
    for name in ("mAP", "mAP_trapezoid", "mINP"):
        assert getattr(fast, name) == pytest.approx(getattr(expected, name), rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    queries=st.integers(1, 12),
    gallery=st.integers(1, 50),
    ids=st.integers(1, 8),
    cameras=st.integers(1, 4),
    levels=st.integers(1, 6),
    chunk_size=st.integers(1, 13),
)
def test_equals_the_loop_over_queries(seed, queries, gallery, ids, cameras, levels, chunk_size):
    sets = tied_sets(seed, queries, gallery, ids, cameras, levels)
    try:
        fast = evaluate_retrieval(*sets, ranks=(1, 2, 3, 20, 1000), chunk_size=chunk_size)
    except ProtocolError:
        assert slow(*sets).num_valid_queries == 0
        return
    assert_same(fast, slow(*sets, ranks=(1, 2, 3, 20, 1000)))


def test_continuous_features_and_many_chunks():
    rng = torch.Generator().manual_seed(3)
    query = FeatureSet(torch.randn(40, 8, generator=rng), torch.arange(40) % 11, torch.arange(40) % 4)
    gallery = FeatureSet(torch.randn(1500, 8, generator=rng), torch.arange(1500) % 13 - 1, torch.arange(1500) % 5)
    one, many = (evaluate_retrieval(query, gallery, chunk_size=c) for c in (64, 7))
    assert_same(one, slow(query, gallery))
    assert one.mAP == many.mAP
    assert one.cmc == many.cmc


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [ranking._count_by_sorting, ranking._count_by_histogram])
def test_both_ways_to_count_agree_with_comparing(seed, count):
    rng = torch.Generator().manual_seed(seed)
    distances = torch.randint(-2, 30, (9, 80), generator=rng).float() / 7
    distances[:, ::9] = torch.inf
    threshold = distances[:, torch.randint(0, 80, (6,), generator=rng)]
    threshold[4:, 3:] = torch.inf
    threshold[0, 0], distances[0, :3] = -0.0, 0.0
    below, not_above = count(distances, threshold)
    finite = threshold.isfinite()
    assert torch.equal(below[finite], (distances[:, None] < threshold[..., None]).sum(-1)[finite])
    assert torch.equal(not_above[finite], (distances[:, None] <= threshold[..., None]).sum(-1)[finite])


def test_hit_ranks_by_hand():
    distances = torch.tensor([[0.5, 0.1, 0.5, 0.5, 0.9], [1.0, 2.0, 3.0, 4.0, torch.inf], [0.0, 0.0, 0.0, 0.0, 0.0]])
    matches = Pairs(torch.tensor([0, 0, 2]), torch.tensor([4, 2, 3]))
    assert ranking.hit_ranks(distances, matches).tolist() == [[3, 5], [0, 0], [4, 0]]
    nothing = Pairs(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert ranking.hit_ranks(distances, nothing).tolist() == [[0], [0], [0]]


def test_measures_by_hand():
    hits = torch.tensor([[1, 3, 6], [2, 0, 0]])
    assert ranking.average_precision(hits).tolist() == pytest.approx([(1 + 2 / 3 + 1 / 2) / 3, 1 / 2])
    assert ranking.trapezoid_average_precision(hits).tolist() == pytest.approx(
        [((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 5 + 1 / 2) / 2) / 3, (0 + 1 / 2) / 2]
    )
    assert ranking.inverse_penalty(hits).tolist() == [0.5, 0.5]


@given(st.lists(st.booleans(), min_size=1, max_size=60).filter(any))
def test_step_form_is_scikit_learns_and_trapezoid_the_toolboxs(matches):
    hits = torch.tensor([[r for r, match in enumerate(matches, start=1) if match]])
    scores = -np.arange(len(matches))
    assert ranking.average_precision(hits).item() == pytest.approx(average_precision_score(matches, scores))
    assert ranking.trapezoid_average_precision(hits).item() == pytest.approx(reference.market_toolbox_ap(matches))


def test_a_perfect_ranking_scores_one_and_the_step_form_exceeds_the_trapezoid():
    pids = torch.arange(5)
    perfect = evaluate_retrieval(
        FeatureSet(torch.eye(5), pids, torch.zeros(5).long()), FeatureSet(torch.eye(5), pids, torch.ones(5).long())
    )
    assert asdict(perfect) | {"per_query": None} == {
        "mAP": 1.0, "mINP": 1.0, "mAP_trapezoid": 1.0, "num_valid_queries": 5, "cmc": {1: 1.0, 5: 1.0, 10: 1.0},
        "per_query": None,
    }  # fmt: skip
    noisy = evaluate_retrieval(*tied_sets(1))
    assert noisy.mAP > noisy.mAP_trapezoid


def test_the_camera_rule_hides_same_camera_images_unless_the_camera_is_unknown():
    gallery = FeatureSet(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([7, 8, 7]), torch.tensor([1, 1, 2]))

    def first_hit(camid):
        query = FeatureSet(torch.zeros(1, 1), torch.tensor([7]), torch.tensor([camid]))
        return evaluate_retrieval(query, gallery).per_query.first_hit_rank.item()

    assert first_hit(1) == 2  # the image of camera 1 is ignored, also as a rank
    assert first_hit(2) == 1
    assert first_hit(-1) == 1
    unknown = FeatureSet(gallery.features, gallery.pids, torch.full((3,), -1))
    query = FeatureSet(torch.zeros(1, 1), torch.tensor([7]), torch.tensor([-1]))
    assert evaluate_retrieval(query, unknown).mINP == pytest.approx(2 / 3)


def test_junk_is_dropped_and_distractors_stay():
    features, camids = torch.tensor([[0.0], [1.0], [2.0]]), torch.ones(3, dtype=torch.int64)
    query = FeatureSet(torch.zeros(1, 1), torch.tensor([7]), torch.tensor([0]))
    ranks = {}
    for name, pid in (("junk", -1), ("distractor", 0)):
        gallery = FeatureSet(features, torch.tensor([pid, pid, 7]), camids)
        ranks[name] = evaluate_retrieval(query, gallery).per_query.first_hit_rank.item()
    assert ranks == {"junk": 1, "distractor": 3}
    assert without_junk(gallery) is gallery
    with pytest.raises(ProtocolError):  # a query with pid -1 matches nothing, not the junk
        evaluate_retrieval(FeatureSet(query.features, torch.tensor([-1]), query.camids), gallery)


def test_queries_without_a_match_are_skipped_and_counted():
    query = FeatureSet(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([7, 8, 9]), torch.zeros(3).long())
    gallery = FeatureSet(torch.tensor([[0.0], [2.0]]), torch.tensor([7, 9]), torch.ones(2).long())
    got = evaluate_retrieval(query, gallery)
    assert (got.num_valid_queries, got.mAP, got.per_query.index.tolist()) == (2, 1.0, [0, 2])


def test_errors_say_what_to_do():
    query, gallery = tied_sets(0)
    with pytest.raises(ProtocolError, match=r"none of the 12 queries has a match.*camid -1"):
        evaluate_retrieval(query, FeatureSet(gallery.features, gallery.pids + 100, gallery.camids))
    with pytest.raises(ProtocolError, match="none of the 0 queries"):
        evaluate_retrieval(FeatureSet(query.features[:0], query.pids[:0], query.camids[:0]), gallery)
    for bad in ({"ranks": (0, 1)}, {"ranks": ()}, {"chunk_size": 0}, {"chunk_size": -1}):
        with pytest.raises(ConfigError, match="1 or more"):
            evaluate_retrieval(query, gallery, **bad)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_numbers():
    sets = tied_sets(5, queries=50, gallery=400)
    on_gpu = [FeatureSet(s.features.cuda(), s.pids, s.camids) for s in sets]
    assert_same(evaluate_retrieval(*on_gpu), slow(*sets))


def test_distances_of_float64_are_told_apart_where_float32_would_tie():
    query = FeatureSet(torch.zeros(1, 1, dtype=torch.float64), torch.tensor([1]), torch.tensor([0]))
    near = 1 + 1e-10 * torch.tensor([[3.0], [1.0], [2.0]], dtype=torch.float64)
    gallery = FeatureSet(near, torch.tensor([1, 2, 3]), torch.tensor([1, 1, 1]))
    assert evaluate_retrieval(query, gallery).per_query.first_hit_rank.tolist() == [3]
