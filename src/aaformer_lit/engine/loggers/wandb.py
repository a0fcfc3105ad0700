"""Weights & Biases with a useful dashboard."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from omegaconf import OmegaConf

_HIGHER_IS_BETTER = ("val/mAP", "val/rank1", "test/mAP", "test/rank1")
_PER_EPOCH = ("train/*", "val/*", "assign/*")


class Wandb(WandbLogger):
    """Lightning's logger; `log_artifacts` says whether the run's checkpoint and metadata are kept as an artifact."""

    log_artifacts = False


def wandb_logger(
    project: str,
    save_dir: str | Path,
    offline: bool = False,
    group: str | None = None,
    log_artifacts: bool = False,
    labels: Mapping[str, Any] | None = None,
    **options: Any,
) -> Wandb:
    """A W&B logger whose panels are grouped step/ train/ val/ test/ assign/ and whose summary keeps the best retrieval metrics.

    The run's config (`config.yaml` in `save_dir`) is recorded flat, as on the command line: `optim.optimizer.lr`.

    Args:
        project: W&B project.
        save_dir: where the run's files go; offline runs are sent later with `wandb sync`.
        offline: record to files only.
        group: runs of one sweep share it.
        labels: `name`, `group` and `tags` of the run where nothing else is given for them.
        log_artifacts: keep the last checkpoint, metadata and results as a W&B artifact.
        options: further arguments of `wandb.init`, such as `name` or `tags`.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.getLogger("wandb").setLevel(logging.WARNING)
    config = Path(save_dir, "config.yaml")
    if config.exists():
        options = {"config": flat(OmegaConf.to_container(OmegaConf.load(config)))} | options
    options = dict(labels or {}) | options | ({"group": group} if group else {})
    if "tags" in options:
        options["tags"] = list(options["tags"])
    logger = Wandb(project=project, save_dir=str(save_dir), offline=offline, **options)
    logger.log_artifacts = log_artifacts
    run = logger.experiment
    if hasattr(run, "define_metric"):  # ranks other than 0 hold a stand-in without it
        for pattern in _PER_EPOCH:
            run.define_metric(pattern, step_metric="epoch")
        for name in _HIGHER_IS_BETTER:
            run.define_metric(name, step_metric="epoch", summary="max,last")
    return logger


def flat(config: object, prefix: str = "") -> dict[str, Any]:
    """A nested config with one key for each value, as Hydra's overrides name them; lists stay whole."""
    if not isinstance(config, Mapping) or not config:
        return {prefix: config}
    values: dict[str, Any] = {}
    for key, value in config.items():
        values |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return values
