"""`metrics.csv`, of which a continued training cannot be told from an unbroken one.

The rows so far travel inside the checkpoint, with the row of the epoch that it ends: Lightning logs that one only after the
checkpoint is written, and a kill between the two would lose it. A continued training starts from those rows, so that what
was logged after the checkpoint and is now trained anew appears once.
"""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from aaformer_lit.utils.files import write_whole

Row = dict[str, float]
_KEY = "metrics_log"


class MetricsCSV(Logger):
    """All that was logged but single steps, one row for each call, in `metrics.csv`: rewritten with each row, and whole at
    every moment.

    Args:
        save_dir: where the file goes.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self.path = Path(save_dir, "metrics.csv")
        self.rows: list[Row] = []

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @property
    def log_dir(self) -> str:
        return self.save_dir

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: object, **kwargs: object) -> None:
        """They are in `metadata.json`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        metrics = {key: value for key, value in metrics.items() if not key.startswith("step/")}
        if metrics.keys() - {"epoch"}:
            self.rows.append(as_row(metrics, len(self.rows) if step is None else step))
            self.write()

    @rank_zero_only
    def write(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, sorted({key for row in self.rows for key in row}))
        writer.writeheader()
        writer.writerows(self.rows)
        write_whole(self.path, text.getvalue().encode())


class KeepHistory(Callback):
    """Puts the rows of `metrics.csv` into each checkpoint, and takes them from the one that a training continues."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, MetricsCSV)]
        if loggers:
            checkpoint[_KEY] = [*loggers[0].rows, *_row_to_come(trainer)]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != "fit":  # weights loaded for a test do not change what was logged
            return
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV) and _KEY in checkpoint:
                logger.rows = [dict(row) for row in checkpoint[_KEY]]
                logger.write()


def as_row(metrics: Mapping[str, Any], step: int) -> Row:
    """Plain numbers, with the step."""
    return {key: getattr(value, "item", lambda value=value: value)() for key, value in metrics.items()} | {"step": step}


def _row_to_come(trainer: Trainer) -> list[Row]:
    """What Lightning will log of this epoch right after the checkpoint; nothing where it saves at another time."""
    connector = trainer._logger_connector
    if not trainer.training or connector._first_loop_iter is not None:
        return []
    metrics: Mapping[str, Any] = connector.metrics["log"]
    step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1  # as Lightning counts for the metrics of an epoch
    return [as_row({**metrics, "epoch": trainer.current_epoch}, step)] if metrics else []
