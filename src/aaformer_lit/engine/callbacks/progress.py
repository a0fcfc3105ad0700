"""How a training gets on: a bar on a terminal, a line per epoch in a log (SLURM, nohup, CI)."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, RichProgressBar
from lightning.pytorch.utilities.types import STEP_OUTPUT

from aaformer_lit.engine.estimate import in_words
from aaformer_lit.structures import ReIDBatch

logger = logging.getLogger(__name__)


def progress() -> ProgressBar:
    """The bar where standard output is a terminal, else the lines."""
    return StageBar() if sys.stdout.isatty() else EpochLines()


def best_validation(trainer: Trainer) -> float | None:
    """The best mAP on held-out people, as the checkpoint of it knows, over restarts too; None without a validation."""
    kept = [
        one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint) and one.monitor == "val/mAP"
    ]
    return max((float(one.best_model_score) for one in kept if one.best_model_score is not None), default=None)


class _Paced(ProgressBar):
    """Images per second of the epoch's training batches, over all processes, and the best mAP on held-out people."""

    def __init__(self) -> None:
        super().__init__()
        self.best: float | None = None
        self._images, self._since, self._seconds = 0, time.monotonic(), 0.0

    @property
    def images_per_second(self) -> float:
        return self._images / max(self._seconds, 1e-9)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.best = best_validation(trainer)  # of a training that is continued

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self._images, self._since, self._seconds = 0, time.monotonic(), 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: ReIDBatch, batch_idx: int
    ) -> None:
        self._images += len(batch["pid"]) * trainer.world_size
        self._seconds = time.monotonic() - self._since
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self.best = max(self.best or 0.0, float(trainer.callback_metrics["val/mAP"]))


class EpochLines(_Paced):
    """One line in the log at the end of each epoch: loss, mAP of a validation, images per second, time left."""

    def __init__(self) -> None:
        super().__init__()
        self._started, self._first_epoch, self._validated = time.monotonic(), 0, False

    def disable(self) -> None:
        """A process that is not the first says nothing: see `on_train_epoch_end`."""

    def enable(self) -> None:
        """It always speaks."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._started, self._first_epoch = time.monotonic(), trainer.current_epoch

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        metrics, done = trainer.callback_metrics, trainer.current_epoch + 1
        said = [f"loss {metrics['train/loss']:.3f}"]
        if self._validated:
            said.append(f"validation mAP {100 * metrics['val/mAP']:.1f} (best {100 * (self.best or 0):.1f})")
        said.append(f"{self.images_per_second:.0f} images/s")
        left = (trainer.max_epochs or done) - done
        if left > 0:
            hours = (time.monotonic() - self._started) / (done - self._first_epoch) * left / 3600
            said.append(f"about {in_words(hours)} left")
        self._validated = False
        if trainer.is_global_zero:
            logger.info("epoch %d of %s: %s", done, trainer.max_epochs, ", ".join(said))


class StageBar(_Paced, RichProgressBar):
    """Lightning's bar with the stage in words, epochs from 1 as people count, images per second and the best mAP so far."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        shown["images/s"] = f"{self.images_per_second:.0f}"
        if self.best is not None:
            shown["best mAP"] = f"{100 * self.best:.1f}"
        return shown

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Training, epoch {current_epoch + 1} of {self.trainer.max_epochs}"
