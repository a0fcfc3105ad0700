"""Checkpoints that survive: written whole or not at all, the one before kept, and the newest whole one found again.

Lightning's own writer fills a file in the system's temporary folder and moves it, which is a copy where that folder is
another disk, so that a kill leaves half a checkpoint. Here the temporary file lies beside its target, is on the disk before
it is renamed (fsync), and the last checkpoint moves to `last.previous.ckpt` before the new one takes its name. At every
moment one of the two is whole.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from aaformer_lit.checkpoints.load import read_checkpoint
from aaformer_lit.errors import CheckpointError
from aaformer_lit.utils.files import write_whole

logger = logging.getLogger(__name__)
LAST, PREVIOUS, BROKEN = "last.ckpt", "last.previous.ckpt", "last.broken.ckpt"


class WholeCheckpointIO(TorchCheckpointIO):
    """How the Trainer writes checkpoints: whole, and keeping the one before of those that a training continues from."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        path = Path(path)
        write_whole(path, serialized(checkpoint), backup=path.with_name(PREVIOUS) if path.name == LAST else None)


def serialized(content: object) -> bytes:
    """What `torch.save` would write; made in memory, where its writer hides no error of the disk."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def newest_whole(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint in `folder` to continue from, and its content: the last, or the one before where that is broken.

    None where there is none: the training was ended before its first epoch was.

    Raises:
        CheckpointError: there are checkpoints, but all are broken.
    """
    there = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    broken: list[Path] = []
    for path in there:
        try:
            content = read_checkpoint(path)
        except CheckpointError as error:
            logger.warning("%s Trying the one before.", error)
            broken.append(path)
            continue
        for other in broken:  # or the next save would keep it in the place of the whole one
            with contextlib.suppress(FileNotFoundError):  # another rank was quicker
                os.replace(other, other.with_name(BROKEN))
        return path, content
    if there:
        raise CheckpointError(
            f"none of {', '.join(path.name for path in there)} in {folder} can be read, so there is nothing to continue. "
            "Remove them to train this run from the start, or leave resume=auto away to start a new one."
        )
    return None
