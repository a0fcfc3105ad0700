"""Tracklets: weighted means and medoids against plain loops, and what a bad frame may do to them."""

import pytest
import torch
from torch.nn import functional as F

from aaformer_lit.errors import ConfigError
from aaformer_lit.tracking import Tracklet, tracklet_descriptor


def frames(count=7, dim=5):
    generator = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(count, dim, generator=generator), dim=1), torch.rand(count, generator=generator)


def test_the_mean_is_weighted_and_of_length_one():
    features, quality = frames()
    total = sum(w.item() * f for f, w in zip(features, quality, strict=True))
    torch.testing.assert_close(tracklet_descriptor(features, quality), total / total.norm())
    torch.testing.assert_close(tracklet_descriptor(features), F.normalize(features.mean(0), dim=0))
    torch.testing.assert_close(tracklet_descriptor(features * 1, quality * 3), tracklet_descriptor(features, quality))


def test_weights_are_where_the_features_are():
    features, _ = frames()
    expected = tracklet_descriptor(features), tracklet_descriptor(features, torch.ones(len(features)))
    with torch.device("meta"):  # where whatever is made without a device goes, as on a machine with two
        found = tracklet_descriptor(features), tracklet_descriptor(features, torch.ones(len(features), device="cpu"))
    assert all(map(torch.equal, found, expected))


def test_the_medoid_is_the_frame_nearest_to_the_others():
    features, quality = frames()
    costs = [sum(w.item() * (f - g).norm().item() for g, w in zip(features, quality, strict=True)) for f in features]
    best = min(range(len(costs)), key=costs.__getitem__)
    torch.testing.assert_close(tracklet_descriptor(features, quality, "medoid"), features[best])
    # a frame of weight 0 is not chosen, however central
    weightless = quality.clone()
    weightless[best] = 0
    assert not torch.allclose(tracklet_descriptor(features, weightless, "medoid"), features[best])


def test_one_frame_of_somebody_else_moves_the_medoid_less_than_the_mean():
    one = F.normalize(torch.tensor([[1.0, 0.02], [1.0, -0.02], [1.0, 0.0], [-0.2, 1.0]]), dim=1)
    person = torch.tensor([1.0, 0.0])
    away = {method: (tracklet_descriptor(one, None, method) - person).norm().item() for method in ("mean", "medoid")}
    assert away["medoid"] < 0.05 < away["mean"]


def test_a_tracklet_keeps_the_best_frames_and_passes_over_empty_ones():
    features, quality = frames()
    track = Tracklet(frames=3)
    for feature, weight in zip(features, quality, strict=True):
        track.add(feature, weight)
        track.add(torch.zeros(5), 0.0)
    best = quality.topk(3).indices
    assert len(track) == 3
    torch.testing.assert_close(track.descriptor, tracklet_descriptor(features[best], quality[best]))


def test_mistakes_are_told_in_words():
    features, quality = frames()
    for wrong in (-quality, quality[:3], torch.zeros(7)):
        with pytest.raises(ConfigError, match=r"a quality of 0 or more, one of them above 0; got features \(7, 5\)"):
            tracklet_descriptor(features, wrong)
    with pytest.raises(ConfigError, match="method"):
        Tracklet(method="median")
    with pytest.raises(ConfigError, match="frames=0"):
        Tracklet(frames=0)
    with pytest.raises(ConfigError, match="no frame with pixels yet"):
        _ = Tracklet().descriptor
