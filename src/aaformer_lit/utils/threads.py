"""Work on many files at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`map` over threads, in order: reading and decoding release the interpreter lock."""
    with ThreadPoolExecutor() as pool:
        yield from pool.map(function, items, chunksize=64)
