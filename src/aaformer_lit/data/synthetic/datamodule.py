"""The synthetic people as a data set like the others, except that it draws itself where it is not there yet.

ROOT/synthetic-HASH/    one folder per spec
  bounding_box_train/   0002_c1s1_000451_03.jpg, as in Market-1501
  query/                the first picture of each test person and camera
  bounding_box_test/    the others
  masks/                the part of every pixel, a PNG for each of the above
  synthetic.json        the spec
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from lightning.pytorch.utilities import rank_zero_only

from aaformer_lit.data.arguments import Loading
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.dataset import ReIDDataset
from aaformer_lit.data.synthetic.canvas import Part
from aaformer_lit.data.synthetic.generate import generate
from aaformer_lit.data.synthetic.layouts import MASKS
from aaformer_lit.data.synthetic.spec import SyntheticSpec

MASK_PARTS: Mapping[str, Sequence[int]] = {
    "head": (Part.HEAD, Part.HAIR),
    "torso": (Part.TORSO,),
    "arms": (Part.ARMS,),
    "legs": (Part.LEGS,),
    "shoes": (Part.SHOES,),
    "carried": (Part.CARRIED,),
}


class SyntheticPeople(ReIDDataset):
    """The people of a `SyntheticSpec`, drawn on first use."""

    name = "synthetic"
    title = "Synthetic people"
    pattern = re.compile(r"(?P<pid>[0-9]{4,})_c(?P<camid>[0-9]+)s1_[0-9]{6}_[0-9]{2}\.jpg")
    example = "0002_c1s1_000262_00.jpg"
    source = "drawn on first use"

    def __init__(self, root: str | Path, spec: SyntheticSpec | None = None) -> None:
        self.spec = spec or SyntheticSpec()
        super().__init__(root)

    def find(self) -> Path:
        return generate(self.root, self.spec, "synthetic", progress=getattr(rank_zero_only, "rank", 0) == 0)

    def detect_variant(self) -> str:
        return self.spec.short_hash

    def fingerprint(self) -> dict[str, Any]:
        return super().fingerprint() | {"spec": asdict(self.spec)}


class SyntheticDataModule(ReIDDataModule):
    """Synthetic people for training and testing, with their part masks; see `ReIDDataModule` for the common arguments.

    `masks=None` leaves the masks out.
    """

    dataset_class = SyntheticPeople

    def __init__(
        self,
        root: str | Path,
        *,
        spec: SyntheticSpec | None = None,
        masks: str | Path | None = MASKS,
        mask_parts: Mapping[str, Sequence[int]] | None = MASK_PARTS,
        **common: Unpack[Loading],
    ) -> None:
        super().__init__(root, masks=masks, mask_parts=mask_parts if masks is not None else None, **common)
        self.options = {"spec": spec}
