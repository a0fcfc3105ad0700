"""Verification, "are these two images the same person?": ROC, TAR at a chosen FAR, EER, and the distances behind them.

A pair is accepted when its distance is at most the threshold. TAR (true accept rate) is the share of same-person pairs
accepted, FAR (false accept rate) the share of different-person pairs accepted; at the EER, FAR equals 1 - TAR.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from aaformer_lit.structures import FeatureSet
from aaformer_lit.viz.curves import plots
from aaformer_lit.viz.figure import styled
from aaformer_lit.viz.palette import BASE_COLORS, INK

log = logging.getLogger(__name__)
QUERY_CHUNK = 512
SAME, DIFFERENT = BASE_COLORS[0], BASE_COLORS[1]


@dataclass(frozen=True, slots=True)
class PairDistances:
    """Distances of pairs that show the same person (`positive`) and different people (`negative`)."""

    positive: Float[NDArray[np.float64], " same"]
    negative: Float[NDArray[np.float64], " different"]

    def __post_init__(self) -> None:
        if not len(self.positive) or not len(self.negative):
            raise ValueError(
                f"verification needs pairs of the same and of different people; got {len(self.positive)} and "
                f"{len(self.negative)}. Take a query and a gallery that share people."
            )


@dataclass(frozen=True, slots=True)
class VerificationCurve:
    """FAR and TAR at each threshold, from accepting nothing to accepting everything."""

    thresholds: Float[NDArray[np.float64], " points"]
    far: Float[NDArray[np.float64], " points"]
    tar: Float[NDArray[np.float64], " points"]
    eer: float
    eer_threshold: float

    def tar_at(self, far: float) -> float:
        """The largest TAR whose FAR is at most `far`."""
        return float(self.tar[np.searchsorted(self.far, far, side="right") - 1])


def verification_pairs(
    query: FeatureSet, gallery: FeatureSet, *, max_negatives: int = 1_000_000, seed: int = 0
) -> PairDistances:
    """Euclidean distances of all query-gallery pairs but those of one person under one camera (the Market rule).

    All positive pairs are kept; of more than `max_negatives` pairs about so many negative ones, drawn with `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    share = min(1.0, max_negatives / (len(query) * len(gallery)))
    gallery_features = gallery.features.float().cpu()
    gallery_pids, gallery_camids = gallery.pids.cpu(), gallery.camids.cpu()
    positive, negative = [], []
    for start in range(0, len(query), QUERY_CHUNK):
        rows = slice(start, start + QUERY_CHUNK)
        distances = torch.cdist(query.features[rows].float().cpu(), gallery_features)
        same = query.pids[rows].cpu()[:, None] == gallery_pids[None, :]
        camids = query.camids[rows].cpu()[:, None]
        same_camera = (camids == gallery_camids[None, :]) & (camids >= 0)
        kept = ~same if share == 1.0 else ~same & (torch.rand(same.shape, generator=generator) < share)
        positive.append(distances[same & ~same_camera])
        negative.append(distances[kept])
    return PairDistances(torch.cat(positive).double().numpy(), torch.cat(negative).double().numpy())


def verification_curve(pairs: PairDistances) -> VerificationCurve:
    """The exact ROC: one point per distinct distance, and one before the first where nothing is accepted.

    Between two points FAR and TAR are joined linearly to find the EER. Where a whole range of thresholds has
    FAR = 1 - TAR, its middle is `eer_threshold`.
    """
    positive, negative = np.sort(pairs.positive), np.sort(pairs.negative)
    thresholds = np.unique(np.concatenate([positive, negative]))
    thresholds = np.concatenate([[np.nextafter(thresholds[0], -np.inf)], thresholds])
    far = np.searchsorted(negative, thresholds, side="right") / len(negative)
    tar = np.searchsorted(positive, thresholds, side="right") / len(positive)
    excess = np.round(far + tar - 1, 12)  # rises from -1 to 1; rounded so that an exact crossing is exactly 0
    after = int(np.argmax(excess >= 0))
    if excess[after] == 0:
        # this threshold accepts the same pairs as any up to the next distance
        eer, threshold = far[after], thresholds[after : after + 2].mean()
    else:
        way = -excess[after - 1] / (excess[after] - excess[after - 1])
        eer = far[after - 1] + way * (far[after] - far[after - 1])
        threshold = thresholds[after - 1] + way * (thresholds[after] - thresholds[after - 1])
    return VerificationCurve(thresholds, far, tar, float(eer), float(threshold))


@styled
def verification_roc(
    models: PairDistances | Mapping[str, PairDistances],
    *,
    far: Sequence[float] = (1e-4, 1e-3, 1e-2),
    title: str | None = "Verification",
) -> Figure:
    """ROC with FAR on a logarithmic axis; dots at the chosen FARs, a diamond at the EER, their values in the legend.

    A FAR finer than one negative pair cannot be measured and is left out, with a warning.
    """
    named = {"": models} if isinstance(models, PairDistances) else models
    figure, (axes,) = plots(1, title=title, size=(5.0, 4.0))
    finest = min(1 / len(pairs.negative) for pairs in named.values())
    for name, pairs in named.items():
        curve = verification_curve(pairs)
        chosen = [rate for rate in sorted(far) if rate * len(pairs.negative) >= 1]
        if len(chosen) < len(far):
            log.warning("TAR is given at FAR %s only: there are %d negative pairs.", chosen, len(pairs.negative))
        tars = [curve.tar_at(rate) for rate in chosen]
        values = [f"{name}: EER {_percent(curve.eer)}" if name else f"EER {_percent(curve.eer)}"]
        values += [f"TAR {_percent(tar)} at FAR {_percent(rate)}" for tar, rate in zip(tars, chosen, strict=True)]
        corner = _corners(curve)
        (line,) = axes.plot(
            np.clip(curve.far[corner], finest, 1),  # a FAR of 0 has no place on a logarithmic axis
            curve.tar[corner],
            drawstyle="steps-post",
            label="\n".join(values),
        )
        axes.plot(chosen, tars, "o", color=line.get_color(), markersize=5)
        axes.plot([max(curve.eer, finest)], [1 - curve.eer], "D", color=line.get_color(), markersize=5)
    axes.set(xscale="log", xlim=(finest, 1), ylim=(0, 1.02), xlabel="FAR", ylabel="TAR")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: _percent(value)))
    axes.legend(loc="lower right")
    return figure


@styled
def distance_histogram(
    pairs: PairDistances, *, threshold: float | None = None, title: str | None = "Distances of pairs"
) -> Figure:
    """Distances of positive and negative pairs as densities, and the threshold (else the EER's) with its errors."""
    figure, (axes,) = plots(1, title=title)
    if threshold is None:
        threshold = verification_curve(pairs).eer_threshold
    bins = np.histogram_bin_edges(np.concatenate([pairs.positive, pairs.negative]), bins=60).tolist()
    for values, color, what in (
        (pairs.positive, SAME, "same person"),
        (pairs.negative, DIFFERENT, "different people"),
    ):
        label = f"{what} ({len(values):,} pairs)"
        axes.hist(values, bins=bins, density=True, color=color, alpha=0.55, label=label)
    tar, far = float(np.mean(pairs.positive <= threshold)), float(np.mean(pairs.negative <= threshold))
    label = f"threshold {threshold:#.3g}: TAR {_percent(tar)}, FAR {_percent(far)}"
    axes.axvline(threshold, ymax=0.74, color=INK, linestyle="--", linewidth=1.4, label=label)
    axes.set(xlabel="distance", ylabel="density")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.4)  # room for the legend above the bars
    axes.legend(loc="upper left")
    return figure


def _corners(curve: VerificationCurve) -> NDArray[np.bool_]:
    """The points worth drawing: with FAR 0 only the last, and none on a straight run, where most of a million lie."""
    flat = np.zeros(len(curve.far), dtype=np.bool_)
    for rate in (curve.far, curve.tar):
        flat[1:-1] |= (rate[:-2] == rate[1:-1]) & (rate[1:-1] == rate[2:])
    last = np.searchsorted(curve.far, 0, side="right") - 1
    flat[:last], flat[last] = True, False
    return ~flat


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"
