"""A loss that is not finite ends the training, and leaves the evidence."""

from __future__ import annotations

from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from aaformer_lit.checkpoints.io import serialized
from aaformer_lit.errors import NumericsError, StorageError
from aaformer_lit.utils.files import write_whole


class SaveNonFinite(Callback):
    """Keeps what led to a loss that is not finite: the weights before the step, the optimizer and the batch.

    The file is a checkpoint like any other (`load_model` reads it) with the keys `batch` (as the network saw it), `files`
    and `terms` (of the loss) beside.

    Args:
        dirpath: folder of these files.
    """

    def __init__(self, dirpath: str | Path) -> None:
        self.dirpath = Path(dirpath)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, NumericsError):
            return
        rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = self.dirpath / f"nonfinite_step{trainer.global_step}{rank}.ckpt"
        content = {
            "epoch": trainer.current_epoch,
            "global_step": trainer.global_step,
            "state_dict": trainer.strategy.lightning_module_state_dict(),
            "optimizer_states": [trainer.strategy.optimizer_state(optimizer) for optimizer in trainer.optimizers],
            "aaformer_lit": pl_module.description(),  # type: ignore[operator]
            **exception.evidence,
        }
        try:
            write_whole(path, serialized(content))
            said = f"The weights and the batch are in {path}."
        except StorageError as error:
            said = f"The weights and the batch are not saved: {error}"
        exception.args = (f"{exception} {said}",)
