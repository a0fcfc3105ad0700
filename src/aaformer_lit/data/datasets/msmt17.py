"""MSMT17 (Wei et al., CVPR 2018, "Person Transfer GAN to Bridge Domain Gap for Person Re-identification").

4,101 people, 15 cameras in and around a campus building, four days, Faster R-CNN detections. 1,041 people train, 3,060
test. Version 2 has the faces blurred; it is version 1 but for that and the names of two folders.

    MSMT17_V1/                       MSMT17_V2/
      train/                           mask_train_v2/      0000/0000_045_12_0303morning_0006_2.jpg
      test/                            mask_test_v2/       0000/0000_008_01_0303morning_0019_2.jpg
      list_train.txt   30,248          the same            lines of "path pid", the path below the folder of the split
      list_val.txt      2,373
      list_query.txt   11,659
      list_gallery.txt 82,161

A name is pid, running number, camera, date and time of day, frame, box. Pids of train and test are numbered from 0
each. The paper trains on train and val together, 32,621 images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Unpack

from aaformer_lit.data.arguments import Common
from aaformer_lit.data.counts import Counts
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.dataset import ReIDDataset
from aaformer_lit.errors import ProtocolError
from aaformer_lit.structures import Record
from aaformer_lit.utils.text import some

_TEST = {"query": Counts(11_659, 3_060, 15), "gallery": Counts(82_161, 3_060, 15)}
_WITH_VAL = {"train": Counts(32_621, 1_041, 15), **_TEST}
_WITHOUT_VAL = {"train": Counts(30_248, 1_041, 15), **_TEST}


class MSMT17(ReIDDataset):
    """MSMT17. `train_with_val`: train on the validation images, too, as the paper does."""

    name = "msmt17"
    title = "MSMT17"
    folders = ("MSMT17_V1", "MSMT17_V2", "MSMT17", "msmt17")
    versions: ClassVar[Mapping[str, tuple[str, str]]] = {
        "v1": ("train", "test"),
        "v2": ("mask_train_v2", "mask_test_v2"),
    }
    lists: ClassVar[tuple[str, ...]] = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
    pattern = re.compile(
        r"(?P<pid>[0-9]{4})_[0-9]{3}_(?P<camid>0[1-9]|1[0-5])_[0-9]{4}(?:morning|noon|afternoon)_[0-9]{4}_[0-9]+(?:_ex)?\.jpg"
    )
    line_pattern: ClassVar[re.Pattern[str]] = re.compile(
        rf"(?P<path>(?P<inner>[0-9]{{4}})/{pattern.pattern}) +(?P<label>[0-9]+) *"
    )
    example = "0000_045_12_0303morning_0006_2.jpg"
    published: ClassVar = {
        "v1": _WITH_VAL,
        "v2": _WITH_VAL,
        "v1 without val": _WITHOUT_VAL,
        "v2 without val": _WITHOUT_VAL,
    }
    one_numbering = False
    source = "http://www.pkuvmc.com (from its authors on request; for research only)"

    def __init__(self, root: str | Path, train_with_val: bool = True) -> None:
        self.train_with_val = train_with_val
        super().__init__(root)

    def missing(self, folder: Path) -> list[str]:
        lacks = [name for name in self.lists if not (folder / name).is_file()]
        if not any(all((folder / name).is_dir() for name in names) for names in self.versions.values()):
            lacks.insert(0, " or ".join(f"{train}/ and {test}/" for train, test in self.versions.values()))
        return lacks

    def detect_variant(self) -> str:
        return self._version() + ("" if self.train_with_val else " without val")

    def index(self) -> tuple[list[Record], list[Record], list[Record]]:
        train_dir, test_dir = (self.folder / name for name in self.versions[self._version()])
        training = ("list_train.txt", "list_val.txt") if self.train_with_val else ("list_train.txt",)
        files = _files(test_dir)
        return (
            self._listed(training, train_dir, _files(train_dir)),
            self._listed(("list_query.txt",), test_dir, files),
            self._listed(("list_gallery.txt",), test_dir, files),
        )

    def _version(self) -> str:
        return next(v for v, names in self.versions.items() if all((self.folder / name).is_dir() for name in names))

    def _listed(self, lists: Sequence[str], folder: Path, files: Mapping[str, Path]) -> list[Record]:
        """The records of the `path pid` lines of some list files, which must agree with the file names and the files."""
        texts = [(self.folder / name).read_text(encoding="utf-8", errors="replace") for name in lists]
        lines = sorted(line for text in texts for line in text.splitlines() if line.strip())
        records, wrong, absent = [], [], []
        for line in lines:
            match = self.line_pattern.fullmatch(line)
            if match is None or match["inner"] != match["pid"] or int(match["label"]) != int(match["pid"]):
                wrong.append(line)
                continue
            path = files.get(match["path"])
            if path is None:
                absent.append(match["path"])
            else:
                records.append(Record(path, int(match["pid"]), int(match["camid"])))
        where = f"{' and '.join(lists)} in {self.folder}"
        if wrong:
            raise ProtocolError(
                f"{len(wrong):,} of {len(lines):,} lines of {where} do not have the form '0000/{self.example} 0': "
                f"{some(wrong)}. Use the list files that come with MSMT17."
            )
        if absent:
            raise ProtocolError(
                f"{len(absent):,} of {len(lines):,} images of {where} are not in {folder}: {some(absent)}. "
                f"Unpack the archive again, completely."
            )
        return records


def _files(folder: Path) -> dict[str, Path]:
    """The files in every folder one level below, by the two names: one listing each, no call per file."""
    inner = [person for person in folder.iterdir() if person.is_dir()]
    return {f"{person.name}/{path.name}": path for person in inner for path in person.iterdir()}


class MSMT17DataModule(ReIDDataModule):
    """MSMT17 for training and testing; see `ReIDDataModule` for the common arguments."""

    dataset_class = MSMT17

    def __init__(self, root: str | Path, *, train_with_val: bool = True, **common: Unpack[Common]) -> None:
        super().__init__(root, **common)
        self.options = {"train_with_val": train_with_val}
