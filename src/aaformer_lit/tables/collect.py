"""Run folders as they are found: what each was, what came out, or why nothing did."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from aaformer_lit.errors import ConfigError, first_line

_ROUNDING = 1e-5  # of float32 sums
FINISHED, FAILED, UNFINISHED, UNREADABLE = "finished", "failed", "unfinished", "unreadable"


@dataclass(frozen=True)
class Run:
    """One training.

    Args:
        folder: its run directory.
        status: `finished`, `failed`, `unfinished` (still running, or cut off) or `unreadable`.
        config: the composed config, nested.
        fingerprint: of the data; empty where the run did not get that far.
        metrics: of `metrics.json`; empty unless finished.
        commit: of the code.
        problem: why it is not finished.
        written: when its results were, in nanoseconds.
    """

    folder: Path
    status: str
    config: Mapping[str, Any]
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    commit: str | None = None
    problem: str = ""
    written: int = 0

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))


def collect(folders: Iterable[str | Path]) -> list[Run]:
    """All trainings under the folders, sorted by path; tests, pictures and reports that lie there are passed over.

    Raises:
        ConfigError: a folder is not there.
    """
    found: set[Path] = set()
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ConfigError(f"there is no folder {folder}. Give the folder of your runs: runs=DIR or runs=[DIR,DIR].")
        for name in ("metadata.json", "config.yaml"):
            found |= {path.parent.resolve() for path in folder.rglob(name) if path.parent.name != ".hydra"}
    runs = [read_run(folder) for folder in sorted(found)]
    return [run for run in runs if run.status == UNREADABLE or {"model", "optim"} <= run.config.keys()]


def read_run(folder: Path) -> Run:
    """One run folder; whatever is broken in it makes it `unreadable`, not an exception."""
    try:
        config, metadata = _config(folder)
        if config.get("seed", 0) is None:
            raise ValueError("seed=null: nobody knows which of a row's seeds it is")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Run(folder, UNREADABLE, {}, problem=f"what it was cannot be read: {_short(error)}")
    about: dict[str, Any] = {"fingerprint": metadata.get("data") or {}, "commit": metadata.get("git_commit")}
    path = folder / "metrics.json"
    if not path.exists():
        failure = folder / "failure.txt"
        if failure.exists():
            return Run(folder, FAILED, config, **about, problem=_first_line(failure))
        return Run(folder, UNFINISHED, config, **about, problem="no metrics.json: still running, or cut off")
    try:
        metrics = json.loads(path.read_text())
        if not isinstance(metrics, dict) or not about["fingerprint"]:
            raise ValueError("not a finished run's metrics.json and metadata.json")
        metrics = {str(key): float(value) for key, value in metrics.items()}
    except (OSError, ValueError, TypeError) as error:
        return Run(folder, UNREADABLE, config, **about, problem=f"what came out cannot be read: {_short(error)}")
    wrong = [
        key
        for key, value in metrics.items()
        # the distances between unit descriptors (test/stability/*) are at most 2, all else is a share
        if key.startswith("test/") and not -_ROUNDING <= value <= (2 if "stability/" in key else 1) + _ROUNDING
    ]
    if wrong:
        value = metrics[wrong[0]]
        what = "is not a number" if math.isnan(value) else f"= {value:g} is no fraction of 1"
        return Run(folder, UNREADABLE, config, **about, problem=f"{wrong[0]} {what}")
    return Run(folder, FINISHED, config, **about, metrics=metrics, written=path.stat().st_mtime_ns)


def _config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config, and the metadata where the run got as far as to write it."""
    if (folder / "metadata.json").exists():
        metadata = json.loads((folder / "metadata.json").read_text())
        if not all(isinstance(part, dict) for part in (metadata, metadata["config"], metadata.get("data") or {})):
            raise ValueError("metadata.json is not a run's")
        return metadata["config"], metadata
    try:
        content = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=False)
    except Exception as error:  # of yaml and omegaconf, which share no base
        raise ValueError(_short(error)) from error
    if not isinstance(content, dict):
        raise ValueError("config.yaml is empty")
    return {str(key): value for key, value in content.items()}, {}


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _first_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[0].strip() if lines else "failed"
