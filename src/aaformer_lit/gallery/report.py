"""A search's answers as plain values, and what the page and the picture of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from aaformer_lit.errors import ImageError
from aaformer_lit.gallery.index.base import NO_ROW, Neighbors
from aaformer_lit.gallery.ranking import verdicts
from aaformer_lit.gallery.sources import Crop
from aaformer_lit.gallery.store import Gallery

if TYPE_CHECKING:
    from aaformer_lit.metrics.calibration import Decision

Pixels = UInt8[np.ndarray, "height width 3"]
MISSING = (160, 80)


def as_json(
    gallery: Gallery,
    queries: Sequence[Crop],
    found: Neighbors,
    tokens: str,
    decided: Sequence[Sequence[Decision]] | None = None,
) -> dict[str, Any]:
    """All answers as plain values; paths of answers are those of the gallery's table, below `root`.

    `decided`: about each answer to each query; then each answer has a `decision`, and a query has `nobody` where none is
    accepted.
    """
    right = verdicts(gallery, queries, found)
    content = []
    for number, query in enumerate(queries):
        answers = []
        for place, row in enumerate(row for row in found.rows[number].tolist() if row != NO_ROW):
            crop = gallery.crop(row)
            answers.append(
                {
                    "rank": place + 1, "path": gallery.table["path"].iat[row], "box": crop.box, "pid": crop.pid,
                    "camid": crop.camid, "distance": float(found.distances[number, place]), "match": right[number][place],
                }
            )  # fmt: skip
        asked = {"path": str(query.path), "box": query.box, "pid": query.pid, "camid": query.camid}
        result: dict[str, Any] = {"query": asked, "answers": answers}
        if decided is not None:
            result["nobody"] = "accepted" not in decided[number]
            for answer, decision in zip(answers, decided[number], strict=True):
                answer["decision"] = decision
        content.append(result)
    facts = {"gallery": str(gallery.folder), "root": str(gallery.root), "images": len(gallery), "tokens": tokens}
    return facts | {"fingerprint": gallery.about["fingerprint"], "results": content}


def who(crop: Crop) -> str:
    """Person and camera, where they are known, in a line each."""
    return "\n".join([f"pid {crop.pid}"] * bool(crop.pid) + [f"camera {crop.camid}"] * bool(crop.camid))


def pixels_of(read: Callable[[Any], Pixels], what: Crop | int) -> Pixels:
    """The image, or gray where its file is gone: an answer stands without it."""
    try:
        return read(what)
    except ImageError:
        return np.full((*MISSING, 3), 128, dtype=np.uint8)
