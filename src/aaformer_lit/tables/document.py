"""Titled tables with notes, as plain text, Markdown, LaTeX or one HTML file: the same cells of text in each.

A grid is a list of lines, the first one the header; the first column is set left, the others right.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aaformer_lit.utils.text import markdown_table

Grid = list[list[str]]
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
li, p { color: color-mix(in srgb, currentColor 75%, transparent); }
"""


@dataclass(frozen=True)
class Section:
    """Some grids under a title, and what is to be said of them."""

    title: str
    grids: Sequence[Grid]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Document:
    """Sections under a title; `origin` says where the numbers come from."""

    title: str
    origin: str
    sections: Sequence[Section]


def text(document: Document) -> str:
    """Plain text in aligned columns."""
    blocks = [f"{document.title}\n{document.origin}"]
    for section in document.sections:
        grids, notes = ["\n" + _aligned(lines) for lines in section.grids], [f"  * {note}" for note in section.notes]
        blocks.append("\n".join([section.title, *grids, *notes]))
    return "\n\n".join(blocks) + "\n"


def markdown(document: Document) -> str:
    """GitHub's Markdown."""
    blocks = [f"## {document.title}\n\n{document.origin}"]
    for section in document.sections:
        blocks.append(f"### {section.title}")
        blocks += [markdown_table(lines, numbers=True) for lines in section.grids]
        if section.notes:
            blocks.append("\n".join(f"- {note}" for note in section.notes))
    return "\n\n".join(blocks) + "\n"


def latex(document: Document) -> str:
    """`booktabs` tables; titles and notes are comments."""
    blocks = [f"% {document.title}. {document.origin}"]
    for section in document.sections:
        block = [f"% {section.title}", *(f"% {note}" for note in section.notes)]
        for lines in section.grids:
            rows = [" & ".join(map(_latex, line)) + r" \\" for line in lines]
            align = "l" + "r" * (len(lines[0]) - 1)
            begin, end = rf"\begin{{tabular}}{{{align}}}", r"\end{tabular}"
            block += [begin, r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule", end]
        blocks.append("\n".join(block))
    return "\n\n".join(blocks) + "\n"


def page(document: Document) -> str:
    """One HTML file that needs no other."""
    title = html.escape(document.title)
    body = [f"<h1>{title}</h1>", f"<p>{html.escape(document.origin)}</p>"]
    for section in document.sections:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        body += [f"<div><table>\n{_rows(lines)}\n</table></div>" for lines in section.grids]
        if section.notes:
            body.append("<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in section.notes) + "</ul>")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{title}</title><style>{_STYLE}</style></head>\n'
        f"<body>\n{chr(10).join(body)}\n</body></html>\n"
    )


FORMATS: Mapping[str, Callable[[Document], str]] = {"txt": text, "md": markdown, "tex": latex, "html": page}


def _aligned(lines: Grid) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) for first, *rest in lines]
    return "\n".join(f"  {line.rstrip()}" for line in (padded[0], "-" * len(padded[0]), *padded[1:]))


def _rows(lines: Grid) -> str:
    """Of an HTML table: the header, then the lines."""
    cells = [
        "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line)
        for tag, line in zip(["th"] + ["td"] * (len(lines) - 1), lines, strict=True)
    ]
    return "\n".join(f"<tr>{line}</tr>" for line in cells)


_LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "±": r"$\pm$"}
    | {c: f"\\{c}" for c in "&%_#{}$"}
)


def _latex(cell: str) -> str:
    return cell.translate(_LATEX)
