"""Curves of numbers that are there already: CMC, alignment over depth, misaligned crops, loss and mAP of a `metrics.csv`."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from aaformer_lit.errors import ConfigError
from aaformer_lit.structures import RetrievalMetrics
from aaformer_lit.viz.figure import new_figure, styled
from aaformer_lit.viz.images import Array, as_array
from aaformer_lit.viz.palette import INK

LOSSES = {"identity loss": ("train/id",), "loss": ("train/loss", "train/triplet")}
RETRIEVAL = ("val/mAP", "val/rank1", "val/rank5", "val/rank10", "val/mINP")
CHANCE = "chance"
MARKERS = "os^Dv*"  # of models
MARKED = 30  # up to so many points each gets a dot


@styled
def cmc_curves(models: Mapping[str, RetrievalMetrics | Mapping[int, float]], *, title: str | None = "CMC") -> Figure:
    """Cumulative matching characteristics in percent from 0, one line per model; the legend gives Rank-1 and mAP.

    A model is its `RetrievalMetrics`, or a mapping from rank to the fraction of queries with a match up to it.
    """
    figure, (axes,) = plots(1, title=title, size=(4.6, 3.4 + 0.16 * len(models)))
    shown: set[int] = set()
    for name, metrics in models.items():
        cmc = metrics.cmc if isinstance(metrics, RetrievalMetrics) else metrics
        ranks = sorted(cmc)
        shown.update(ranks)
        label = f"{name}: Rank-{ranks[0]} {100 * cmc[ranks[0]]:.1f}"
        if isinstance(metrics, RetrievalMetrics):
            label += f", mAP {100 * metrics.mAP:.1f}"
        axes.plot(ranks, [100 * cmc[rank] for rank in ranks], label=label, marker=_marker(len(ranks)))
    axes.set(xlabel="rank", ylabel="queries with a match (%)")
    axes.set_ylim(0, 102)
    axes.set_xticks([rank for rank in sorted(shown) if len(shown) <= 10 or rank == 1 or rank % 5 == 0])
    figure.legend(loc="outside lower center")
    return figure


@styled
def alignment_over_depth(
    scores: Mapping[str, Mapping[str, float | Float[Array, "layers ..."] | Sequence[float]]],
    *,
    title: str | None = "Alignment of parts with body parts",
) -> Figure:
    """How well the subsets match true body parts, layer by layer: one panel per score, one line per model.

    `scores["NMI"]["AAformer"]` holds values in [0, 1] of each layer, or of each layer and head: then the line is the mean of
    the heads and the band reaches from the worst to the best. A single number (fixed stripes) is a dashed level, a
    number named `CHANCE` a dotted gray one.
    """
    figure, panels = plots(len(scores), title=title)
    colors = _colors(scores) | {CHANCE: INK}
    for axes, (score, models) in zip(panels, scores.items(), strict=True):
        for name, values in models.items():
            if isinstance(values, int | float):
                axes.axhline(values, label=name, linestyle=":" if name == CHANCE else "--", color=colors[name])
            else:
                heads = as_array(values).reshape(len(values), -1)
                layers = np.arange(1, len(heads) + 1)
                axes.plot(layers, heads.mean(axis=1), label=name, marker=_marker(len(layers)), color=colors[name])
                if heads.shape[1] > 1:
                    band = heads.min(axis=1), heads.max(axis=1)
                    axes.fill_between(layers, *band, color=colors[name], alpha=0.15, linewidth=0)
        axes.set(xlabel="layer", ylabel=score, ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best")
    return figure


@styled
def misalignment_curves(
    cuts: Sequence[float],
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str | None = "Crops that are cut off at the top or bottom",
) -> Figure:
    """How much is left where images are cut off: one panel per score, one line per model, in the same color in all panels.

    `scores["mAP"]["AAformer"]` holds a value in [0, 1] for each share of the height that is cut off.
    """
    figure, panels = plots(len(scores), title=title, size=(4.2, 3.2))
    colors = _colors(scores)
    markers = dict(zip(colors, itertools.cycle(MARKERS), strict=False))
    for axes, (score, lines) in zip(panels, scores.items(), strict=True):
        for model, values in lines.items():
            points = [100 * cut for cut in cuts], [100 * value for value in values]
            axes.plot(*points, label=model, color=colors[model], marker=markers[model])
        axes.set(xlabel="height cut off (%)", ylabel=f"{score} (%)")
        axes.set_ylim(bottom=0)
    longest = max(panels, key=lambda axes: len(axes.lines))
    figure.legend(handles=longest.lines, loc="outside lower center", ncols=2)
    return figure


@dataclass(frozen=True, slots=True)
class Series:
    """One logged value over the epochs in which it was logged."""

    epochs: NDArray[np.int64]
    values: NDArray[np.float64]


def read_metrics_csv(path: str | Path) -> dict[str, Series]:
    """The columns of Lightning's CSVLogger as one value per epoch: the mean of the finite values logged in it.

    `name_epoch` is preferred to `name_step` and named `name`; rows that name no epoch are left out. Raises ConfigError
    where there is no such file or column.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8", errors="replace") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ConfigError(
            f"cannot read the log {path}: {error.strerror}. Give the metrics.csv of a CSVLogger run."
        ) from error
    if not rows or "epoch" not in rows[0]:
        raise ConfigError(f"{path} is no log of Lightning's CSVLogger: it has no rows with an 'epoch' column.")
    # None: cells of no column
    numbers = pd.DataFrame(rows).drop(columns=["step", None], errors="ignore").apply(pd.to_numeric, errors="coerce")
    by_epoch = numbers[np.isfinite(numbers)].groupby("epoch").mean().dropna(axis=1, how="all")
    series = {}
    for name in sorted(by_epoch):
        if not name.endswith("_step") or f"{name.removesuffix('_step')}_epoch" not in by_epoch:
            values = by_epoch[name].dropna()
            short = name.removesuffix("_epoch").removesuffix("_step")
            series[short] = Series(values.index.to_numpy(np.int64), values.to_numpy())
    return series


@styled
def training_curves(path: str | Path, *, title: str | None = "Training") -> Figure:
    """The losses and, if the run validated, retrieval quality in percent (right) over the epochs of a `metrics.csv`, which
    counts them from 0; the picture counts from 1, as the log does.

    The identity loss has axes of its own: beside a triplet loss of unnormalized features it would be a line at the bottom.
    Which columns are drawn: `LOSSES` and `RETRIEVAL`. Raises ConfigError where the log has none of them.
    """
    series = read_metrics_csv(path)
    drawn = {label: (names, 1) for label, names in LOSSES.items()} | {"held-out people (%)": (RETRIEVAL, 100)}
    panels = [
        (label, lines, scale)
        for label, (names, scale) in drawn.items()
        if (lines := {name: series[name] for name in names if name in series})
    ]
    if not panels:
        names = [name for several, _ in drawn.values() for name in several]
        raise ConfigError(
            f"{path} has none of the columns {', '.join(names)}; it has {', '.join(series) or 'no values'}. "
            "Give the metrics.csv of a training run."
        )
    figure, all_axes = plots(len(panels), title=title)
    for axes, (label, lines, scale) in zip(all_axes, panels, strict=True):
        for name, line in lines.items():
            axes.plot(line.epochs + 1, scale * line.values, label=name, marker=_marker(len(line.epochs)))
        axes.set(xlabel="epoch", ylabel=label)
        axes.set_ylim(0, 1.05 * max(axes.dataLim.y1, 0) or None)  # a level line would lie on the upper edge
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best")
    return figure


def plots(columns: int, *, title: str | None, size: tuple[float, float] = (4.6, 3.4)) -> tuple[Figure, list[Axes]]:
    """A figure of `columns` plots beside each other, laid out around their labels."""
    figure = new_figure(size[0] * columns, size[1])
    figure.set_layout_engine("constrained")
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=10, weight="bold")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _colors(scores: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """Of each model, in whichever panels it is."""
    models = dict.fromkeys(model for panel in scores.values() for model in panel)
    # not "C0": that is looked up when the file is written, in whatever style is then in force
    return dict(zip(models, itertools.cycle(rcParams["axes.prop_cycle"].by_key()["color"]), strict=False))


def _marker(points: int) -> str | None:
    return "o" if points <= MARKED else None
