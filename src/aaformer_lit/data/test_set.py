"""A query and a gallery, as they are tested together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from aaformer_lit.structures import FeatureSet, Record


@dataclass(frozen=True, slots=True)
class TestSet:
    """A query and a gallery to rank for it. Its loader runs over query + gallery: index < len(query) is a query."""

    __test__: ClassVar[bool] = False  # not a test class, whatever pytest thinks of the name

    name: str
    query: Sequence[Record]
    gallery: Sequence[Record]
    draws: int = 0  # of single-shot galleries; 0: the whole gallery at once
    camera_names: Mapping[int, str] = field(default_factory=dict)  # where camids stand for names

    @property
    def records(self) -> list[Record]:
        """Query and gallery, one after the other."""
        return [*self.query, *self.gallery]

    @property
    def sequences(self) -> list[int] | None:
        """A number for the take of each image, query and gallery: its clip, or the file alone; None where no two share one.

        Clips are numbered from 0; a file of no clip is -1 or less.
        """
        shared = {q.path for q in self.query} & {g.path for g in self.gallery}
        if not shared and all(r.sequence < 0 for r in self.records):
            return None
        files: dict[Path, int] = {}
        return [r.sequence if r.sequence >= 0 else -1 - files.setdefault(r.path, len(files)) for r in self.records]

    def described(self, features: Float[Tensor, "images dim"]) -> tuple[FeatureSet, FeatureSet]:
        """Query and gallery with these features of theirs, one row each in the order of `records`."""
        pids, camids = (torch.tensor([getattr(record, name) for record in self.records]) for name in ("pid", "camid"))
        takes = self.sequences
        images = FeatureSet(features, pids, camids, None if takes is None else torch.tensor(takes))
        return images.select(slice(len(self.query))), images.select(slice(len(self.query), None))
