"""The loader's worker processes: how many, and each on one thread."""

from __future__ import annotations

import os

import cv2


def default_workers() -> int:
    """The CPUs that this process may use, 8 at most."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 8)


def init_worker(_: int) -> None:
    """OpenCV's own threads would compete with the other workers."""
    cv2.setNumThreads(0)
