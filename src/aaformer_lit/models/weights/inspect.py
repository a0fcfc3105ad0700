"""What a file of weights is and which backbones it fits, without training and without their memory (meta device)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from aaformer_lit.errors import AAformerError
from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.load import Misfit, describe, fill_backbone, translate
from aaformer_lit.models.weights.report import WeightsReport


@dataclass
class Inspection:
    """What was found. `fits`: backbone and what would be resampled; `misfits`: backbone and why not, the nearest first."""

    path: str
    layout: str
    sha256: str
    what: str
    beside: list[str]
    dropped: list[str]
    warnings: list[str]
    fits: dict[str, str] = field(default_factory=dict)
    misfits: dict[str, str] = field(default_factory=dict)


def inspect_weights(
    file: WeightsFile,
    backbones: Mapping[str, Mapping[str, Any]],
    image_size: tuple[int, int],
    source_grid: Sequence[int] | None = None,
) -> Inspection:
    """Look into a file and try it on each backbone, which are arguments of `build_backbone` without image size and weights.

    Raises:
        CheckpointError: the file is refused, or of no known layout.
    """
    source = translate(file)
    found = Inspection(
        str(file.path),
        source.layout + (f" (under {file.wrapper})" if file.wrapper else ""),
        file.sha256,
        describe(source.backbone),
        sorted(source.network),
        [f"{name} ({why})" for name, why in source.dropped.items()],
        list(source.warnings),
    )
    apart: dict[str, float] = {}
    for name, options in backbones.items():
        try:
            resampled = _try(file, options, image_size, source_grid)
        except AAformerError as error:
            found.misfits[name] = str(error).split(". ")[0].rpartition("does not fit this backbone: ")[2]
            apart[name] = error.tensors if isinstance(error, Misfit) else math.inf
        else:
            found.fits[name] = ", ".join(f"{what} {sizes}" for what, sizes in resampled.items()) or "as it is"
    found.misfits = {name: found.misfits[name] for name in sorted(apart, key=lambda name: apart[name])}
    return found


def _try(
    file: WeightsFile, options: Mapping[str, Any], image_size: tuple[int, int], source_grid: Sequence[int] | None
) -> Mapping[str, str]:
    from aaformer_lit.models.backbone import build_backbone  # which imports this package

    quiet = logging.getLogger("aaformer_lit.models.backbone")
    before, quiet.disabled = quiet.disabled, True  # what it says of image sizes is no news here
    try:
        with torch.device("meta"):
            built = build_backbone(image_size=image_size, **options)
        built = built.to_empty(device="cpu")
    finally:
        quiet.disabled = before
    report = WeightsReport(str(file.path), file.sha256, "")
    fill_backbone(built, translate(file), report, source_grid)
    return report.resampled
