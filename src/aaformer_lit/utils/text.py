"""Numbers and lists in words."""

from __future__ import annotations

import os
from collections.abc import Iterable


def plural(number: int, noun: str) -> str:
    """`1 id`, `2 ids`, `12,936 images`, `2 queries`."""
    several = f"{noun[:-1]}ies" if noun.endswith("query") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else several}"


def separators_hint(path: object) -> str:
    """A further sentence for a path that is not there, where it is written as on Windows."""
    backslashes = "\\" in str(path) and os.sep == "/"
    return " It is written with backslashes; folders are separated by / here." if backslashes else ""


def some(items: Iterable[object], limit: int = 5) -> str:
    """The first few items, and how many more there are."""
    items = list(items)
    rest = f" and {len(items) - limit:,} more" if len(items) > limit else ""
    return ", ".join(str(item) for item in items[:limit]) + rest
