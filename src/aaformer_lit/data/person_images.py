"""Records as a torch data set: index in, one training or test sample out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from aaformer_lit.data.cut_off import cut_off
from aaformer_lit.data.images import may_be_skipped, read_image, read_mask
from aaformer_lit.data.masks import PartTable
from aaformer_lit.data.preparation import resize, resize_mask
from aaformer_lit.data.sampler import Draw
from aaformer_lit.data.transforms import reseed
from aaformer_lit.errors import ImageError
from aaformer_lit.structures import NO_PART, Record
from aaformer_lit.utils.threads import in_threads

if TYPE_CHECKING:
    import albumentations as A

log = logging.getLogger(__name__)


class PersonImages(Dataset[dict[str, Any]]):
    """Samples `{image, pid, camid, index[, part_mask, place]}` of `records`, at (height, width) `size`, through `pipeline`.

    With `labels` (pid -> 0..n-1) `pid` is the training label. An item is asked for by its index, or by a `Draw`, which
    also carries the epoch: the augmentation is a function of (seed, epoch, index, copy), whichever process computes it.
    Each image and mask loses the share `cut` of its height (`cut_off`); `change` is done to the pixels that are left. Both come
    before the resize.
    """

    def __init__(
        self,
        records: Sequence[Record],
        size: tuple[int, int],
        pipeline: A.Compose,
        *,
        labels: Mapping[int, int] | None = None,
        part_table: PartTable | None = None,
        seed: int = 0,
        cut: float = 0.0,
        change: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.records, self.size, self.pipeline = records, size, pipeline
        self.labels, self.part_table, self.seed = labels, part_table, seed
        self.cut, self.change = cut, change
        rows = np.arange(size[0]) * NO_PART // size[0]
        self._place = np.repeat(rows.astype(np.uint8)[:, None], size[1], axis=1)
        self._cache: list[dict[str, np.ndarray]] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | Draw) -> dict[str, Any]:
        draw = key if isinstance(key, Draw) else Draw(key)
        index, record = draw.index, self.records[draw.index]
        reseed(self.pipeline, self.seed, draw.epoch, index, draw.copy)
        arrays = self._cache[index] if self._cache else self._load(record)
        if "place" in self.pipeline.additional_targets:
            arrays = arrays | {"place": self._place}
        done = self.pipeline(**arrays)
        pid = record.pid if self.labels is None else self.labels[record.pid]
        sample = {"image": done["image"], "pid": pid, "camid": record.camid, "index": index}
        if "mask" in done:
            sample["part_mask"] = done["mask"]
        if "place" in done:
            sample["place"] = done["place"]
        return sample

    def cache(self) -> None:
        """Decode and resize every image now and keep the pixels; worker processes forked later share them."""
        if self._cache is None:
            self._cache = list(in_threads(self._load, self.records))
            size = sum(array.nbytes for item in self._cache for array in item.values())
            log.info("cached %s images in %.1f GB of memory", f"{len(self._cache):,}", size / 1e9)

    def _load(self, record: Record) -> dict[str, np.ndarray]:
        with may_be_skipped():
            image = read_image(record.path)
        image = cut_off(image, self.cut, record.path)
        arrays = {"image": resize(image if self.change is None else self.change(image), self.size)}
        if self.part_table is not None:
            if record.mask is None:
                raise ImageError(
                    f"{record.path} has no part mask. Set data.masks=DIR, or data.mask_parts=null to go without."
                )
            with may_be_skipped():
                labels = read_mask(record.mask)
            mask = cut_off(self.part_table(labels), self.cut, record.path)
            arrays["mask"] = resize_mask(mask, self.size)
        return arrays


def readable(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """The records whose files decode, and the messages of those that do not."""

    def problem(record: Record) -> str | None:
        try:
            read_image(record.path)
            if record.mask is not None:
                read_mask(record.mask)
        except ImageError as error:
            return str(error)
        return None

    problems = list(in_threads(problem, records))
    return [r for r, p in zip(records, problems, strict=True) if p is None], [p for p in problems if p is not None]
