"""The runs of a table, small enough to publish: what each was, what came out, and its scores per query.

A folder of kept runs gives `report` the same table as the runs themselves. Checkpoints, logs and this machine's paths stay
behind.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from aaformer_lit.tables.join import Column

SUBSETS = ("", "global", "parts")
_MACHINE = ("paths", "run_dir", "logger", "pictures", "resume", "ckpt_path")


def publish_runs(columns: Iterable[Column], folder: Path) -> list[Path]:
    """Write each finished run of the columns to `folder/<row>-<seed>`, replacing what is there; returns the new folders.

    With several columns the folders are numbered, `<row>-<seed>-<column>`.
    """
    columns = list(columns)
    kept = []
    for number, column in enumerate(columns, start=1):
        for cell in column.cells:
            for seed, run in sorted(cell.runs.items()):
                name = f"{cell.row.key}-{seed}" + (f"-{number}" if len(columns) > 1 else "")
                kept.append(_keep(run.folder, folder / re.sub(r"\W", "-", name)))
    return kept


def _keep(source: Path, target: Path) -> Path:
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    metadata = json.loads((source / "metadata.json").read_text())
    metadata["config"] = _without_machine(metadata["config"])
    (temporary / "metadata.json").write_text(json.dumps(metadata, indent=1) + "\n")
    metrics: dict[str, float] = json.loads((source / "metrics.json").read_text())
    rounded = {key: round(value, 6) for key, value in metrics.items()}
    (temporary / "metrics.json").write_text(json.dumps(rounded, indent=1) + "\n")
    if (source / "per_query.parquet").exists():
        scores = pd.read_parquet(source / "per_query.parquet")
        scores = scores[scores["subset"].isin(SUBSETS)].astype({"average_precision": "float32"})
        scores.to_parquet(temporary / "per_query.parquet", index=False, compression="zstd")
    shutil.rmtree(target, ignore_errors=True)
    return temporary.rename(target)


def _without_machine(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without where things lay; files are named without their folders."""
    config = {key: value for key, value in config.items() if key not in _MACHINE}
    data = {key: value for key, value in config.get("data", {}).items() if key != "root"}
    average = (config.get("callbacks") or {}).get("ema")  # the one callback that changes what is tested
    kept: dict[str, Any] = _file_names({**config, "data": data, "callbacks": {"ema": average} if average else {}})
    return kept


def _file_names(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _file_names(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_file_names(one) for one in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
