"""A threshold keeps its promise on people it was not chosen on: counted over three thousand simulated galleries."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import beta, norm

from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.metrics.calibration import Calibration, Threshold, calibrate_thresholds, people_needed, upper_bound
from aaformer_lit.structures import FeatureSet

DELTA = 0.1
GALLERIES = 1000


def people(rng, count, cameras=2, pictures=2, spread=0.05, place=None):
    """Points on a line: a place for each person, and pictures around it."""
    places = rng.normal(size=count) if place is None else place
    pids = np.repeat(np.arange(count), cameras * pictures)
    camids = np.tile(np.repeat(np.arange(cameras), pictures), count) if cameras > 1 else np.full(count * pictures, -1)
    features = places[pids] + spread * rng.normal(size=len(pids))
    return FeatureSet(torch.tensor(features[:, None]).float(), torch.tensor(pids), torch.tensor(camids))


def true_far(distance, spread=0.05):
    """Of two people of `people`: their pictures differ by a normal variable."""
    return math.erf(distance / math.sqrt(2) / math.sqrt(2 + 2 * spread**2))


def test_the_bound_of_false_accepts_holds_in_simulated_galleries():
    rng = np.random.default_rng(0)
    rates = [
        true_far(
            calibrate_thresholds(people(rng, 40, cameras=1), far=0.2, miss=0.3, confidence=1 - DELTA).accept.distance
        )
        for _ in range(GALLERIES)
    ]
    broken = np.mean(np.array(rates) > 0.2)
    assert broken <= DELTA
    assert np.mean(rates) > 0.02  # and not because nothing is ever accepted


def test_the_bound_holds_where_some_people_look_like_everybody():
    """The worst case: few people cause all false accepts, and may be absent from the sample."""
    rng, share = np.random.default_rng(1), 0.13
    far = 0.2  # with one look-alike in the pair: 1 - (1 - 0.13)^2 = 0.243, more than promised
    broken = 0
    for _ in range(GALLERIES):
        alike = rng.random(30) < share
        # everybody is far from everybody (unit vectors), but look-alikes stand in the middle
        features = torch.eye(30, 31) * 10
        features[torch.from_numpy(alike)] = 10 / 31 + 0.01 * torch.rand(int(alike.sum()), 31)
        both = FeatureSet(features.repeat(2, 1), torch.arange(30).repeat(2), torch.full((60,), -1))
        found = calibrate_thresholds(both, far=far, miss=0.5, confidence=1 - DELTA)
        broken += found.accept.distance >= float((torch.eye(1, 31) * 10 - 10 / 31).norm())
    assert 0 < broken / GALLERIES <= DELTA


def test_the_bound_of_false_rejects_holds_in_simulated_galleries():
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(GALLERIES):
        found = calibrate_thresholds(people(rng, 30, cameras=1, spread=0.3), far=0.3, miss=0.2, confidence=1 - DELTA)
        rates.append(2 * norm.sf(found.reject.distance / (0.3 * math.sqrt(2))))
    assert np.mean(np.array(rates) > 0.2) <= DELTA


def test_pictures_are_no_units():
    """Twenty pictures of each person are no more evidence than two; counting pairs would promise far too much."""
    few, many = (people(np.random.default_rng(3), 40, pictures=n, spread=0.001) for n in (1, 10))
    found = [calibrate_thresholds(one, far=0.2, miss=0.3).accept for one in (few, many)]
    assert found[0].bound == pytest.approx(found[1].bound, abs=0.02)
    assert found[1].people == 40


def test_rates_are_those_of_a_slow_loop():
    rng = np.random.default_rng(4)
    data = people(rng, 7, cameras=3, pictures=2, spread=0.4)
    kept = torch.from_numpy(rng.random(len(data)) < 0.8)  # people with other numbers of pictures and cameras
    data = FeatureSet(data.features[kept], data.pids[kept], data.camids[kept])
    found = calibrate_thresholds(data, far=0.3, miss=0.2, promise=False)
    x, pid, cam = data.features[:, 0].double().numpy(), data.pids.numpy(), data.camids.numpy()

    def cell(i, a, j, b, test):
        return np.mean([test(abs(x[m] - x[n])) for m in np.flatnonzero((pid == i) & (cam == a))
                        for n in np.flatnonzero((pid == j) & (cam == b))])  # fmt: skip

    cams = {i: sorted(set(cam[pid == i])) for i in set(pid)}
    accepted = np.mean([np.mean([cell(i, a, j, b, lambda d: d <= found.accept.distance) for a in cams[i] for b in cams[j]])
                        for i in cams for j in cams if i != j])  # fmt: skip
    assert found.accept.measured == pytest.approx(accepted, abs=2e-3)
    assert 0.2 < found.accept.measured <= 0.3
    missed = np.mean([np.mean([cell(i, a, i, b, lambda d: d > found.reject.distance) for a in cams[i] for b in cams[i]
                               if a != b]) for i in cams if len(cams[i]) > 1])  # fmt: skip
    assert found.reject.measured == pytest.approx(missed, abs=2e-3)
    taken = np.mean([np.mean([cell(i, a, i, b, lambda d: d <= found.accept.distance) for a in cams[i] for b in cams[i]
                              if a != b]) for i in cams if len(cams[i]) > 1])  # fmt: skip
    assert found.true_accepts == pytest.approx(taken, abs=2e-3)


def test_the_bound_is_at_least_the_exact_one_of_coins():
    for observations in (5, 30, 400):
        assert upper_bound(0.0, observations, 0.05) == pytest.approx(1 - 0.05 ** (1 / observations), rel=1e-6)
        for hits in range(0, observations, max(1, observations // 7)):
            exact = beta.ppf(0.95, hits + 1, observations - hits)  # Clopper and Pearson's
            assert (
                exact <= upper_bound(hits / observations, observations, 0.05) <= exact + 1.4 / math.sqrt(observations)
            )
    assert upper_bound(0.3, 0, 0.05) == upper_bound(1.0, 9, 0.05) == 1
    assert people_needed(0.001, 0.05) == 5990


def test_cameras_with_enough_people_have_their_own():
    rng = np.random.default_rng(5)
    places = rng.normal(size=80)
    data = people(rng, 80, cameras=3, pictures=1, place=places)
    # camera 2 has seen only ten people
    kept = (data.camids != 2) | (data.pids < 10)
    # camera 1 sees everybody at a tenth of the distance, so needs a smaller threshold
    features = torch.where(data.camids[:, None] == 1, data.features / 10, data.features)
    found = calibrate_thresholds(
        FeatureSet(features[kept], data.pids[kept], data.camids[kept]), far=0.2, miss=0.9, confidence=0.9
    )
    assert set(found.cameras) == {"0-0", "0-1", "1-1"}
    assert found.cameras["1-1"].distance < 0.3 * found.cameras["0-0"].distance
    middle = (found.cameras["1-1"].distance + found.accept.distance) / 2
    assert found.decide(middle) == "accepted" == found.decide(middle, ("0", "2"))
    assert found.decide(middle, ("1", "1")) != "accepted"


def test_decisions_and_what_is_kept_of_them():
    found = calibrate_thresholds(people(np.random.default_rng(6), 60, spread=1.0), far=0.2, miss=0.2)
    assert found.accept.distance < found.reject.distance
    places = (found.accept.distance, (found.accept.distance + found.reject.distance) / 2, found.reject.distance + 0.01)
    assert [found.decide(distance) for distance in places] == ["accepted", "unsure", "rejected"]
    assert Calibration.from_dict(found.as_dict()) == found
    with pytest.raises(ConfigError, match="distance of 0 or more; got nan"):
        Threshold(math.nan, 0.1, 0.2, 40)
    good = calibrate_thresholds(people(np.random.default_rng(6), 60, spread=0.001), far=0.4, miss=0.2)
    assert good.reject.distance < good.accept.distance  # people are well apart: nothing is unsure
    assert good.decide(good.accept.distance) == "accepted"
    assert good.decide(good.accept.distance + 1e-6) == "rejected"


@pytest.mark.parametrize("count", [3, 4])
def test_a_promise_that_allows_no_error_at_all_ends_at_the_largest_distance(count):
    """The promise is the bound that nothing but a faultless sample reaches; the shares of 3 people do not sum to 1 exactly."""
    data = people(np.random.default_rng(9), count, cameras=2, pictures=2)
    found = calibrate_thresholds(data, far=0.99, miss=upper_bound(0.0, count, 0.25), confidence=0.75)
    assert found.reject.measured == 0


def test_unknown_cameras_compare_different_pictures():
    data = people(np.random.default_rng(7), 40, cameras=1, pictures=2, spread=0.5)
    data = FeatureSet(data.features, data.pids, torch.full_like(data.camids, -1))
    found = calibrate_thresholds(data, far=0.3, miss=0.3, promise=False)
    apart = (data.features[::2] - data.features[1::2]).abs().flatten()
    assert found.reject.measured == pytest.approx(float((apart > found.reject.distance).double().mean()), abs=0.03)
    assert not found.cameras


def test_what_cannot_be_promised_is_refused_in_words():
    data = people(np.random.default_rng(8), 40)
    with pytest.raises(
        ConfigError, match=r"far=0.001 cannot be promised from 40 people.* the bound is 0.14 .*5,990 people"
    ):
        calibrate_thresholds(data, far=0.001)
    with pytest.raises(ConfigError, match=r"miss=0.01 cannot be promised .*299 people"):
        calibrate_thresholds(data, far=0.3, miss=0.01)
    few = data.select((data.camids == 0) | (data.pids < 10))
    with pytest.raises(ConfigError, match=r"miss=0.2 cannot be promised from 10 people with pictures in two cameras"):
        calibrate_thresholds(few, far=0.3, miss=0.2)
    with pytest.raises(ConfigError, match="confidence=1 must lie"):
        calibrate_thresholds(data, confidence=1)
    assert calibrate_thresholds(data, far=0.001, promise=False).accept.bound > 0.1  # told, not promised
    with pytest.raises(ConfigError, match=r"no distance has far=0.2.* share of 1 "):
        calibrate_thresholds(FeatureSet(torch.zeros(160, 1), data.pids, data.camids), far=0.2, miss=0.3)
    with pytest.raises(ProtocolError, match="got 1 of them"):
        calibrate_thresholds(FeatureSet(torch.rand(4, 1), torch.zeros(4, dtype=torch.long), torch.arange(4)))
    with pytest.raises(ProtocolError, match="nobody has pictures in two cameras"):
        calibrate_thresholds(
            FeatureSet(torch.rand(40, 1), torch.arange(40), torch.zeros(40, dtype=torch.long)), far=0.3, miss=0.3
        )


def test_the_rates_of_a_camera_pair_are_those_of_a_slow_loop_over_the_people_it_has_seen():
    rng = np.random.default_rng(10)
    data = people(rng, 40, cameras=2, pictures=3, spread=0.3)
    data = FeatureSet(torch.where(data.camids[:, None] == 1, data.features / 3, data.features), data.pids, data.camids)
    kept = torch.from_numpy(rng.random(len(data)) < 0.7)  # cells of other sizes
    kept &= (data.camids == 0) | (data.pids >= 12)  # camera 1 has seen 28 people
    data = data.select(kept)
    found = calibrate_thresholds(data, far=0.3, miss=0.5, promise=False)
    x, pid, cam = data.features[:, 0].double().numpy(), data.pids.numpy(), data.camids.numpy()
    assert set(found.cameras) == {"0-0", "0-1", "1-1"}
    for first, second in ((0, 0), (0, 1), (1, 1)):
        threshold = found.cameras[f"{first}-{second}"]
        seen = [i for i in range(40) if all(((pid == i) & (cam == camera)).any() for camera in (first, second))]
        one, other = ({i: x[(pid == i) & (cam == camera)] for i in seen} for camera in (first, second))
        rates = [np.mean(abs(one[i][:, None] - other[j]) <= threshold.distance) for i in seen for j in seen if i != j]
        assert threshold.measured == pytest.approx(np.mean(rates), abs=3e-3)
        assert threshold.people == len(seen)
        assert threshold.bound == pytest.approx(upper_bound(threshold.measured, len(seen) // 2, 0.05))


def test_misses_are_promised_by_those_who_can_be_missed():
    data = people(np.random.default_rng(11), 80, spread=0.3)
    data = data.select((data.camids == 0) | (data.pids < 20))
    found = calibrate_thresholds(data, far=0.3, miss=0.3)
    assert found.reject.people == 20
    assert found.reject.bound == pytest.approx(upper_bound(found.reject.measured, 20, 0.05))
    assert found.reject.bound <= 0.3
