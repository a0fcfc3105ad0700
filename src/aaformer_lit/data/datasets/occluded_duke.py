"""Occluded-Duke (Miao et al., ICCV 2019): DukeMTMC-reID split anew, so that every query is an occluded person.

    Occluded_Duke/                                or, as its authors hand it out, the names only:
      bounding_box_train/   15,618 images           Occluded_Duke/train.list
      query/                 2,210 images           Occluded_Duke/query.list
      bounding_box_test/    17,661 images           Occluded_Duke/gallery.list

Given the lists, the images are read where they lie in DukeMTMC-reID; nothing is copied. 1,870 of the queries are in the
gallery too, where the camera rule hides them from themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from aaformer_lit.data.counts import Counts
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.dataset import SPLITS
from aaformer_lit.data.datasets.dukemtmc import DukeMTMC
from aaformer_lit.data.locate import locate
from aaformer_lit.errors import ProtocolError
from aaformer_lit.structures import Record
from aaformer_lit.utils.text import plural, some


class OccludedDuke(DukeMTMC):
    name = "occluded_duke"
    title = "Occluded-Duke"
    folders = ("Occluded_Duke", "occluded_duke", "Occluded-DukeMTMC-Dataset")
    images_of = "dukemtmc"
    lists: ClassVar[Mapping[str, str]] = {"train": "train.list", "query": "query.list", "gallery": "gallery.list"}
    published: ClassVar = {
        "official": {
            "train": Counts(15_618, 702, 8),
            "query": Counts(2_210, 519, 8),
            "gallery": Counts(17_661, 1_110, 8),
        }
    }
    source = (
        "the lists: https://github.com/lightas/Occluded-DukeMTMC-Dataset; the images are those of DukeMTMC-reID, which its "
        "authors withdrew in June 2019"
    )

    def missing(self, folder: Path) -> list[str]:
        lacks = super().missing(folder)
        if not lacks or all((folder / name).is_file() for name in self.lists.values()):
            return []
        return [*lacks, "or", *self.lists.values()]

    def index(self) -> tuple[list[Record], list[Record], list[Record]]:
        if not super().missing(self.folder):
            return super().index()
        duke = self._find_duke()
        where = {path.name: path for split in self.splits.values() for path in (duke / split).iterdir()}
        train, query, gallery = (self._listed(self.folder / self.lists[split], where) for split in SPLITS)
        return train, query, gallery

    def _find_duke(self) -> Path:
        """DukeMTMC-reID, beside the lists or under the root."""
        beside = self.folder.parent
        is_beside = any((beside / name).is_dir() for name in DukeMTMC.folders)
        return locate(beside if is_beside else self.root, DukeMTMC, super().missing)

    def _listed(self, path: Path, where: Mapping[str, Path]) -> list[Record]:
        """The records of the images that a list file names."""
        records, strays, absent = [], [], []
        for name in sorted(path.read_text(encoding="utf-8", errors="replace").split()):
            parsed = self.parse(name)
            if parsed is None:
                strays.append(name)
            elif name not in where:
                absent.append(name)
            else:
                records.append(Record(where[name], *parsed))
        self.report_strays(path, strays, kept=len(records))
        if absent:
            raise ProtocolError(
                f"{plural(len(absent), 'image')} in {path} but not in DukeMTMC-reID: {some(absent)}. "
                f"Complete DukeMTMC-reID, or take the list files as released."
            )
        return records


class OccludedDukeDataModule(ReIDDataModule):
    """Occluded-Duke for training and testing; see `ReIDDataModule` for the arguments."""

    dataset_class = OccludedDuke
