"""Several processes, one job: if one process fails, all stop, and its error is reported.

A rank whose partner is gone fails with a lost connection. It looks into the run's `failure.txt`, where a rank that Lightning
has started puts its own error, and the job reports that. A further rank also ends with the process that has started it:
otherwise it would wait half an hour for a collective.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aaformer_lit.errors import AAformerError, RankError, first_line
from aaformer_lit.utils.files import write_text

_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exited",
    "NCCL",
    "gloo",
)
_RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")  # where Lightning lets ranks meet
_REPORT_TIMEOUT = 3.0  # seconds that a rank's error may take to its file


def run_further_process(work: Callable[[], object], failure: Path) -> None:
    """Run `work` in a process that another one has started, and leave its error in the file `failure`.

    Args:
        work: the entry point's function.
        failure: where the first process looks for errors.
    """
    _end_with_parent()
    try:
        work()
    except Exception as error:
        if _lost_a_partner(error):
            sys.exit(1)  # the one that is gone has said why, or the first rank will
        text = str(error) if isinstance(error, AAformerError) else f"{type(error).__name__}: {error}"
        rank = os.environ.get("LOCAL_RANK", "?")
        write_text(failure, f"rank {rank}: {text}\n\n{''.join(traceback.format_exception(error))}", shared=True)
        raise


@contextmanager
def job_processes() -> Iterator[None]:
    """See a job's other processes off when it ends: the next job of a sweep, in this process too, has its own."""
    before = {name: os.environ.get(name) for name in _RENDEZVOUS}
    try:
        yield
    finally:
        dist = sys.modules.get("torch.distributed")
        if dist is not None and dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
        if "lightning" in sys.modules:
            from aaformer_lit.engine.launcher import end_started_ranks

            end_started_ranks()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def root_cause(error: BaseException, failure: Path) -> RankError | None:
    """The error of the rank whose end made this one fail; None for an error of this rank's own."""
    if not _lost_a_partner(error):
        return None
    until = time.monotonic() + _REPORT_TIMEOUT
    while time.monotonic() < until and not failure.exists():
        time.sleep(0.1)
    if failure.exists():
        return RankError(failure.read_text().split("\n\n", 1)[0])
    return RankError(
        "another process of this training ended without an error of its own, as one does that the system kills; often there "
        f"was no memory left (see dmesg). Continue with resume=auto. ({first_line(error)})"
    )


def _lost_a_partner(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ == "DistBackendError" or (
            isinstance(cause, RuntimeError) and any(sign in str(cause) for sign in _LOST)
        ):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _end_with_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # the main thread may hang in a collective, where no exception reaches it

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
