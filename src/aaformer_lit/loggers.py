"""Weights & Biases with a useful dashboard."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

_HIGHER_IS_BETTER = ("val/mAP", "val/rank1", "test/mAP", "test/rank1")


def wandb_logger(
    project: str, save_dir: str | Path, offline: bool = False, group: str | None = None, **options: Any
) -> WandbLogger:
    """A W&B logger whose panels are grouped train/ val/ test/ assign/ and whose summary keeps the best retrieval metrics.

    Args:
        project: W&B project.
        save_dir: where the run's files go; offline runs are sent later with `wandb sync`.
        offline: record to files only.
        group: runs of one sweep share it.
        options: further arguments of `wandb.init`, such as `name` or `tags`.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.getLogger("wandb").setLevel(logging.WARNING)
    logger = WandbLogger(project=project, save_dir=str(save_dir), offline=offline, group=group, **options)
    run = logger.experiment
    if hasattr(run, "define_metric"):  # ranks other than 0 hold a stand-in without it
        for name in _HIGHER_IS_BETTER:
            run.define_metric(name, summary="max,last")
    return logger
