"""From distances to decisions: a threshold whose false accepts are bounded on people it was not chosen on.

Two pictures of different people are falsely accepted if their distance is at most the threshold. The rate is that of a random
pair of people, seen by a random pair of cameras: pictures of one person are alike, so a thousand of them are not a thousand
observations, and people and camera pairs count alike however many pictures they have.

    u(x) = 1 / (cameras of its person * pictures of its person in its camera)
    U(t) = sum of u(x) u(y) [d(x, y) <= t] over pictures x, y of different people / (n (n - 1))

U is a U-statistic of n people with values in [0, 1]. Hoeffding (1963) writes it as a mean, over all orders of the people, of
means over m = floor(n / 2) pairs that share nobody. So Chernoff's bound for m independent observations holds:

    P( m KL(U || rate) > ln(1 / delta)  and  U < rate ) <= delta

`upper_bound` solves it for the rate. The bound grows with the threshold, so the largest threshold whose bound is within the
wanted rate keeps it with probability 1 - delta (Bates et al., JACM 2021): for n people of any kind, not for n to infinity.
False rejects, of pictures of one person in different cameras, are a mean over n people, bounded alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations_with_replacement
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.metrics.distance import SquaredEuclidean
from aaformer_lit.metrics.protocol import JUNK_PID, UNKNOWN_CAMID
from aaformer_lit.structures import FeatureSet

_BINS = 1 << 14  # of the distance; a threshold lies between two
Decision = Literal["accepted", "unsure", "rejected"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """A distance, how often pairs on its wrong side were measured, and at most how often there are such pairs.

    `bound` holds with the calibration's confidence; `people` is how many were looked at.
    """

    distance: float
    measured: float
    bound: float
    people: int

    def __post_init__(self) -> None:
        if not 0 <= self.distance < math.inf:
            raise ConfigError(f"a threshold is a distance of 0 or more; got {self.distance}.")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Distances for decisions: at most `accept` is accepted, above `reject` rejected, in between unsure.

    `true_accepts` is the measured share of one person's pictures in different cameras that are accepted. `cameras` has the
    accept thresholds of the camera pairs with enough people for one of their own, as "1-2".
    """

    far: float
    miss: float
    confidence: float
    promised: bool
    accept: Threshold
    reject: Threshold
    true_accepts: float
    cameras: Mapping[str, Threshold] = field(default_factory=dict)

    def decide(self, distance: float, cameras: tuple[str, str] = ("", "")) -> Decision:
        """About two pictures at a distance, of these cameras where they are known."""
        own = self.cameras.get(pair_name(*cameras))
        accept = self.accept.distance if own is None else own.distance
        if distance <= accept:
            return "accepted"
        return "unsure" if distance <= max(accept, self.reject.distance) else "rejected"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """The inverse of `as_dict`."""
        values = {key: content[key] for key in ("far", "miss", "confidence", "promised", "true_accepts")}
        cameras = {name: Threshold(**one) for name, one in content["cameras"].items()}
        return cls(
            **values, accept=Threshold(**content["accept"]), reject=Threshold(**content["reject"]), cameras=cameras
        )


def calibrate_thresholds(
    features: FeatureSet,
    *,
    far: float = 0.01,
    miss: float = 0.05,
    confidence: float = 0.95,
    promise: bool = True,
    camera_names: Mapping[int, str] | None = None,
) -> Calibration:
    """Thresholds from held-out people.

    Args:
        features: of people whom the network was not trained on; pid -1 is dropped.
        far: wanted rate of false accepts, of pairs of different people.
        miss: wanted rate of false rejects, of one person's pictures in different cameras.
        confidence: 1 - delta, of each bound by itself.
        promise: choose thresholds whose bound is within the wanted rate; else by the measured rate, and only tell the bound.
        camera_names: what the cameras are called where their camids stand for names; by these a search knows them.

    Raises:
        ConfigError: a rate or confidence outside (0, 1), or too few people for the promise.
        ProtocolError: fewer than two people, or nobody with two pictures to compare.
    """
    check_rates(far, miss, confidence)
    people = _People(features)
    delta = 1 - confidence
    ends, missed, able = people.genuine()
    if promise:
        check_enough(people.count, far, miss, confidence, able)
    accept = _largest(*people.impostors(), people.count, far, delta, promise)
    reject = _smallest(ends, missed, able, miss, delta, promise)
    below = int((ends <= accept.distance * (1 + 1e-9)).sum())
    true_accepts = 1 - float(missed[below - 1]) if below else 0.0
    cameras, names = {}, camera_names or {}
    for first, second in combinations_with_replacement(people.cameras, 2):
        seen = people.seen_by(first, second)
        if upper_bound(0.0, len(seen) // 2, delta) <= far:
            between = people.impostors_between(first, second, seen)
            pair = pair_name(names.get(first, str(first)), names.get(second, str(second)))
            cameras[pair] = _largest(*between, len(seen), far, delta, promise)
    return Calibration(far, miss, confidence, promise, accept, reject, true_accepts, cameras)


def check_rates(far: float, miss: float, confidence: float) -> None:
    """Raise `ConfigError` for a rate or a confidence outside (0, 1)."""
    for name, value in (("far", far), ("miss", miss), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigError(f"{name}={value} must lie between 0 and 1.")


def check_enough(people: int, far: float, miss: float, confidence: float, in_two_cameras: int | None = None) -> None:
    """Raise `ConfigError` where so many people cannot promise these rates, with how many it takes.

    `in_two_cameras`: how many of them have pictures to miss; None: all.
    """
    delta, able = 1 - confidence, people if in_two_cameras is None else in_two_cameras
    for name, rate, count, lowest, needed in (
        ("far", far, people, upper_bound(0.0, people // 2, delta), people_needed(far, delta)),
        ("miss", miss, able, upper_bound(0.0, able, delta), people_needed(miss, delta) // 2),
    ):
        if lowest > rate:
            whom = "people" if count == people else "people with pictures in two cameras"
            raise ConfigError(
                f"{name}={rate:g} cannot be promised from {count} {whom}: even without a single error among them the bound is "
                f"{lowest:.2g} at confidence {confidence:g}. It takes {needed:,} people. Give a larger {name}, more people, a "
                "lower confidence, or promise=false for a threshold by the measured rate."
            )


def upper_bound(measured: float, observations: int, delta: float) -> float:
    """The largest rate that `measured`, a mean of so many observations in [0, 1], does not rule out at level delta.

    The rate r >= measured at which `observations * KL(measured || r) = ln(1 / delta)`; 1 without observations.
    """
    if observations < 1 or measured >= 1:
        return 1.0
    allowed = math.log(1 / delta) / observations
    low, high = measured, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(measured, middle) <= allowed else (low, middle)
    return high


def people_needed(far: float, delta: float) -> int:
    """How many people a promise of this rate takes, if none of them is ever mistaken for another."""
    return 2 * math.ceil(math.log(delta) / math.log1p(-far))


def pair_name(first: str, second: str) -> str:
    """One name for two cameras, whichever comes first."""
    return "-".join(sorted((first, second)))


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two coins, in nats."""
    heads = p * math.log(p / q) if p > 0 else 0.0
    if q >= 1:
        return math.inf
    return heads + (1 - p) * math.log((1 - p) / (1 - q))


def _allowed(wanted: float, observations: int, delta: float, promise: bool) -> float:
    """The largest measured rate whose bound (see `upper_bound`), or which itself, is within the wanted rate."""
    if not promise:
        return wanted
    needed = math.log(1 / delta) / observations if observations else math.inf
    low, high = 0.0, wanted
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(middle, wanted) >= needed else (low, middle)
    return low


def _largest(edges: Tensor, rate: Tensor, people: int, wanted: float, delta: float, promise: bool) -> Threshold:
    """The largest distance whose false accepts, or their bound, stay within the wanted rate."""
    observations = people // 2
    within = int((rate <= _allowed(wanted, observations, delta, promise)).sum())
    if not within:
        raise ConfigError(
            f"no distance has far={wanted:g}: of pictures of different people a share of {float(rate[0]):.2g} is at no "
            "distance. Look for copies of pictures under several pids, and for a network that gives everybody one descriptor."
        )
    measured = float(rate[within - 1])
    return Threshold(float(edges[within - 1]), measured, upper_bound(measured, observations, delta), people)


def _smallest(edges: Tensor, rate: Tensor, people: int, wanted: float, delta: float, promise: bool) -> Threshold:
    """The smallest distance beyond which the pictures of one person, or the bound of their share, are rare enough."""
    beyond = int((rate > _allowed(wanted, people, delta, promise)).sum())  # at the largest distance there are none
    measured = float(rate[beyond])
    return Threshold(float(edges[beyond]), measured, upper_bound(measured, people, delta), people)


class _People:
    """Held-out people, and the weighted distances of their pictures as shares by equal bins."""

    def __init__(self, features: FeatureSet) -> None:
        kept = features.pids != JUNK_PID
        described = features.features[kept].float().cpu()
        _, self.person = features.pids[kept].cpu().unique(return_inverse=True)
        self.camids = features.camids[kept].cpu()
        self.count = int(self.person.max()) + 1 if len(self.person) else 0
        if self.count < 2:
            raise ProtocolError(f"a threshold is found on pairs of people; got {self.count} of them.")
        self.cameras: list[int] = [c for c in self.camids.unique().tolist() if c != UNKNOWN_CAMID]
        place, self.place_of = torch.stack([self.person, self.camids]).unique(dim=1, return_inverse=True)
        self.pictures = torch.bincount(self.place_of)[self.place_of].double()
        self.places = torch.bincount(place[0], minlength=self.count)[self.person].double()
        self.distances = SquaredEuclidean(described, described)
        self.largest = 2 * float(described.norm(dim=1).max()) * (1 + 1e-6) + 1e-12

    def impostors(self) -> tuple[Tensor, Tensor]:
        """Distances, and the share of pictures of different people at most so far apart."""
        weight = 1 / (self.places * self.pictures)
        edges, below = self._shares(weight, weight, self._different)
        return edges[:-1], below

    def impostors_between(self, first: int, second: int, seen: Int[Tensor, " people"]) -> tuple[Tensor, Tensor]:
        """The same of two cameras alone, for the people whom both have seen."""
        known = torch.isin(self.person, seen)
        left, right = (
            torch.where(known & (self.camids == camera), 1 / self.pictures, 0.0) for camera in (first, second)
        )
        edges, below = self._shares(left, right, self._different)
        return edges[:-1], below

    def genuine(self) -> tuple[Tensor, Tensor, int]:
        """Distances, the share of one person's pictures in different cameras that are farther apart, and how many people.

        Of people whose cameras are unknown, pictures are compared that are not the same.
        """
        unknown = (self.camids == UNKNOWN_CAMID) & (self.places == 1)
        cells = self.places * (self.places - 1) * self.pictures
        pairs = torch.where(unknown, self.pictures * (self.pictures - 1), cells)
        weight = torch.where(pairs > 0, 1 / pairs.clamp(min=1), 0.0)
        other = torch.where(unknown, 1.0, 1 / self.pictures)
        able = len(self.person[pairs > 0].unique())
        if not able:
            raise ProtocolError(
                "nobody has pictures in two cameras, so it cannot be said how far a person's pictures are apart."
            )

        def comparable(rows: Tensor) -> Tensor:
            apart: Tensor = self.place_of[rows, None] != self.place_of[None]
            apart |= unknown[rows, None] & (rows[:, None] != torch.arange(len(self.person)))
            same: Tensor = self.person[rows, None] == self.person[None]
            return torch.logical_and(apart, same)

        edges, below = self._shares(weight, other, comparable)
        return edges[1:], 1 - below, able

    def seen_by(self, first: int, second: int) -> Int[Tensor, " people"]:
        """The people of whom both cameras have pictures."""
        by_first, by_second = (self.person[self.camids == camera].unique() for camera in (first, second))
        both: Tensor = by_first[torch.isin(by_first, by_second)]
        return both

    def _different(self, rows: Int[Tensor, " rows"]) -> Bool[Tensor, "rows pictures"]:
        different: Tensor = self.person[rows, None] != self.person[None]
        return different

    def _shares(
        self,
        left: Float[Tensor, " pictures"],
        right: Float[Tensor, " pictures"],
        chosen: Callable[[Tensor], Tensor],
    ) -> tuple[Float[Tensor, " edges"], Float[Tensor, " bins"]]:
        """The edges of the bins, and the weight of the chosen pairs up to the end of each, as a share of all; 1 at last."""
        weights = torch.zeros(_BINS, dtype=torch.float64)
        for rows in left.nonzero().flatten().split(256):
            first, last = int(rows[0]), int(rows[-1])
            distance = self.distances.rows(slice(first, last + 1))[rows - first].sqrt()
            bins = (distance / self.largest * _BINS).long().clamp(max=_BINS - 1)
            weight = left[rows, None] * right[None] * chosen(rows)
            weights += torch.bincount(bins.flatten(), weight.flatten(), minlength=_BINS)
        below = weights.cumsum(0)
        return torch.arange(_BINS + 1, dtype=torch.float64) * (self.largest / _BINS), below / below[-1]
