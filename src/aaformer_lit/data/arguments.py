"""Arguments that every data module takes, for those that pass them on: `def __init__(self, root, **common: Unpack[Common])`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

from aaformer_lit.data.sampler import MakeSampler
from aaformer_lit.data.transforms import Transforms


class Loading(TypedDict, total=False):
    """Arguments of `ReIDDataModule` beside `root` and the masks; the data modules pass them on."""

    image_size: Sequence[int]
    ids_per_batch: int
    images_per_id: int
    sampler: MakeSampler | None
    eval_batch_size: int
    num_workers: int | None
    pin_memory: bool | None
    seed: int
    transforms: Transforms | None
    cache: bool
    val_ids: float
    on_bad_image: Literal["error", "skip"]
    cut: float


class Common(Loading, total=False):
    """The same with the masks."""

    masks: str | Path | None
    mask_parts: Mapping[str, Sequence[int]] | None
