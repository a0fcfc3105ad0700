"""How many worker processes a loader has."""

from __future__ import annotations

import os


def default_workers(processes: int = 1) -> int:
    """This process's share of the CPUs where `processes` on this machine load images, 1 to 8."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(available // processes, 1), 8)
