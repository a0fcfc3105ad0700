"""Every file of a data set's folder accounted for: used, or why not."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aaformer_lit.data.dataset import ReIDDataset
from aaformer_lit.data.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from aaformer_lit.data.listing import behind_links, files_below
from aaformer_lit.data.masks import attach_masks
from aaformer_lit.structures import Record


@dataclass(frozen=True, slots=True)
class Account:
    """`files` lie in the folder, `used` of them are (or lead to) images of the data set or their masks; the others by the
    reason why not.
    """

    files: int
    used: int
    unused: Mapping[str, tuple[Path, ...]]


def account(dataset: ReIDDataset, masks: str | Path | None = None) -> Account:
    """Compare what lies in the data set's folder, links followed and each file once, with its records.

    `masks`: the folder of the images' masks, which are used too. Raises as `attach_masks`.
    """
    records: Sequence[Record] = [r for split in (dataset.train, dataset.query, dataset.gallery) for r in split]
    if masks is not None:
        records = attach_masks(records, dataset.folder, masks)
    used = {behind_links(path, dataset.folder) for path in {p for r in records for p in (r.path, r.mask) if p}}
    reasons = {behind_links(path, dataset.folder): reason for path, reason in dataset.unused.items()}
    files = {behind_links(path, dataset.folder): path for path in files_below(dataset.folder)}
    unused: dict[str, list[Path]] = defaultdict(list)
    for file, path in files.items():
        if file not in used:
            unused[reasons.get(file) or _reason(path)].append(path.relative_to(dataset.folder))
    found = len(files) - sum(len(paths) for paths in unused.values())
    return Account(len(files), found, {reason: tuple(unused[reason]) for reason in sorted(unused)})


def _reason(path: Path) -> str:
    name = path.name.lower()
    if path.is_symlink() and not os.path.exists(path):
        return "links to nothing"
    if name.startswith("."):
        return "hidden"
    if name.endswith(UNREAD_SUFFIXES):
        return "a format that is not read"
    if name.endswith(IMAGE_SUFFIXES):
        return "images that no split lists"
    return "no images"
