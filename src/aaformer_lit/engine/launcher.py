"""The ranks that Lightning has started for further devices: they end with the job."""

from __future__ import annotations

import subprocess
import threading

_SHUTDOWN_TIMEOUT = 10.0  # seconds that the others may take to end after the first rank


def end_started_ranks() -> None:
    """Wait for the ranks, and call off the thread of Lightning that kills this process if one of them failed."""
    for thread in threading.enumerate():
        started: list[subprocess.Popen[bytes]] = getattr(thread, "_child_processes", [])
        processes = list(started)
        started.clear()  # first, or the thread finds those that are ended here
        for process in processes:
            try:
                process.wait(_SHUTDOWN_TIMEOUT)
            except subprocess.TimeoutExpired:  # in a collective that nobody else will ever join
                process.kill()
