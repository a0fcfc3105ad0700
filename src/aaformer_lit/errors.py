"""Errors a user can act on: each message says what was expected, what was got, and how to fix it.

Entry points turn an `AAformerError` into that one message and exit code 2; anything else is a defect and keeps its traceback.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any


class AAformerError(Exception):
    """Base of all errors that are the input's doing and not the program's."""


class ConfigError(AAformerError):
    """A config value that cannot work: a granularity of 0, a batch that is no multiple of K, more stripes than patch rows."""


class DatasetNotFoundError(AAformerError):
    """No folder of the data set under `paths.data`."""


class ProtocolError(AAformerError):
    """Files that do not follow the data set's protocol: names, splits, list files, counts that cannot be used."""


class ImageError(AAformerError):
    """An image file that cannot be decoded; the message names the file."""


class CheckpointError(AAformerError):
    """Weights that cannot be loaded: truncated, of another model, or not a checkpoint."""


class CalibrationError(AAformerError):
    """Thresholds that cannot be read, or that were found for another descriptor."""


class ExportError(AAformerError):
    """A network that a format cannot hold, or an exported file that does not compute what the network does."""


class GalleryError(AAformerError):
    """A gallery of features that cannot be read, was made by another model, or is not one."""


class NumericsError(AAformerError):
    """A loss that is not finite; `evidence` is what it came from: batch, file names, terms of the loss."""

    def __init__(self, message: str, evidence: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.evidence = dict(evidence or {})


class RankError(AAformerError):
    """Another process of the same training ended; its error, where it left one, is this one's message."""


class StorageError(AAformerError):
    """A file that cannot be written: the disk is full, or the folder is not writable."""


def check_choice(name: str, value: object, options: Iterable[object]) -> None:
    """Raise `ConfigError` for a value that is none of the options."""
    if value not in options:
        raise ConfigError(f"{name} must be one of {', '.join(map(str, options))}; got {value!r}.")


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line and without its terminal colors."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # what a KeyError says is the key alone
    return f"{type(error).__name__}: {lines[0]}" if isinstance(error, LookupError) else lines[0]
