"""Runs that lie unfinished: which of them `resume=auto` continues, and what is said of one that is nearly the same.

A run whose training still goes on is unfinished too: `locked` keeps a second process out of its directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.identity import differences, identity

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


def same_run(runs: Path, config: Mapping[str, Any]) -> Path | None:
    """The newest unfinished run `runs`/<hash>/<time> of this identity."""
    ours = identity(config)
    return _newest([folder for folder, theirs in _unfinished(runs).items() if identity(theirs) == ours])


def same_job(sweep: Path, config: Mapping[str, Any]) -> Path | None:
    """The job `sweep`/<hash> of this identity, finished or not; older versions hashed it otherwise."""
    ours = identity(config)
    jobs = sorted(path for path in sweep.glob("*/config.yaml"))
    return next((path.parent for path in jobs if identity(_read(path)) == ours), None)


def similar_run(runs: Path, config: Mapping[str, Any]) -> str:
    """Which unfinished run has the same data and model but another identity, and how it differs; empty if none does."""
    differing = {folder: list(differences(theirs, config)) for folder, theirs in _unfinished(runs).items() if theirs}
    similar = [
        folder
        for folder, keys in differing.items()
        if keys and not any(key.startswith(("data.", "model.")) for key, _, _ in keys)
    ]
    newest = _newest(similar)
    if newest is None:
        return ""
    told = ", ".join(f"{key}={theirs} (here {ours})" for key, theirs, ours in differing[newest])
    return f"{newest} lies unfinished, but is another run: {told}. With its values it is continued."


def _newest(runs: Iterable[Path]) -> Path | None:
    """The one that was started last; names are times of some runs and numbers of SLURM's jobs of others."""
    return max(runs, key=lambda folder: (folder / "config.yaml").stat().st_mtime, default=None)


def _unfinished(runs: Path) -> dict[Path, dict[str, Any]]:
    started = sorted(runs.glob("*/*/config.yaml"))
    return {path.parent: _read(path) for path in started if not path.with_name("metrics.json").exists()}


def _read(path: Path) -> dict[str, Any]:
    """A run's config; empty where it cannot be read."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception:  # of yaml and omegaconf, which share no base
        return {}
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}
