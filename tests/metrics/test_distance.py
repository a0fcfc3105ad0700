"""Distances: against float64 differences, in full precision whatever the surroundings ask for, and clear errors."""

import contextlib
import re

import pytest
import torch

import reference
from aaformer_lit.errors import ConfigError, NumericsError
from aaformer_lit.metrics import distance
from aaformer_lit.metrics.distance import Cosine, SquaredEuclidean, full_precision, pair_distances

FEATURES = torch.randn(2, 1300, 40, generator=torch.Generator().manual_seed(0))
QUERY, GALLERY = FEATURES[0, :9], FEATURES[1]


def test_squared_euclidean_equals_differences_in_float64():
    expected = torch.from_numpy(reference.squared_euclidean(QUERY.numpy(), GALLERY.numpy()))
    torch.testing.assert_close(
        SquaredEuclidean(QUERY, GALLERY).rows(slice(None)).double(), expected, rtol=1e-5, atol=1e-5
    )
    row, col = torch.tensor([0, 8, 3]), torch.tensor([1299, 0, 77])
    torch.testing.assert_close(pair_distances(QUERY, GALLERY, row, col).double(), expected[row, col])


def test_cosine_is_half_the_squared_distance_of_normalized_features():
    unit = [torch.nn.functional.normalize(x.double()) for x in (QUERY, GALLERY)]
    half = SquaredEuclidean(*unit).rows(slice(2, 7)) / 2
    torch.testing.assert_close(Cosine(QUERY, GALLERY).rows(slice(2, 7)), half.float(), rtol=0, atol=1e-6)
    assert Cosine(torch.zeros(1, 40), GALLERY).rows(slice(None)).unique().tolist() == [1.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_compared_in_float32_or_better(dtype, monkeypatch):
    monkeypatch.setattr(distance, "_CAST_ROWS", 500)
    query, gallery = QUERY.to(dtype), GALLERY.to(dtype)
    got = SquaredEuclidean(query, gallery).rows(slice(None))
    assert got.dtype == torch.promote_types(dtype, torch.float32)
    expected = torch.from_numpy(reference.squared_euclidean(query.double().numpy(), gallery.double().numpy()))
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


def test_never_negative_and_equal_features_of_integers_are_at_zero():
    features = torch.randint(-3, 4, (50, 7)).float()
    distances = SquaredEuclidean(features, features.clone()).rows(slice(None))
    assert distances.min() == 0
    assert distances.diagonal().eq(0).all()
    near = 100 + torch.randn(60, 16) * 1e-4
    assert SquaredEuclidean(near, near).rows(slice(None)).min() >= 0


def test_reduced_precision_and_autocast_do_not_reach_the_products():
    exact = SquaredEuclidean(QUERY, GALLERY).rows(slice(None))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(SquaredEuclidean(QUERY, GALLERY).rows(slice(None)), exact)
            assert (QUERY @ QUERY.T).dtype == torch.bfloat16
            with full_precision("cpu"):
                assert (QUERY @ QUERY.T).dtype == torch.float32
                assert cuda_precision() == "full"
        assert cuda_precision() == "reduced"
        assert torch.get_float32_matmul_precision() == "medium"
        with contextlib.suppress(KeyError), full_precision("cpu"):
            raise KeyError
        assert cuda_precision() == "reduced"
    finally:
        torch.set_float32_matmul_precision(before)


def cuda_precision():
    """The setting is visible without a GPU; torch < 2.9 has it under the old name only."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):
        return "full" if matmul.fp32_precision == "ieee" else "reduced"
    return "reduced" if matmul.allow_tf32 else "full"


@pytest.mark.parametrize(("query", "gallery"), [(QUERY, GALLERY[0]), (QUERY[0], GALLERY), (QUERY[:, 1:], GALLERY)])
def test_features_of_other_shapes_are_refused(query, gallery):
    shapes = rf"{re.escape(str(tuple(query.shape)))}.*{re.escape(str(tuple(gallery.shape)))}.*same dim.*same model"
    with pytest.raises(ConfigError, match=shapes):
        SquaredEuclidean(query, gallery)


def test_errors_say_which_features_are_wrong():
    broken = GALLERY.clone()
    broken[7, 3], broken[9, 0] = torch.nan, torch.inf
    with pytest.raises(NumericsError, match=r"2 of 1300 query features.*row 7"):
        SquaredEuclidean(broken, QUERY)
    with pytest.raises(NumericsError, match=r"2 of 1300 gallery features.*row 7"):
        SquaredEuclidean(QUERY, broken)
