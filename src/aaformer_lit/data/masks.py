"""Body-part label maps (for SPReID's scheme): which file belongs to which image, which label values to which part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.structures import NO_PART, Record

_LABELS = 1 << 16  # an 8- or 16-bit label map


class PartTable:
    """Maps label values to part numbers: `PartTable({"head": [1, 2], "legs": [5]})(labels)`.

    Part p is the p-th entry; labels in no entry become `NO_PART`. Raises `ConfigError` where a label is in two parts.
    """

    def __init__(self, parts: Mapping[str, Sequence[int]]) -> None:
        if not 0 < len(parts) < NO_PART:
            raise ConfigError(
                f"data.mask_parts has {len(parts)} parts. Name 1 to {NO_PART - 1}, e.g. {{head: [1, 2], legs: [5]}}."
            )
        self.names = tuple(parts)
        self._part_of = np.full(_LABELS, NO_PART, np.uint8)
        for part, (name, labels) in enumerate(parts.items()):
            for label in labels:
                if not 0 <= label < _LABELS:
                    raise ConfigError(
                        f"data.mask_parts.{name} has label {label}. Labels are the mask's values, 0 to {_LABELS - 1}."
                    )
                if self._part_of[label] != NO_PART:
                    other = self.names[self._part_of[label]]
                    raise ConfigError(
                        f"data.mask_parts: label {label} is in both {other} and {name}. Give each label to one part."
                    )
                self._part_of[label] = part

    def __call__(self, labels: Integer[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
        if labels.dtype != np.uint8 and not 0 <= labels.min() <= labels.max() < _LABELS:
            raise ProtocolError(
                f"a mask has labels from {labels.min()} to {labels.max()}. Save masks with 8 or 16 bits per pixel."
            )
        parts: UInt8[np.ndarray, "height width"] = self._part_of[labels]
        return parts


def attach_masks(
    records: Iterable[Record], folder: Path, masks: str | Path, image_of: dict[Path, Record] | None = None
) -> list[Record]:
    """The records with their mask files: the image's path below `folder`, or its name alone, with the suffix .png, in
    `masks`.

    A relative `masks` is looked for in `folder` first. `image_of` remembers which image each mask is of, from one split to the
    next: files of one name, size, person and camera are the same image. Raises `ProtocolError` where an image has no mask,
    or that of another.
    """
    masks = Path(masks).expanduser()
    directory = folder / masks if (folder / masks).is_dir() else masks
    if not directory.is_dir():
        raise ProtocolError(
            f"data.masks={masks} is no folder, neither in {folder} nor by itself. Give the folder of the PNG masks."
        )
    found = {path.relative_to(directory).with_suffix("").as_posix(): path for path in directory.rglob("*.png")}
    attached, without = [], []
    image_of = {} if image_of is None else image_of
    for record in records:
        path = record.path
        inner = _inside(path, folder)
        mask = found.get(inner.with_suffix("").as_posix()) or found.get(path.stem)
        attached.append(replace(record, mask=mask))
        if mask is None:
            without.append(inner)
        elif not _same_image(first := image_of.setdefault(mask, record), record):
            raise ProtocolError(
                f"{mask} would be the mask of {_inside(first.path, folder)} and of {inner}. Give each image its own, at its "
                f"path: {directory / inner.with_suffix('.png')}."
            )
    if without:
        raise ProtocolError(
            f"{len(without):,} of {len(attached):,} images have no mask in {directory}; the first is {without[0]}, "
            f"which needs {without[0].with_suffix('.png')} or {without[0].stem}.png there."
        )
    return attached


def _inside(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)


def _same_image(one: Record, other: Record) -> bool:
    """One file, or a copy of it in another split."""
    if one.path == other.path:
        return True
    alike = all(getattr(one, key) == getattr(other, key) for key in ("pid", "camid", "sequence"))
    return alike and one.path.name == other.path.name and one.path.stat().st_size == other.path.stat().st_size
