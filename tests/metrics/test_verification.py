"""Verification against scikit-learn's ROC over all pairs, ties included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, roc_curve

import reference
from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.metrics import evaluate_verification
from aaformer_lit.structures import FeatureSet
from metric_tools import tied_sets

FAR = (0.0, 0.001, 0.01, 0.1, 0.5, 1.0)


def all_pairs(query, gallery):
    """Distance and sameness of every pair that counts, one at a time."""
    squared = reference.squared_euclidean(query.features.numpy(), gallery.features.numpy())
    distances, same = [], []
    for i, j in np.ndindex(*squared.shape):
        same_pid = bool(query.pids[i] == gallery.pids[j])
        same_camera = bool(query.camids[i] == gallery.camids[j]) and query.camids[i] != -1
        if -1 not in (query.pids[i], gallery.pids[j]) and not (same_pid and same_camera):
            distances.append(squared[i, j] ** 0.5)
            same.append(same_pid)
    return np.array(distances), np.array(same)


def crossing(far, tar):
    """Where the polyline meets FAR = 1 - TAR, by bisection along it."""
    length = np.arange(len(far), dtype=float)
    low, high = 0.0, length[-1]
    for _ in range(100):
        middle = (low + high) / 2
        x, y = np.interp(middle, length, far), np.interp(middle, length, tar)
        low, high = (middle, high) if x + y < 1 else (low, middle)
    return np.interp(high, length, far)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), levels=st.integers(1, 30), chunk_size=st.integers(1, 13))
def test_equals_scikit_learn(seed, levels, chunk_size):
    query, gallery = tied_sets(seed, gallery=40, ids=4, levels=levels, dim=3)
    distances, same = all_pairs(query, gallery)
    if not same.any() or same.all():
        with pytest.raises(ProtocolError):
            evaluate_verification(query, gallery)
        return
    got = evaluate_verification(query, gallery, far=FAR, chunk_size=chunk_size)
    far, tar, _ = roc_curve(same, -distances, drop_intermediate=False)
    assert (got.num_genuine, got.num_impostor) == (same.sum(), (~same).sum())
    assert got.auc == pytest.approx(auc(far, tar), abs=1e-12)
    assert got.tar == pytest.approx({rate: tar[far <= rate].max() for rate in FAR})
    assert got.eer == pytest.approx(crossing(far, tar), abs=1e-9)
    for threshold, share, rate in zip(got.thresholds[1:-1], got.roc_tar[1:-1], got.roc_far[1:-1], strict=True):
        accepted = distances <= threshold.item() * (1 + 1e-12)  # neighboring thresholds are 1e-8 apart
        assert share == pytest.approx(accepted[same].mean())
        assert rate == pytest.approx(accepted[~same].mean())


def test_perfect_separation_and_names():
    features = torch.tensor([[0.0], [10.0]])
    query = FeatureSet(features, torch.tensor([1, 2]), torch.tensor([0, 0]))
    gallery = FeatureSet(features + 1, torch.tensor([1, 2]), torch.tensor([1, 1]))
    got = evaluate_verification(query, gallery, far=(0.001,))
    assert got.as_dict("v/") == {"v/tar@far=0.001": 1.0, "v/eer": 0.0, "v/auc": 1.0}


def test_errors():
    query, gallery = tied_sets(0)
    with pytest.raises(ConfigError, match=r"\[0, 1\]"):
        evaluate_verification(query, gallery, far=(2.0,))
    with pytest.raises(ConfigError, match="chunk size must be 1 or more; got -1"):
        evaluate_verification(query, gallery, chunk_size=-1)
    with pytest.raises(ProtocolError, match="got 0 and"):
        evaluate_verification(query, FeatureSet(gallery.features, gallery.pids + 100, gallery.camids))
