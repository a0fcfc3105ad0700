"""Numbers and lists in words."""

from __future__ import annotations

from collections.abc import Iterable


def plural(number: int, noun: str) -> str:
    """`1 id`, `2 ids`, `12,936 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some(items: Iterable[object], limit: int = 5) -> str:
    """The first few items, and how many more there are."""
    items = list(items)
    rest = f" and {len(items) - limit:,} more" if len(items) > limit else ""
    return ", ".join(str(item) for item in items[:limit]) + rest
