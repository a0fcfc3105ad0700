"""Lists of config values, and selections from sequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from aaformer_lit.errors import ConfigError

T = TypeVar("T")


def listed(value: object) -> list[Any]:
    """A config value that may be one or several, as a list; null is none."""
    if value is None:
        return []
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


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
