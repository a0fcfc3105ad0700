"""Python's garbage collector, which walks through objects that stay again and again while others are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """No collection inside: for many objects that are made at once and stay, such as the records of a data set."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def imports_kept() -> Iterator[None]:
    """As `collector_paused`, and no later collection walks through what was imported inside, nor does Python's end.

    Only of the first time in a process: in the next job of a sweep, what the last one left is still to be collected.
    """
    with collector_paused():
        yield
        if not gc.get_freeze_count():
            gc.freeze()
