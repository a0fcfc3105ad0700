"""Memory that a computation on the CPU has freed is kept for its next step, as torch does on a GPU.

glibc gives freed memory back to the system as soon as some megabytes lie at the heap's end, and the next layer's activations
then lie on pages that the system must first clear: for a ViT-B that is some 300 MB in every step.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST = 2**31 - 1
_LARGEST_MMAP = 2**25  # glibc refuses more


def keep_freed_memory() -> None:
    """Keep up to 2 GB of it; without effect where the C library is not glibc."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)
        libc.mallopt(_TRIM_THRESHOLD, _LARGEST)


def give_back() -> None:
    """Give what was kept back to the system, so that memory can be measured."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
