"""Puts a synthetic data set on disk, once: a folder made from the same spec is found again and left as it is.

Pictures are drawn into a temporary folder that takes its name when all is there, so an interrupted run leaves no data set
that looks whole.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aaformer_lit.data.synthetic import layouts
from aaformer_lit.data.synthetic.cuhk03_raw import CUHK03Raw
from aaformer_lit.data.synthetic.spec import DRAWING_VERSION, SyntheticSpec
from aaformer_lit.errors import ConfigError, check_choice
from aaformer_lit.utils.files import whole_folder

STAMP = "synthetic.json"
LAYOUTS: dict[str, layouts.Layout] = {
    layout.name: layout()
    for layout in (
        layouts.Layout,
        layouts.DukeMTMC,
        layouts.OccludedDuke,
        layouts.OccludedREID,
        layouts.PartialREID,
        layouts.PDukeMTMC,
        layouts.MSMT17,
        layouts.MSMT17V2,
        layouts.CUHK03Cut,
        CUHK03Raw,
        layouts.Synthetic,
    )
}


def generate(root: str | Path, spec: SyntheticSpec, layout: str = "market1501", progress: bool = True) -> Path:
    """Draw the data set of `spec` into `root` in one of `LAYOUTS`; returns its folder.

    The benchmark layouts have their official folder names, "synthetic" is Market-1501's layout in `synthetic-<hash>`. Raises
    `ConfigError` for an unknown layout, a spec that it cannot hold or that has no gallery, or a folder of that name that holds
    something else.
    """
    check_choice("the layout of synthetic data", layout, LAYOUTS)
    kind = LAYOUTS[layout]
    spec = kind.adapt(spec)
    if spec.images_per_camera < 2:
        raise ConfigError(
            f"synthetic data with images_per_camera={spec.images_per_camera} would have no gallery: each camera's first image "
            f"of a test person is a query. Use 2 or more."
        )
    root = Path(root).expanduser()
    folder = root / kind.folder_name(spec)
    stamp = {"layout": layout, "version": DRAWING_VERSION, "spec": asdict(spec)}
    if is_made(folder, stamp):
        return folder

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=Console(stderr=True), disable=not progress)
    with whole_folder(folder) as temporary, bar:
        task = bar.add_task(f"Drawing {folder.name}", total=kind.count(spec))
        kind.write(temporary, spec, lambda: bar.advance(task))
        (temporary / STAMP).write_text(json.dumps(stamp, indent=2) + "\n")
    is_made(folder, stamp)  # by another process, which was faster: the same, byte for byte
    return folder


def is_made(folder: Path, stamp: dict[str, Any]) -> bool:
    """Whether `folder` holds what `stamp` says; raises `ConfigError` where it exists and does not."""
    if not folder.exists():
        return False
    try:
        found = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        found = None
    if found != stamp:
        what = "holds no synthetic data set" if found is None else "holds synthetic data of other settings"
        raise ConfigError(f"{folder} {what}, and is not overwritten. Move it away, or choose another paths.data.")
    return True
