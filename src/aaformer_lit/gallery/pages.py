"""A search's answers for people: HTML files with the thumbnails inside them."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence

import cv2

from aaformer_lit.data.preparation import resize
from aaformer_lit.gallery.report import Ranked, Result, pixels_of, who
from aaformer_lit.gallery.sources import Frames
from aaformer_lit.gallery.store import Gallery
from aaformer_lit.structures import Pixels
from aaformer_lit.utils.sequences import tiles
from aaformer_lit.utils.text import plural
from aaformer_lit.viz.palette import DECISIONS, VERDICTS

THUMBNAIL = (320, 640)  # the most of height and width; smaller images stay as they are
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


def as_pages(gallery: Gallery, results: Sequence[Result], tokens: str, per_page: int) -> Iterator[str]:
    """HTML files of `page_name`, with links to each other: the answers to each query in a row, green where right, red where
    wrong."""
    parts = list(tiles(len(results), max(1, per_page)))[:PAGES]
    shown = "" if len(parts) == 1 else f" of {len(results):,}"
    for page, rows in enumerate(parts, start=1):
        part = results[rows]
        asked = f"{len(part):,}{shown} queries" if shown else plural(len(part), "query")
        heading = f"{asked}, {len(gallery):,} gallery images, tokens: {html.escape(tokens)}"
        links = _links(page, len(parts))
        phone = '<meta name="viewport" content="width=device-width, initial-scale=1">'
        yield (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{phone}<title>Search</title>\n'
            f"<style>{_STYLE}</style></head>\n"
            f"<body><h1>{heading}</h1>\n{links}{_sections(gallery, part)}\n{links}</body></html>\n"
        )


def _sections(gallery: Gallery, results: Sequence[Result]) -> str:
    frames, sections = Frames(), []
    for result in results:
        query, nobody = result.query, "\nnobody here" if result.nobody else ""
        cells = [_cell(pixels_of(frames, query), query.path.name, f"query\n{who(query)}{nobody}")]
        for place, answer in enumerate(result.answers, start=1):
            sign = VERDICTS[answer.match][1]
            about = f"{place}: {answer.distance:.3f}{sign}\n{who(gallery.crop(answer.row))}"
            name = gallery.table["path"].iat[answer.row]
            cells.append(_cell(pixels_of(gallery.image, answer.row), name, about, answer))
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


def _cell(pixels: Pixels, name: str, about: str, answer: Ranked | None = None) -> str:
    """One image with its caption; without `answer` the query."""
    name, about = html.escape(name), html.escape(about)
    role, border, word = ' class="query"', "", ""
    if answer is not None:
        role, border = "", f' style="border-color: {VERDICTS[answer.match][0]}"'
        if answer.decision is not None:
            word = f'<b style="color: {DECISIONS[answer.decision]}">&#9679;</b> {answer.decision}\n'
    return (
        f'<figure{role}><img src="{thumbnail(pixels)}"{border} alt="{name}" title="{name}" tabindex="0">'
        f"<figcaption>{word}{about}</figcaption></figure>"
    )
