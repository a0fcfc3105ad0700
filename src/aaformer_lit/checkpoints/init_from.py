"""`init_from`: a new network that starts from a whole one, ours or another project's.

Unlike `ckpt_path`, which continues a training with its optimizer and epoch and so needs the same network, `init_from` begins a
new training: other people, other image sizes, other granularities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aaformer_lit.checkpoints.hub import local_path
from aaformer_lit.checkpoints.load import description
from aaformer_lit.errors import CheckpointError, ConfigError
from aaformer_lit.models.weights import WeightsReport, load_network_weights
from aaformer_lit.models.weights.file import WeightsFile, open_file


def init_from(network: Any, source: str | Path, source_grid: Sequence[int] | None = None) -> WeightsReport:
    """Start a network from a file, a run directory, an exported folder or a hub id, in place; returns what was taken.

    Args:
        network: a `ReIDViT`.
        source: what to start from.
        source_grid: patch rows and columns of a file that does not say them.

    Raises:
        CheckpointError: there is nothing of that name, it is refused, or its backbone does not fit.
    """
    return load_network_weights(network, find(source), source_grid)


def find(source: str | Path) -> WeightsFile:
    """The weights that a file, run directory, exported folder or hub id holds, with what they say of their network."""
    path = local_path(source)
    if not path.is_dir():
        return open_file(path)
    checkpoint = path / "checkpoints" / "last.ckpt"
    if checkpoint.is_file():
        return open_file(checkpoint)
    if (path / "config.json").is_file():
        return dataclasses.replace(open_file(path / "model.safetensors"), about=description(path))
    raise CheckpointError(
        f"{path} is no run (checkpoints/last.ckpt) and no exported folder (config.json and model.safetensors). "
        "Give init_from=FILE, RUN, FOLDER or a hub id."
    )


def without_weights(model: Any, source: str) -> Any:
    """The model's config for a network that `init_from` fills: its backbone needs no weights, and may have no others.

    Raises:
        ConfigError: a file of backbone weights is given too.
    """
    weights = model.backbone.weights
    if weights not in (None, "timm"):
        raise ConfigError(
            f"init_from={source} brings the backbone's weights, and so does model.backbone.weights={weights}. Give one of them."
        )
    model = model.copy()
    model.backbone.weights = None
    return model
