"""How many worker processes a loader has."""

from __future__ import annotations

import os


def default_workers() -> int:
    """The CPUs that this process may use, 8 at most."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 8)
