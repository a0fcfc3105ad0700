"""The runs of a table, small enough to publish: what each was, what came out, and its scores per query.

A folder of kept runs gives `report` the same table as the runs themselves. Checkpoints, logs and what cannot
change results (this machine's paths and devices, say) stay behind.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from aaformer_lit.tables.join import Column
from aaformer_lit.utils.files import whole_folder
from aaformer_lit.utils.identity import relevant

SUBSETS = ("", "global", "parts")


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
                kept.append(_publish(run.folder, folder / re.sub(r"\W", "-", name)))
    return kept


def _publish(source: Path, target: Path) -> Path:
    metadata = json.loads((source / "metadata.json").read_text())
    metadata["config"] = relevant(metadata["config"])
    metrics: dict[str, float] = json.loads((source / "metrics.json").read_text())
    rounded = {key: round(value, 6) for key, value in metrics.items()}
    with whole_folder(target) as temporary:
        (temporary / "metadata.json").write_text(json.dumps(metadata, indent=1) + "\n")
        (temporary / "metrics.json").write_text(json.dumps(rounded, indent=1) + "\n")
        if (source / "per_query.parquet").exists():
            scores = pd.read_parquet(source / "per_query.parquet")
            scores = scores[scores["subset"].isin(SUBSETS)].astype({"average_precision": "float32"})
            scores.to_parquet(temporary / "per_query.parquet", index=False, compression="zstd")
        shutil.rmtree(target, ignore_errors=True)
    return target
