"""A search's answers as a picture: ranking lists with verdicts and decisions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from aaformer_lit.gallery.index.base import NO_ROW
from aaformer_lit.gallery.report import Result, pixels_of, who
from aaformer_lit.gallery.sources import Frames
from aaformer_lit.gallery.store import Gallery
from aaformer_lit.viz import Ranking, ranking_lists


def as_picture(gallery: Gallery, results: Sequence[Result], k: int) -> Figure:
    """The answers, of which a query has up to k, as ranking lists (the paper's Figure 4); with verdicts where everybody in
    it is known."""
    rows, distances = np.full((len(results), k), NO_ROW), np.full((len(results), k), np.nan)
    matches, decisions = np.zeros(rows.shape, dtype=bool), np.full(rows.shape, "", dtype="U8")
    for number, result in enumerate(results):
        for place, answer in enumerate(result.answers):
            rows[number, place], distances[number, place] = answer.row, answer.distance
            matches[number, place], decisions[number, place] = bool(answer.match), answer.decision or ""
    known = all(answer.match is not None for result in results for answer in result.answers)
    decided = any(result.decided for result in results)
    frames = Frames()
    return ranking_lists(
        lambda query: pixels_of(frames, results[query].query),
        lambda row: pixels_of(gallery.image, row),
        Ranking(rows, distances, matches if known else None, decisions=decisions if decided else None),
        labels=[who(result.query) for result in results],
        captions=lambda row: who(gallery.crop(row)),
    )
