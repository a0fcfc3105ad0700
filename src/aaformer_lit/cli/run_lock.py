"""One training per run directory: `resume=auto` finds a run that still goes on, too, and must not write into it."""

from __future__ import annotations

import contextlib
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

    The lock ends with its process, however that ends; the loader's workers do not inherit it. A network file system keeps it
    across machines; one that cannot lock locks nothing.

    Raises:
        StillTrainingError: another training has the directory; the message says which process, and where.
    """
    if any(os.environ.get(name, "0") != "0" for name in _RANKS):
        yield
        return
    from filelock import FileLock, Timeout  # whose import takes a tenth of a second

    run_dir.mkdir(parents=True, exist_ok=True)
    file = run_dir / LOCK
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(file, blocking=False, fallback_to_soft=False))
            file.write_text(f"process {os.getpid()} on {platform.node()}")
        except Timeout:
            raise StillTrainingError(
                f"{run_dir} is still being trained, by {_holder(file)}. Wait for it or end it; leave out resume=auto (and "
                "hydra.run.dir) for a run of its own."
            ) from None
        except OSError:
            pass  # a full disk, say, which is told by what a training needs to write
        yield


def _holder(file: Path) -> str:
    with contextlib.suppress(OSError):  # Windows does not let others read a locked file
        return file.read_text() or "another process"
    return "another process"
