"""Numbers, lists and tables in words."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence


def plural(number: int, noun: str) -> str:
    """`1 id`, `2 ids`, `12,936 images`, `2 queries`."""
    several = f"{noun[:-1]}ies" if noun.endswith("query") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else several}"


def significant(value: float, digits: int = 3) -> str:
    """`0.0123`, `4.57`, `1,235`: as many significant digits, and all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def percent(share: float) -> str:
    """`7.57 %` of 0.0757, `100 %` of 1."""
    return f"{significant(100 * share)} %"


def separators_hint(path: object) -> str:
    """A further sentence for a path that is not there, where it is written as on Windows."""
    backslashes = "\\" in str(path) and os.sep == "/"
    return " It is written with backslashes; folders are separated by / here." if backslashes else ""


def some(items: Iterable[object], limit: int = 5) -> str:
    """The first few items, and how many more there are."""
    items = list(items)
    rest = f" and {len(items) - limit:,} more" if len(items) > limit else ""
    return ", ".join(str(item) for item in items[:limit]) + rest


def granularity_names(parts: Sequence[int]) -> list[str]:
    """`parts_2`, `parts_3` of [2, 3]; of equal granularities the later ones are numbered: `parts_2`, `parts_2_2` of [2, 2]."""
    seen = [list(parts[:place]).count(count) for place, count in enumerate(parts)]
    return [f"parts_{count}{f'_{before + 1}' if before else ''}" for count, before in zip(parts, seen, strict=True)]


def markdown_table(lines: Sequence[Sequence[str]], numbers: bool = False) -> str:
    """GitHub's Markdown of a header and rows; `numbers`: all columns but the first stand to the right."""
    head, *rows = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    rule = "| --- |" + (" ---: |" if numbers else " --- |") * (len(lines[0]) - 1)
    return "\n".join([head, rule, *rows])
