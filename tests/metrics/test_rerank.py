"""k-reciprocal re-ranking against dense loops; nearest neighbors against a stable argsort."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.metrics import KReciprocal, SquaredEuclidean, evaluate_retrieval, k_reciprocal_rerank, rerank
from aaformer_lit.metrics.neighbors import nearest_neighbors, self_neighbors, smallest
from aaformer_lit.structures import FeatureSet


def features(seed, queries, gallery, dim=6, levels=0):
    """Blobs around few centers, so that the sets do grow; on an integer grid (levels > 0) with many exact ties."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(4, dim))
    values = centers[rng.integers(0, 4, queries + gallery)] + 0.5 * rng.normal(size=(queries + gallery, dim))
    if levels:
        values = np.round(values * levels)
    return torch.from_numpy(values).float().split([queries, gallery])


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    queries=st.integers(1, 10),
    gallery=st.integers(1, 40),
    k1=st.integers(1, 25),
    k2=st.integers(1, 8),
    lambda_value=st.sampled_from([0.0, 0.3, 1.0]),
    levels=st.integers(0, 2),
)
def test_equals_the_dense_loops(seed, queries, gallery, k1, k2, lambda_value, levels):
    query, gallery = features(seed, queries, gallery, levels=levels)
    if torch.cat([query, gallery]).unique(dim=0).shape[0] < 2:
        return  # all images equal: the loops divide 0 by 0
    got = k_reciprocal_rerank(query, gallery, k1, k2, lambda_value)
    expected = reference.k_reciprocal_rerank(query.numpy(), gallery.numpy(), k1, k2, lambda_value)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_defaults_on_a_larger_set_in_many_small_steps(monkeypatch):
    query, gallery = features(1, 30, 150)
    expected = reference.k_reciprocal_rerank(query.numpy(), gallery.numpy())
    np.testing.assert_allclose(k_reciprocal_rerank(query, gallery), expected, atol=1e-5)
    monkeypatch.setattr(rerank, "_STEP", 500)
    prepared = KReciprocal().prepare(query, gallery)
    chunked = torch.cat([prepared.rows(slice(i, i + 7)) for i in range(0, 30, 7)])
    np.testing.assert_allclose(chunked, expected, atol=1e-5)


def test_lambda_one_is_the_original_ranking_and_equal_images_stay_finite():
    query, gallery = features(2, 5, 30)
    original = SquaredEuclidean(query, gallery).rows(slice(None))
    assert torch.equal(k_reciprocal_rerank(query, gallery, lambda_value=1).argsort(1), original.argsort(1))
    assert k_reciprocal_rerank(torch.ones(2, 3), torch.ones(4, 3)).isfinite().all()


def test_half_of_k1_rounds_to_even_like_numpy():
    query, gallery = features(4, 10, 30)
    for k1 in (1, 3, 5, 9, 13):  # k1 / 2 = .5, 1.5, 2.5, 4.5, 6.5
        expected = reference.k_reciprocal_rerank(query.numpy(), gallery.numpy(), k1)
        np.testing.assert_allclose(k_reciprocal_rerank(query, gallery, k1), expected, atol=1e-5)


def test_the_two_thirds_rule_is_exact_in_integers():
    """3 * shared > 2 * size is what the authors' float comparison `shared > 2. / 3 * size` says, for every size."""
    assert all(
        (3 * shared > 2 * size) == (shared > 2.0 / 3 * size) for size in range(500) for shared in range(size + 1)
    )


def test_evaluate_retrieval_streams_the_same_distances():
    query, gallery = features(5, 20, 90)
    rng = np.random.default_rng(0)
    pids, camids = (torch.from_numpy(rng.integers(0, n, 110)).split([20, 90]) for n in (6, 4))
    sets = [FeatureSet(f, p, c) for f, p, c in zip((query, gallery), pids, camids, strict=True)]
    got = evaluate_retrieval(*sets, rerank=KReciprocal(k1=8, k2=3), chunk_size=6)
    # the loops' float64 distances, rounded alike on both sides so that ties stay ties
    expected = reference.retrieval(
        np.round(reference.k_reciprocal_rerank(query.numpy(), gallery.numpy(), 8, 3), 5),
        pids[0].tolist(), camids[0].tolist(), pids[1].tolist(), camids[1].tolist(),
    )  # fmt: skip
    assert got.mAP == pytest.approx(expected.mAP, abs=1e-3)
    dense = k_reciprocal_rerank(query, gallery, 8, 3)
    again = reference.retrieval(
        dense.tolist(), pids[0].tolist(), camids[0].tolist(), pids[1].tolist(), camids[1].tolist()
    )
    assert got.mAP == pytest.approx(again.mAP, rel=1e-12)
    assert got.per_query.first_hit_rank.tolist() == again.first_hit_rank
    assert got.mAP != evaluate_retrieval(*sets).mAP


def test_junk_is_dropped_before_it_can_be_a_neighbor():
    query, gallery = features(6, 10, 60)
    pids = torch.arange(60) % 5 - 1
    gallery_set = FeatureSet(gallery, pids, torch.ones(60, dtype=torch.int64))
    keep = pids >= 0
    cleaned = FeatureSet(gallery[keep], pids[keep], gallery_set.camids[keep])
    query_set = FeatureSet(query, torch.arange(10) % 4, torch.zeros(10, dtype=torch.int64))
    with_junk, without = (evaluate_retrieval(query_set, g, rerank=KReciprocal(5, 2)) for g in (gallery_set, cleaned))
    assert with_junk.mAP == without.mAP


@pytest.mark.parametrize("bad", [{"k1": 0}, {"k2": 0}, {"lambda_value": 1.5}])
def test_parameters_that_cannot_work(bad):
    with pytest.raises(ConfigError, match="k1 >= 1"):
        KReciprocal(**bad)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 6),
    columns=st.integers(1, 40),
    levels=st.integers(1, 8),
    data=st.data(),
)
def test_smallest_is_a_stable_argsort_cut_at_k(seed, rows, columns, levels, data):
    values = torch.from_numpy(np.random.default_rng(seed).integers(0, levels, (rows, columns))).float()
    k = data.draw(st.integers(1, columns))
    got = smallest(values, k)
    order = np.argsort(values.numpy(), axis=1, kind="stable")[:, :k]
    assert got.indices.tolist() == order.tolist()
    assert torch.equal(got.distances, values.gather(1, got.indices))


@pytest.mark.parametrize("levels", [0, 1])
def test_neighbors_within_two_sets_for_every_tile_size(levels):
    query, gallery = features(7, 13, 46, levels=levels)
    everyone = torch.cat([query, gallery])
    squared = torch.from_numpy(reference.squared_euclidean(everyone.numpy(), everyone.numpy()))
    order = squared.sort(dim=1, stable=True).indices[:, :9]
    for tile in (5, 13, 64):
        got = self_neighbors([query, gallery], 9, tile)
        assert torch.equal(got.indices, order)
        torch.testing.assert_close(got.farthest.double(), squared.amax(1), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got.distances.double(), squared.gather(1, order), rtol=1e-5, atol=1e-5)
        assert (
            got.distances[got.indices == torch.arange(59)[:, None]].eq(0).all()
        )  # an image is itself, without rounding
    across = nearest_neighbors(SquaredEuclidean(query, gallery), 4, chunk_size=5)
    assert torch.equal(across.indices, squared[:13, 13:].sort(dim=1, stable=True).indices[:, :4])


def test_neighbors_of_no_query_and_more_than_there_are():
    query, gallery = features(7, 3, 8)
    nothing = nearest_neighbors(SquaredEuclidean(query[:0], gallery), 2)
    assert nothing.distances.shape == nothing.indices.shape == (0, 2)
    everything = nearest_neighbors(SquaredEuclidean(query, gallery), 8)
    assert everything.indices.sort(dim=1).values.tolist() == [list(range(8))] * 3
    for k in (0, 9):
        with pytest.raises(ConfigError, match=f"no k={k} nearest of 8 gallery images"):
            nearest_neighbors(SquaredEuclidean(query, gallery), k)


@pytest.mark.parametrize(("queries", "images"), [(0, 0), (0, 5), (5, 0)])
def test_without_a_pair_there_is_nothing_to_rerank(queries, images):
    query, gallery = features(8, 5, 5)
    assert k_reciprocal_rerank(query[:queries], gallery[:images]).shape == (queries, images)
    sets = [FeatureSet(x[:n], torch.arange(n), torch.full((n,), -1)) for x, n in ((query, queries), (gallery, images))]
    with pytest.raises(ProtocolError, match=f"none of the {queries} queries has a match"):
        evaluate_retrieval(*sets, rerank=KReciprocal())
