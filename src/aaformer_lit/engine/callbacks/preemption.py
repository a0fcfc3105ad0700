"""How a training ends before its time: asked to by a signal, or by a loss that is not finite.

A signal (SIGTERM of a scheduler or of `kill`, SIGUSR1 as SLURM sends it ahead of the time limit) ends the training after
the current batch, on all ranks at the same one, with exit code 128 + signal as a shell would report it: 143 for SIGTERM. It
goes on from the end of the last epoch, which is on the disk; a state in the middle of an epoch would lack the means that the
epoch has gathered so far, and could not lead to the same metrics. After the last batch of the test there is nothing left to
go on with: the results are written, and the run is finished.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from aaformer_lit.checkpoints.io import LAST, PREVIOUS
from aaformer_lit.errors import first_line

logger = logging.getLogger(__name__)
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class StopOnSignal(Callback):
    """Ends training and test cleanly on SIGTERM or SIGUSR1; under SLURM, SIGUSR1 also puts the job back into the queue."""

    def __init__(self) -> None:
        self._received = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # in the place of Lightning's handlers, from the moment where those would be: its SIGTERM handler runs a collective
        # wherever the ranks happen to be, its SIGUSR1 handler saves in the middle of a batch
        connector = trainer._signal_connector

        def listen() -> None:
            handlers = connector._get_current_signal_handlers()
            if hasattr(signal, "SIGCHLD"):
                handlers.pop(
                    signal.SIGCHLD, None
                )  # the loader's: with none in its place, Python tells of a signal it has lost
            connector._original_handlers = handlers  # it restores them itself
            if threading.current_thread() is threading.main_thread():
                for number in _SIGNALS:
                    signal.signal(number, self._note)

        connector.register_signal_handlers = listen  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        self._stop_if_asked(trainer)

    on_validation_batch_start = on_test_batch_start = on_train_batch_start  # type: ignore[assignment]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._received and trainer.is_global_zero:
            name = signal.Signals(self._received).name
            logger.warning("%s came when all images were tested; the results are written first.", name)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not self._received:
            return
        name = signal.Signals(self._received).name
        if trainer.is_global_zero:
            logger.warning("stopped by %s in epoch %d. %s", name, trainer.current_epoch + 1, _how_to_go_on(trainer))
            if self._received != signal.SIGTERM:
                _requeue()
        if not isinstance(exception, SIGTERMException):
            # such as the loader's, when it waits for a worker that the signal ended
            logger.warning("while stopping: %s", first_line(exception))
            raise SystemExit(self._exit_code(trainer)) from exception

    def _note(self, number: int, _: FrameType | None) -> None:
        self._received = self._received or number
        if hasattr(signal, "SIGCHLD"):
            # a signal to all processes ends the loader's workers too; torch would raise that wherever the program happens to be
            signal.signal(signal.SIGCHLD, _ignore)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        # one rank's signal is every rank's: all leave at this batch, and none waits for another
        if trainer.world_size > 1:
            received = torch.tensor(self._received, device=trainer.strategy.root_device)
            self._received = int(trainer.strategy.reduce(received, reduce_op="max"))
        if self._received:
            raise SIGTERMException(self._exit_code(trainer))

    def _exit_code(self, trainer: Trainer) -> int:
        # rank 0 kills itself when a rank that it has started ends with an error
        return 128 + self._received if trainer.is_global_zero else 0


def _ignore(number: int, _: FrameType | None) -> None:
    """In place of SIG_DFL, with which Python prints a traceback for a signal that has arrived and was not handled yet."""


def _how_to_go_on(trainer: Trainer) -> str:
    folder = Path(trainer.default_root_dir, "checkpoints")
    if (folder / LAST).exists() or (folder / PREVIOUS).exists():
        return f"The same command with resume=auto continues from the last finished epoch ({folder / LAST})."
    return "No epoch was finished; the same command with resume=auto starts anew in this directory."


def _requeue() -> None:
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, timeout=30)
        logger.warning("job %s is in the queue again", job)
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("job %s could not be put into the queue again: %s", job, first_line(error))
