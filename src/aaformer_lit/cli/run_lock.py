"""One training per run directory: `resume=auto` finds a run that still goes on, too, and must not write into it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from aaformer_lit.errors import ConfigError

LOCK = ".lock"
# of torchrun, srun, jsrun, mpirun, or set by hand: what these start all comes here, and is one training
_RANKS = ("RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "NODE_RANK", "LOCAL_RANK")


class StillTrainingError(ConfigError):
    """Another process trains in this directory."""


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Alone in a run's directory, for the first process of a training; its further ones belong to it.

    The lock is the process's own (POSIX): it ends with it however that ends, and the loader's workers do not inherit it. A
    network file system keeps it across machines; one that cannot lock locks nothing.

    Raises:
        StillTrainingError: another training has the directory; the message says which process, and where.
    """
    if any(os.environ.get(name, "0") != "0" for name in _RANKS):
        yield
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / LOCK, "ab+", buffering=0) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                holder = file.read().decode() or "another process"
                raise StillTrainingError(
                    f"{run_dir} is still being trained, by {holder}. Wait for it or end it; leave out resume=auto (and "
                    "hydra.run.dir) for a run of its own."
                ) from None
        with contextlib.suppress(OSError):  # a full disk is told by what a training needs to write
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}".encode())
        yield
