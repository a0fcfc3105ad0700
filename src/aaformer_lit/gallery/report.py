"""A search's answers for people and programs: one HTML file with the thumbnails inside it, a picture, and JSON."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from aaformer_lit.data.transforms import resize
from aaformer_lit.errors import ImageError
from aaformer_lit.gallery.index.base import NO_ROW, Neighbors
from aaformer_lit.gallery.ranking import verdicts
from aaformer_lit.gallery.sources import Crop, Frames
from aaformer_lit.gallery.store import Gallery
from aaformer_lit.viz import Ranking, ranking_lists
from aaformer_lit.viz.palette import DECISIONS, VERDICTS

if TYPE_CHECKING:
    from aaformer_lit.metrics.calibration import Decision

Pixels = UInt8[np.ndarray, "height width 3"]
THUMBNAIL = (160, 80)
_STYLE = """
:root { color-scheme: light dark; font: 14px/1.4 system-ui, sans-serif; }
body { margin: 1.5rem; }
h1 { font-size: 1.2rem; }
section { display: flex; gap: .5rem; overflow-x: auto; padding: .6rem 0; border-top: 1px solid #8884; }
figure { margin: 0; width: 88px; flex: none; }
figure.query { margin-right: 1rem; }
img { width: 80px; height: 160px; border: 4px solid #888; border-radius: 4px; display: block; }
.query img { border-color: transparent; }
figcaption { font-size: 11px; overflow-wrap: anywhere; white-space: pre-line; }
"""


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


def as_picture(gallery: Gallery, queries: Sequence[Crop], found: Neighbors) -> Figure:
    """The answers as ranking lists (the paper's Figure 4), with verdicts where everybody in it is known."""
    right = verdicts(gallery, queries, found)
    matches = None
    if all(verdict is not None for row in right for verdict in row):
        matches = np.zeros(found.rows.shape, dtype=bool)
        for number, row in enumerate(right):
            matches[number, : len(row)] = row
    frames = Frames()
    ranking = Ranking(found.rows, np.where(found.rows == NO_ROW, np.nan, found.distances), matches)
    return ranking_lists(
        lambda query: _pixels(frames, queries[query]), lambda row: _pixels(gallery.image, row), ranking
    )


def as_page(
    gallery: Gallery,
    queries: Sequence[Crop],
    found: Neighbors,
    tokens: str,
    total: int | None = None,
    decided: Sequence[Sequence[Decision]] | None = None,
) -> str:
    """One HTML file that needs no other: the answers to each query in a row, green where right, red where wrong.

    `total`: of how many queries these are some. `decided`: about each answer to each query.
    """
    frames, right = Frames(), verdicts(gallery, queries, found)
    sections = []
    for number, query in enumerate(queries):
        nobody = "\nnobody here" if decided is not None and "accepted" not in decided[number] else ""
        cells = [_cell("", _pixels(frames, query), query.path.name, f"query\n{_who(query)}{nobody}")]
        rows = [row for row in found.rows[number].tolist() if row != NO_ROW]
        for place, row in enumerate(rows):
            color, sign = VERDICTS[right[number][place]]
            about = f"{place + 1}: {found.distances[number, place]:.3f}{sign}\n{_who(gallery.crop(row))}"
            decision = None if decided is None else decided[number][place]
            cells.append(_cell(color, _pixels(gallery.image, row), gallery.table["path"].iat[row], about, decision))
        sections.append(f"<section>{''.join(cells)}</section>")
    shown = "" if total is None or total == len(queries) else f" of {total:,}"
    heading = f"{len(queries):,}{shown} queries, {len(gallery):,} gallery images, tokens: {html.escape(tokens)}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Search</title><style>{_STYLE}</style></head>\n'
        f"<body><h1>{heading}</h1>\n{chr(10).join(sections)}\n</body></html>\n"
    )


def thumbnail(pixels: Pixels) -> str:
    """A small JPEG as a data URI."""
    small = cv2.cvtColor(resize(pixels, THUMBNAIL), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _cell(color: str, pixels: Pixels, name: str, about: str, decision: Decision | None = None) -> str:
    """One image with its caption; no color for the query."""
    name, about = html.escape(name), html.escape(about)
    role, border = ("", f' style="border-color: {color}"') if color else (' class="query"', "")
    word = "" if decision is None else f'<b style="color: {DECISIONS[decision]}">&#9679;</b> {decision}\n'
    return (
        f'<figure{role}><img src="{thumbnail(pixels)}"{border} alt="{name}" title="{name}">'
        f"<figcaption>{word}{about}</figcaption></figure>"
    )


def _who(crop: Crop) -> str:
    return "\n".join([f"pid {crop.pid}"] * bool(crop.pid) + [f"camera {crop.camid}"] * bool(crop.camid))


def _pixels(read: Callable[[Any], Pixels], what: Crop | int) -> Pixels:
    """The image, or gray where its file is gone: an answer stands without it."""
    try:
        return read(what)
    except ImageError:
        return np.full((*THUMBNAIL, 3), 128, dtype=np.uint8)
