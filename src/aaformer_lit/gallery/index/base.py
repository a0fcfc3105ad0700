"""Nearest neighbors in a gallery: what an index is, and what all of them need.

Distances are Euclidean, nearest first, of equal ones the earlier row.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aaformer_lit.errors import ConfigError

NO_ROW = -1
STEP = 65536  # rows in memory at a time while an index is filled


class Features(Protocol):
    """(images, dim) float32 features by slices or rows; a tensor is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor: ...


class Neighbors(NamedTuple):
    """The nearest rows of each query; row -1 at distance infinity behind the last, where there are fewer than k."""

    distances: Float[np.ndarray, "queries k"]
    rows: Int[np.ndarray, "queries k"]


@dataclass(frozen=True)
class IndexStorage:
    """Where an index may keep what it makes: files in `folder`, which is deleted with this version of the gallery.

    `name` is of the gallery and the token group, and the same for all versions.
    """

    folder: Path
    name: str


class Index(Protocol):
    """Something that finds the nearest rows.

    `outside`: where it keeps features beyond the storage, in the words of `copies`; None where it does not.
    """

    outside: Mapping[str, str] | None

    def fit(self, features: Features, ids: Int[np.ndarray, " images"], storage: IndexStorage) -> None:
        """Take the features in; ids are those of `Gallery.ids`."""

    def search(
        self, queries: Float[Tensor, "queries dim"], k: int, mask: Bool[np.ndarray, " images"] | None = None
    ) -> Neighbors:
        """The k nearest rows of each query; with `mask` among those rows alone."""


def engine(module: str, package: str) -> Any:
    """An optional package. Raises `ConfigError` where it is not installed."""
    for chatty in ("faiss", "httpx"):  # which instruction set was loaded, every request
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise ConfigError(f"this index needs {package}: pip install 'aaformer-lit[search]'.") from cause


def ordered(distances: Float[np.ndarray, "queries k"], rows: Int[np.ndarray, "queries k"]) -> Neighbors:
    """Nearest first, of equal distances the earlier row; rows -1 last."""
    distances = np.where(rows == NO_ROW, np.inf, distances.astype(np.float64))
    order = np.lexsort((rows, distances), axis=-1)
    return Neighbors(np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1).astype(np.int64))
