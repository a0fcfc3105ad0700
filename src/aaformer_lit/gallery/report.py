"""A search's answers for people and programs: one HTML file with the thumbnails inside it, a picture, and JSON."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterator, Sequence
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
from aaformer_lit.utils.sequences import tiles
from aaformer_lit.utils.text import plural
from aaformer_lit.viz import Ranking, ranking_lists
from aaformer_lit.viz.palette import DECISIONS, VERDICTS

if TYPE_CHECKING:
    from aaformer_lit.metrics.calibration import Decision

Pixels = UInt8[np.ndarray, "height width 3"]
THUMBNAIL = (320, 640)  # the most of height and width; smaller images stay as they are
MISSING = (160, 80)
PAGES = 50  # at most, of the answers to many queries
_STYLE = """
:root { color-scheme: light dark; font: 14px/1.4 system-ui, sans-serif; }
body { margin: 1.5rem; }
h1 { font-size: 1.2rem; }
nav { display: flex; gap: 1.5rem; padding: .6rem 0; }
section { display: flex; gap: .5rem; overflow-x: auto; padding: .6rem 0; border-top: 1px solid #8884; }
figure { margin: 0; flex: none; min-width: 72px; min-height: 168px; }
figure.query { margin-right: 1rem; }
img { height: 160px; max-width: 240px; object-fit: contain; border: 4px solid #888; border-radius: 4px; display: block; }
img { cursor: zoom-in; }
img:focus { position: fixed; inset: 0; margin: auto; height: 88vh; max-width: 92vw; z-index: 1; cursor: zoom-out;
  box-shadow: 0 0 0 100vmax #000b; outline: none; }
.query img { border-color: transparent; }
figcaption { font-size: 12px; overflow-wrap: anywhere; white-space: pre-line; width: min-content; min-width: 100%; }
@media (max-width: 600px) {
  body { margin: .6rem; }
  figure { min-height: 136px; }
  figure.query { position: sticky; left: 0; background: Canvas; margin: 0; padding-right: .5rem; }
  img { height: 128px; }
}
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
        lambda query: _pixels(frames, queries[query]),
        lambda row: _pixels(gallery.image, row),
        ranking,
        labels=[_who(query) for query in queries],
        captions=lambda row: _who(gallery.crop(row)),
    )


def as_pages(
    gallery: Gallery,
    queries: Sequence[Crop],
    found: Neighbors,
    tokens: str,
    per_page: int,
    decided: Sequence[Sequence[Decision]] | None = None,
) -> Iterator[str]:
    """HTML files of `page_name`, with links to each other: the answers to each query in a row, green where right, red where
    wrong. `decided`: about each answer to each query."""
    parts = list(tiles(len(queries), max(1, per_page)))[:PAGES]
    shown = "" if len(parts) == 1 else f" of {len(queries):,}"
    for page, rows in enumerate(parts, start=1):
        some = queries[rows]
        asked = f"{len(some):,}{shown} queries" if shown else plural(len(some), "query")
        heading = f"{asked}, {len(gallery):,} gallery images, tokens: {html.escape(tokens)}"
        part = Neighbors(found.distances[rows], found.rows[rows])
        sections = _sections(gallery, some, part, None if decided is None else decided[rows])
        links = _links(page, len(parts))
        phone = '<meta name="viewport" content="width=device-width, initial-scale=1">'
        yield (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{phone}<title>Search</title>\n'
            f"<style>{_STYLE}</style></head>\n"
            f"<body><h1>{heading}</h1>\n{links}{sections}\n{links}</body></html>\n"
        )


def _sections(
    gallery: Gallery, queries: Sequence[Crop], found: Neighbors, decided: Sequence[Sequence[Decision]] | None
) -> str:
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
    return "\n".join(sections)


def page_name(page: int) -> str:
    """The file of that page, counted from 1."""
    return "ranking.html" if page == 1 else f"ranking-{page}.html"


def _links(page: int, pages: int) -> str:
    """To the pages before and behind; nothing where there is one."""
    around = [(page - 1, "&larr; before"), (page + 1, "next &rarr;")]
    links = [f'<a href="{page_name(other)}">{word}</a>' for other, word in around if 1 <= other <= pages]
    return f"<nav>{''.join(links)} page {page} of {pages}</nav>\n" if links else ""


def thumbnail(pixels: Pixels) -> str:
    """A small JPEG in the image's own aspect, as a data URI."""
    scale = min(1.0, *(most / side for most, side in zip(THUMBNAIL, pixels.shape, strict=False)))
    size = max(1, round(scale * pixels.shape[0])), max(1, round(scale * pixels.shape[1]))
    small = cv2.cvtColor(resize(pixels, size), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _cell(color: str, pixels: Pixels, name: str, about: str, decision: Decision | None = None) -> str:
    """One image with its caption; no color for the query."""
    name, about = html.escape(name), html.escape(about)
    role, border = ("", f' style="border-color: {color}"') if color else (' class="query"', "")
    word = "" if decision is None else f'<b style="color: {DECISIONS[decision]}">&#9679;</b> {decision}\n'
    return (
        f'<figure{role}><img src="{thumbnail(pixels)}"{border} alt="{name}" title="{name}" tabindex="0">'
        f"<figcaption>{word}{about}</figcaption></figure>"
    )


def _who(crop: Crop) -> str:
    return "\n".join([f"pid {crop.pid}"] * bool(crop.pid) + [f"camera {crop.camid}"] * bool(crop.camid))


def _pixels(read: Callable[[Any], Pixels], what: Crop | int) -> Pixels:
    """The image, or gray where its file is gone: an answer stands without it."""
    try:
        return read(what)
    except ImageError:
        return np.full((*MISSING, 3), 128, dtype=np.uint8)
