"""What a search found, query by query: for the page and the picture of it, and as plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aaformer_lit.checkpoints.calibration import CalibrationRecord
from aaformer_lit.errors import ImageError
from aaformer_lit.gallery.decisions import decide
from aaformer_lit.gallery.index.base import Neighbors
from aaformer_lit.gallery.ranking import verdicts
from aaformer_lit.gallery.sources import Crop
from aaformer_lit.gallery.store import Gallery
from aaformer_lit.structures import Pixels

if TYPE_CHECKING:
    from aaformer_lit.metrics.calibration import Decision

MISSING = (160, 80)


class Ranked(NamedTuple):
    """An image of the gallery as an answer: whether it is the query's person (None: nobody knows), and what thresholds say."""

    row: int
    distance: float
    match: bool | None
    decision: Decision | None


@dataclass(frozen=True)
class Result:
    """The answers to one query, nearest first; `decided`: whether there are thresholds."""

    query: Crop
    answers: Sequence[Ranked]
    decided: bool

    @property
    def nobody(self) -> bool:
        """Whether the query's person is not here: there are thresholds, and no answer is accepted."""
        return self.decided and all(answer.decision != "accepted" for answer in self.answers)


def results_of(
    gallery: Gallery,
    queries: Sequence[Crop],
    found: Neighbors,
    calibration: CalibrationRecord | None = None,
    same_cameras: bool = False,
) -> list[Result]:
    """What was found for each query; with `calibration` decided about, as `decide` does it."""
    right = verdicts(gallery, queries, found)
    decided: Sequence[Sequence[Decision | None]] = [[None] * len(row) for row in right]
    if calibration is not None:
        decided = decide(calibration, gallery, queries, found, same_cameras)
    results = []
    for number, query in enumerate(queries):
        # rows go on with -1 behind the last answer
        columns = found.rows[number].tolist(), found.distances[number].tolist(), right[number], decided[number]
        answers = [Ranked(*answer) for answer in zip(*columns, strict=False)]
        results.append(Result(query, answers, calibration is not None))
    return results


def as_json(gallery: Gallery, results: Sequence[Result], tokens: str) -> dict[str, Any]:
    """All answers as plain values; paths of answers are those of the gallery's table, below `root`.

    Where there are thresholds each answer has a `decision`, and a query has `nobody`.
    """
    facts = {"gallery": str(gallery.folder), "root": str(gallery.root), "images": len(gallery), "tokens": tokens}
    return facts | {"fingerprint": gallery.about["fingerprint"], "results": [_plain(gallery, one) for one in results]}


def _plain(gallery: Gallery, result: Result) -> dict[str, Any]:
    answers: list[dict[str, Any]] = []
    for place, (row, distance, match, decision) in enumerate(result.answers, start=1):
        path, crop = gallery.table["path"].iat[row], gallery.crop(row)
        answer = {"rank": place, "path": path, "box": crop.box, "pid": crop.pid, "camid": crop.camid}
        answers.append(answer | {"distance": distance, "match": match} | ({"decision": decision} if decision else {}))
    query = result.query
    asked = {"path": str(query.path), "box": query.box, "pid": query.pid, "camid": query.camid}
    return {"query": asked, "answers": answers} | ({"nobody": result.nobody} if result.decided else {})


def who(crop: Crop) -> str:
    """Person and camera, where they are known, in a line each."""
    return "\n".join([f"pid {crop.pid}"] * bool(crop.pid) + [f"camera {crop.camid}"] * bool(crop.camid))


def pixels_of(read: Callable[[Any], Pixels], what: Crop | int) -> Pixels:
    """The image, or gray where its file is gone: an answer stands without it."""
    try:
        return read(what)
    except ImageError:
        return np.full((*MISSING, 3), 128, dtype=np.uint8)
