"""Selections from sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from aaformer_lit.errors import ConfigError

T = TypeVar("T")


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` items, evenly spread."""
    step = max(len(items) / max(count, 1), 1)
    return [items[int(i * step)] for i in range(min(count, len(items)))]


def tiles(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `range(length)`; raises `ConfigError` for a size below 1."""
    if size < 1:
        raise ConfigError(f"a chunk size must be 1 or more; got {size}.")
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
