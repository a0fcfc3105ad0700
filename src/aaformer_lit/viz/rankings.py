"""Ranking lists (the paper's Figure 4): a model's answers to a query, right in green and wrong in red, with distances.

Below each image is who it shows and which camera took it, beside the answers the query's AP. A `Ranking` is plain numbers.
Images are read only when a list is drawn, and only the ones shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aaformer_lit.structures import FeatureSet
from aaformer_lit.viz.figure import TITLE_HEIGHT, cell_size, fit, frame, heading, panels, styled
from aaformer_lit.viz.images import Array, ImageSource, Picture, as_array, as_picture
from aaformer_lit.viz.palette import DECISIONS, INK, VERDICTS

Mask = Bool[NDArray[np.bool_], "queries gallery"]
CAPTION_HEIGHT = 0.1  # of a line
GAP = 0.1  # inches between images
SIDE_BY_SIDE = 12  # answers in one row; more of several models are drawn one model below the other


@dataclass(frozen=True, slots=True)
class Ranking:
    """The first k gallery images of each query, nearest first.

    `gallery`: rows of the gallery, -1 behind the last where fewer than k are left; `distances` to the query; `matches`
    tells whether the person is the query's, None where nobody knows; `decisions` what thresholds make of each distance
    ("accepted", "unsure", "rejected"; "" where there is no answer); `average_precision` is in [0, 1] over all that was
    ranked, NaN for a query without a match.
    """

    gallery: Int[NDArray[np.int64], "queries k"]
    distances: Float[NDArray[np.float64], "queries k"]
    matches: Bool[NDArray[np.bool_], "queries k"] | None = None
    average_precision: Float[NDArray[np.float64], " queries"] | None = None
    decisions: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        fields = (self.gallery, self.distances, self.matches, self.decisions)
        shapes = [array.shape for array in fields if array is not None]
        if len(set(shapes)) != 1 or self.gallery.ndim != 2:
            raise ValueError(f"the fields of a Ranking must all be (queries, k); got {shapes}.")
        if self.average_precision is not None and self.average_precision.shape != self.gallery.shape[:1]:
            raise ValueError(f"average_precision must be (queries,); got {self.average_precision.shape}.")


def rank_gallery(
    distances: Float[Array, "queries gallery"], query: FeatureSet, gallery: FeatureSet, k: int = 10
) -> Ranking:
    """The k nearest of each query under the Market rule: junk (pid -1) and the query's pid under its camera, or in its
    sequence, are left out.

    `distances` are shown as they are given. Ties keep gallery order; a query of unknown camera (-1) leaves out junk only.
    Raises ValueError for other sizes.
    """
    table = as_array(distances).astype(np.float64)
    if table.shape != (len(query), len(gallery)):
        raise ValueError(f"distances must be (queries, gallery) = {(len(query), len(gallery))}; got {table.shape}.")
    same_pid, same_take = of_one_person(query, gallery)
    ignored = same_take | (as_array(gallery.pids) < 0)
    # ignored rows go behind all others whatever the distances are, then the stable order of the distances
    order = np.lexsort((table, ignored), axis=-1)
    precision = _average_precision(np.take_along_axis(same_pid & ~ignored, order, axis=1))
    order = order[:, :k]
    nearest, left = np.take_along_axis(table, order, axis=1), ~np.take_along_axis(ignored, order, axis=1)
    return Ranking(
        gallery=np.where(left, order, -1).astype(np.int64),
        distances=np.where(left, nearest, np.nan),
        matches=np.take_along_axis(same_pid, order, axis=1) & left,
        average_precision=precision,
    )


def of_one_person(query: FeatureSet, gallery: FeatureSet) -> tuple[Mask, Mask]:
    """Which pairs show one person, and which of these are ignored: those of one known camera or one sequence."""
    same_pid = as_array(query.pids)[:, None] == as_array(gallery.pids)
    camids = as_array(query.camids)[:, None]
    same_take = (camids == as_array(gallery.camids)) & (camids >= 0)
    if query.sequences is not None and gallery.sequences is not None:
        same_take |= as_array(query.sequences)[:, None] == as_array(gallery.sequences)
    return same_pid, same_pid & same_take


def _average_precision(hits: Mask) -> Float[NDArray[np.float64], " queries"]:
    """Step form, as `mAP` everywhere: the mean of the precision at each hit."""
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    found = hits.sum(axis=1)
    return np.where(found > 0, (precision * hits).sum(axis=1) / np.maximum(found, 1), np.nan)


@styled
def ranking_lists(
    query_images: ImageSource,
    gallery_images: ImageSource,
    rankings: Ranking | Mapping[str, Ranking],
    *,
    labels: Sequence[object] | None = None,
    captions: Callable[[int], str] | None = None,
    title: str | None = None,
) -> Figure:
    """One query per row with its nearest gallery images; of several models (by name) side by side.

    Image sources are callables of the row (of the ranking; of the gallery) or sequences, of uint8 images.
    Borders are green for the query's person, red for another, gray where unknown; above is the distance, with the same
    verdict as a sign; a decision is a label in the image. Below stand the `labels` of the queries and the `captions` of
    gallery rows (pid and camera on two lines, say), in smaller letters where one is wider than its image; left of the answers
    the AP. Models with more than 12 answers together stand one below the other.
    Raises ValueError for rankings of different size, TypeError for images that are not uint8.
    """
    models = {"": rankings} if isinstance(rankings, Ranking) else dict(rankings)
    if not models or len(shapes := {ranking.gallery.shape for ranking in models.values()}) != 1:
        raise ValueError(
            f"ranking lists need rankings of the same queries and k; got {[r.gallery.shape for r in models.values()]}."
        )
    queries, k = shapes.pop()
    images = [_image(query_images, index) for index in range(queries)]
    cell = cell_size(images[0].shape, area=1.6 if queries * len(models) <= 4 else 1.1)
    stacked = len(models) > 1 and k * len(models) > SIDE_BY_SIDE
    below, beside = (len(models), 1) if stacked else (1, len(models))
    named = len(models) > 1 and not stacked
    texts = [str(label) for label in labels or ()]
    if captions is not None:
        shown = {int(row) for ranking in models.values() for row in ranking.gallery.flat if row >= 0}
        texts += [captions(row) for row in shown]
    lines = max((text.count("\n") + 1 for text in texts), default=0)
    below_image = CAPTION_HEIGHT * lines + 0.04 * bool(lines)
    figure, axes = panels(
        queries * below,
        1 + k * beside,
        cell,
        gap=(GAP, 0.24 + below_image),
        margin=(0.12, 0.12, 0.12 + below_image, 0.3 + TITLE_HEIGHT * bool(title) + 0.2 * named),
        wider_before=range(1, 1 + k * beside, k),
        taller_before=range(below, queries * below, below) if stacked else (),
        extra=0.3 if stacked else 0.22,
    )
    heading(figure, title)
    for index, image in enumerate(images):
        first = _one_query([row[0] for row in axes[index * below : (index + 1) * below]])
        _thumbnail(first, image, INK, "query", "" if labels is None else str(labels[index]))
        for number, (name, ranking) in enumerate(models.items()):
            start, line = (1, number) if stacked else (1 + number * k, 0)
            row = axes[index * below + line][start : start + k]
            _answers(row, ranking, index, gallery_images, captions)
            beside_answers = [name] * stacked + _precision(ranking, index)
            row[0].set_ylabel("\n".join(beside_answers), fontsize=7.5, labelpad=3, color=INK)
            if named and index == 0:
                text = row[0].annotate(
                    name, (0, 1), (0, 17), "axes fraction", "offset points", fontsize=9, weight="bold"
                )
                fit(figure, text, k * (cell[0] + GAP))
    return figure


def _image(source: ImageSource, index: int) -> Picture:
    return as_picture(source(index) if callable(source) else source[index])


def _one_query(column: Sequence[Axes]) -> Axes:
    """One panel half-way down the query's rows, the others gone."""
    first, last = column[0].get_position(), column[-1].get_position()
    for panel in column[1:]:
        panel.remove()
    column[0].set_position((first.x0, (first.y0 + last.y0) / 2, first.width, first.height))
    return column[0]


def _precision(ranking: Ranking, query: int) -> list[str]:
    if ranking.average_precision is None or np.isnan(ranking.average_precision[query]):
        return []
    return [f"AP {100 * ranking.average_precision[query]:.0f} %"]


def _answers(
    row: Sequence[Axes], ranking: Ranking, query: int, images: ImageSource, captions: Callable[[int], str] | None
) -> None:
    for place, panel in enumerate(row):
        if (index := int(ranking.gallery[query, place])) < 0:
            panel.remove()
            continue
        match = None if ranking.matches is None else bool(ranking.matches[query, place])
        color, sign = VERDICTS[match]
        distance = f"{sign} {ranking.distances[query, place]:.2f}".strip()
        _thumbnail(panel, _image(images, index), color, distance, "" if captions is None else captions(index))
        if ranking.decisions is not None:
            _decided(panel, str(ranking.decisions[query, place]))


def _decided(panel: Axes, decision: str) -> None:
    """The word on a label framed in its color, at the lower end of the image."""
    label = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": DECISIONS[decision], "linewidth": 1.5}
    panel.text(
        0.5, 0.05, decision, transform=panel.transAxes, ha="center", va="bottom", fontsize=6, color=INK, bbox=label
    )


def _thumbnail(panel: Axes, image: NDArray[np.uint8], color: str, text: str, caption: str) -> None:
    panel.imshow(image)
    frame(panel, color, 2.5)
    panel.set_title(text, fontsize=7.5, pad=4, color=color)
    label = panel.set_xlabel(caption, fontsize=5.5, labelpad=3)
    figure: Any = panel.figure
    fit(figure, label, panel.get_position().width * figure.get_size_inches()[0] + GAP / 2)
