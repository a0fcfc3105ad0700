"""Runs that lie unfinished: which of them `resume=auto` continues, and what is said of one that is nearly the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aaformer_lit.utils.identity import differences, identity, read_config


def same_run(runs: Path, config: Mapping[str, Any]) -> Path | None:
    """The newest unfinished run `runs`/<hash>/<time> of this identity."""
    ours = identity(config)
    return _newest([folder for folder, theirs in _unfinished(runs).items() if identity(theirs) == ours])


def same_job(sweep: Path, config: Mapping[str, Any]) -> Path | None:
    """The job `sweep`/<hash> of this identity, finished or not; older versions hashed it otherwise."""
    ours = identity(config)
    jobs = sorted(path for path in sweep.glob("*/config.yaml"))
    return next((path.parent for path in jobs if identity(read_config(path)) == ours), None)


def similar_run(runs: Path, config: Mapping[str, Any]) -> str:
    """Which unfinished run has the same data and model but another identity, and how it differs; empty if none does."""
    differing = {folder: list(differences(theirs, config)) for folder, theirs in _unfinished(runs).items() if theirs}
    similar = [
        folder
        for folder, keys in differing.items()
        if keys and not any(key.startswith(("data.", "model.")) and "transforms" not in key for key, _, _ in keys)
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
    return {path.parent: read_config(path) for path in started if not path.with_name("metrics.json").exists()}
