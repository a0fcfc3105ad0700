"""Verification, "are these two images the same person?": ROC, TAR at a chosen FAR, EER, and the distances behind them.

The rates are given, computed exactly over all pairs (`aaformer_lit.metrics.verification` says what they are); here they are
drawn. Only the histogram of distances takes a sample.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from aaformer_lit.structures import FeatureSet
from aaformer_lit.utils.sequences import tiles
from aaformer_lit.utils.text import percent
from aaformer_lit.viz.curves import plots
from aaformer_lit.viz.figure import styled
from aaformer_lit.viz.images import Array, as_array
from aaformer_lit.viz.palette import BASE_COLORS, INK
from aaformer_lit.viz.rankings import of_one_person

log = logging.getLogger(__name__)
QUERY_CHUNK = 512
SAME, DIFFERENT = BASE_COLORS[0], BASE_COLORS[1]


class Verification(Protocol):
    """What is drawn of `aaformer_lit.metrics.evaluate_verification`'s result: TAR by chosen FAR, EER, and the curve.

    `roc_far` and `roc_tar` belong to `thresholds` and rise with them.
    """

    @property
    def tar(self) -> Mapping[float, float]: ...
    @property
    def eer(self) -> float: ...
    @property
    def num_impostor(self) -> int: ...
    @property
    def roc_far(self) -> Float[Array, " points"]: ...
    @property
    def roc_tar(self) -> Float[Array, " points"]: ...
    @property
    def thresholds(self) -> Float[Array, " points"]: ...


@styled
def verification_roc(
    models: Verification | Mapping[str, Verification], *, title: str | None = "Verification"
) -> Figure:
    """ROC with FAR on a logarithmic axis; dots at the chosen FARs, a diamond at the EER, their values in the legend.

    The curve is the TAR that is reached at no more than that FAR, the dotted line that of chance, TAR = FAR. A chosen FAR
    finer than one pair of different people cannot be measured and is left out, with a warning.
    """
    named = dict(models) if isinstance(models, Mapping) else {"": models}
    figure, (axes,) = plots(1, title=title, size=(5.0, 4.0))
    finest = min(0.1, *(1 / model.num_impostor for model in named.values()))  # 0.1: an axis has to have a length
    for name, model in named.items():
        chosen = [rate for rate in sorted(model.tar) if rate * model.num_impostor >= 1]
        if len(chosen) < len(model.tar):
            log.warning("TAR is drawn at FAR %s only: there are %d negative pairs.", chosen, model.num_impostor)
        tars = [model.tar[rate] for rate in chosen]
        values = [f"{name}: EER {percent(model.eer)}" if name else f"EER {percent(model.eer)}"]
        values += [f"TAR {percent(tar)} at FAR {percent(rate)}" for tar, rate in zip(tars, chosen, strict=True)]
        far, tar = (np.concatenate([[0.0], as_array(rates), [1.0]]) for rates in (model.roc_far, model.roc_tar))
        start = np.searchsorted(far, 0.0, side="right") - 1  # of several points with FAR 0 the last is the best
        (line,) = axes.plot(
            np.maximum(far[start:], finest),  # a FAR of 0 has no place on a logarithmic axis
            tar[start:],
            drawstyle="steps-post",
            label="\n".join(values),
        )
        axes.plot(chosen, tars, "o", color=line.get_color(), markersize=5)
        axes.plot([max(model.eer, finest)], [1 - model.eer], "D", color=line.get_color(), markersize=5)
    diagonal = np.geomspace(finest, 1, 100)
    axes.plot(diagonal, diagonal, ":", color=INK, linewidth=1.4, label="chance", zorder=1)
    axes.set(xscale="log", xlim=(finest, 1), ylim=(0, 1.02), xlabel="false accepts (FAR)", ylabel="true accepts (TAR)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    axes.legend(loc="upper left")
    return figure


def eer_threshold(model: Verification) -> float:
    """The smallest distance of the curve at which as many different people are accepted as same-person pairs refused."""
    # rounded so that rates that add up to 1 do so
    reached = np.round(as_array(model.roc_far) + as_array(model.roc_tar), 9) >= 1
    return float(as_array(model.thresholds)[int(np.argmax(reached))])


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


def verification_pairs(
    query: FeatureSet, gallery: FeatureSet, *, max_negatives: int = 1_000_000, seed: int = 0
) -> PairDistances:
    """Euclidean distances of all query-gallery pairs but those of one person under one camera or in one sequence, and
    of junk (pid -1).

    All positive pairs are kept; of more than `max_negatives` pairs about so many negative ones, drawn with `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    query, gallery = (images.select(images.pids != -1) for images in (query, gallery))
    share = max_negatives / max(len(query) * len(gallery), 1)
    gallery_features = gallery.features.float().cpu()
    positive, negative = [], []
    for rows in tiles(len(query), QUERY_CHUNK):
        chunk = query.select(rows)
        distances = torch.cdist(chunk.features.float().cpu(), gallery_features).double().numpy()
        same_pid, same_take = of_one_person(chunk, gallery)
        drawn = torch.rand(distances.shape, generator=generator).numpy() < share
        positive.append(distances[same_pid & ~same_take])
        negative.append(distances[~same_pid & drawn])
    return PairDistances(np.concatenate(positive), np.concatenate(negative))


@styled
def distance_histogram(
    pairs: PairDistances, threshold: float | Mapping[str, float], *, title: str | None = "Distances of pairs"
) -> Figure:
    """Distances of positive and negative pairs as densities, and the threshold with its TAR and FAR on these pairs.

    `threshold`: one, or several by name, which are drawn without rates.
    """
    figure, (axes,) = plots(1, title=title)
    bins = np.histogram_bin_edges(np.concatenate([pairs.positive, pairs.negative]), bins=60).tolist()
    for values, color, what in (
        (pairs.positive, SAME, "same person"),
        (pairs.negative, DIFFERENT, "different people"),
    ):
        label = f"{what} ({len(values):,} pairs)"
        axes.hist(values, bins=bins, density=True, color=color, alpha=0.55, label=label)
    if isinstance(threshold, Mapping):
        lines = {f"{name} {distance:#.3g}": distance for name, distance in threshold.items()}
    else:
        tar, far = float(np.mean(pairs.positive <= threshold)), float(np.mean(pairs.negative <= threshold))
        lines = {f"threshold {threshold:#.3g}: TAR {percent(tar)}, FAR {percent(far)}": threshold}
    for (label, distance), style in zip(lines.items(), cycle(("--", ":"))):
        axes.axvline(
            distance, ymax=0.74 if len(lines) == 1 else 0.68, color=INK, linestyle=style, linewidth=1.4, label=label
        )
    axes.set(xlabel="Euclidean distance of the descriptors", ylabel="density of pairs")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.4)  # room for the legend above the bars
    axes.legend(loc="upper left")
    return figure
