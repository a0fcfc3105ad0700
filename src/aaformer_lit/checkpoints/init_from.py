"""`init_from`: a new network that starts from a whole one, ours or another project's.

Unlike `ckpt_path`, which continues a training with its optimizer and epoch and so needs the same network, `init_from` begins a
new training: other people, other image sizes, other granularities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from aaformer_lit.checkpoints.hub import local_path
from aaformer_lit.checkpoints.load import build_network, describe, description, is_ours, read_checkpoint
from aaformer_lit.checkpoints.preprocessing import preprocessing
from aaformer_lit.errors import CheckpointError, ConfigError
from aaformer_lit.models import ReIDViT
from aaformer_lit.models.weights import WeightsReport, load_network_weights
from aaformer_lit.models.weights.file import WeightsFile, open_file, sha256
from aaformer_lit.utils.text import some


def init_from(network: ReIDViT, source: str | Path, source_grid: Sequence[int] | None = None) -> WeightsReport:
    """Start a network from a file, a run directory, an exported folder or a hub id, in place; returns what was taken.

    Args:
        network: any of `aaformer_lit.models`.
        source: what to start from.
        source_grid: patch rows and columns of a file that does not say them.

    Raises:
        CheckpointError: there is nothing of that name, it is refused, or its backbone does not fit.
    """
    return load_network_weights(network, find(source), source_grid)


def find(source: str | Path) -> WeightsFile:
    """The weights that a file, run directory, exported folder or hub id holds, with what they say of their network."""
    path = local_path(source)
    if path.is_dir():
        about = description(path)
        return dataclasses.replace(open_file(path / "model.safetensors"), about=about)
    if not is_ours(path):
        return open_file(path)
    content = read_checkpoint(path)
    return WeightsFile(path, content["state_dict"], "state_dict", content["aaformer_lit"], sha256(path))


def whole_network(model: DictConfig, source: str | Path, data: DictConfig) -> tuple[ReIDViT, dict[str, Any]]:
    """The network of another project's file in eval mode, and what a checkpoint of ours would say of it (see `load`).

    Args:
        model: the config of the network that the file is of.
        source: the file.
        data: how images are prepared for it.

    Raises:
        CheckpointError: as `init_from`, or something that the network needs is not in the file.
    """
    config = OmegaConf.to_container(without_weights(model, str(source)), resolve=True)
    assert isinstance(config, dict)
    about = describe({str(key): value for key, value in config.items()}, 0, preprocessing(data))
    network = build_network(about)
    report = init_from(network, source, model.backbone.source_grid)
    unused = ("heads.",) if network.neck_feature == "before" else ("heads.neck.num_batches_tracked",)
    filled = {*report.taken, *report.mapped}
    lacking = [name for name in network.state_dict() if name not in filled and not name.startswith(unused)]
    if lacking:
        raise CheckpointError(
            f"{source} ({report.layout}) is no whole {type(network).__name__}: it has nothing for {some(lacking, 3)}. Train it "
            f"first (aaformer_lit.train init_from={source}), or choose its own network; without necks "
            "(heads.neck) features are compared before them: model.neck_feature=before."
        )
    weights = {"layout": report.layout, "file": Path(report.path).name, "sha256": report.sha256}
    return network.eval(), about | {"weights": weights}


def without_weights(model: DictConfig, source: str) -> DictConfig:
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
