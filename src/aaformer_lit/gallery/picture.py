"""A search's answers as a picture: ranking lists with verdicts and decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from aaformer_lit.gallery.index.base import NO_ROW, Neighbors
from aaformer_lit.gallery.ranking import verdicts
from aaformer_lit.gallery.report import pixels_of, who
from aaformer_lit.gallery.sources import Crop, Frames
from aaformer_lit.gallery.store import Gallery
from aaformer_lit.viz import Ranking, ranking_lists

if TYPE_CHECKING:
    from aaformer_lit.metrics.calibration import Decision


def as_picture(
    gallery: Gallery,
    queries: Sequence[Crop],
    found: Neighbors,
    decided: Sequence[Sequence[Decision]] | None = None,
) -> Figure:
    """The answers as ranking lists (the paper's Figure 4), with verdicts where everybody in it is known.

    `decided`: about each answer to each query.
    """
    right = verdicts(gallery, queries, found)
    matches = None
    if all(verdict is not None for row in right for verdict in row):
        matches = np.zeros(found.rows.shape, dtype=bool)
        for number, row in enumerate(right):
            matches[number, : len(row)] = row
    decisions = None
    if decided is not None:
        decisions = np.full(found.rows.shape, "", dtype="U8")
        for number, words in enumerate(decided):
            decisions[number, : len(words)] = words
    frames = Frames()
    distances = np.where(found.rows == NO_ROW, np.nan, found.distances)
    ranking = Ranking(found.rows, distances, matches, decisions=decisions)
    return ranking_lists(
        lambda query: pixels_of(frames, queries[query]),
        lambda row: pixels_of(gallery.image, row),
        ranking,
        labels=[who(query) for query in queries],
        captions=lambda row: who(gallery.crop(row)),
    )
