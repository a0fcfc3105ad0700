"""EMA: the exponential moving average of the weights."""

from __future__ import annotations

import warnings
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

from aaformer_lit.engine.fsdp import Sharded
from aaformer_lit.errors import ConfigError


class EMA(EMAWeightAveraging):
    """Exponential moving average of the weights, used for validation, test and the final weights.

    Args:
        decay: of the average per optimizer step.
    """

    def __init__(self, decay: float = 0.999) -> None:
        # batch-norm statistics are averages already, and their step counters are integers
        super().__init__(decay=decay, use_buffers=False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if isinstance(trainer.strategy, Sharded):
            raise ConfigError(
                "weights that are divided among processes (trainer=fsdp) cannot be averaged (callbacks=ema). "
                "Use trainer=ddp, or callbacks=default."
            )
        with warnings.catch_warnings():
            # the hook does nothing here, for it divides weights under `Sharded` alone
            warnings.filterwarnings("ignore", message=".*overrides the configure_model callback")
            super().setup(trainer, pl_module, stage)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == "fit":  # in a test the weights of the checkpoint are the average already
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # a training that was killed after its last epoch has none left when continued, and then no end of training
        self._copy_average_to_current(pl_module)
