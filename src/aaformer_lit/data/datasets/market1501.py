"""Market-1501 (Zheng et al., ICCV 2015, "Scalable Person Re-identification: A Benchmark").

1,501 people in front of a supermarket, six cameras, DPM detections of 64 x 128 pixels. 751 people train, 750 test.

    Market-1501-v15.09.15/
      bounding_box_train/   0002_c1s1_000451_03.jpg   12,936 images
      query/                0001_c1s1_001051_00.jpg    3,368 images
      bounding_box_test/    -1_c1s1_000401_03.jpg     19,732 files: 3,819 junk of pid -1 are dropped,
                                                      2,798 distractors of pid 0 kept

A name is pid, camera and sequence, frame, box. A few of the release end in `.jpg.jpg`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Unpack

from aaformer_lit.data.arguments import Common
from aaformer_lit.data.counts import Counts
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.dataset import ReIDDataset
from aaformer_lit.data.listing import image_files
from aaformer_lit.errors import DatasetNotFoundError
from aaformer_lit.structures import Record


class Market1501(ReIDDataset):
    """Market-1501. `distractors`: the folder of the 500k extra gallery images, relative to the data set's folder."""

    name = "market1501"
    title = "Market-1501"
    folders = ("Market-1501-v15.09.15", "market1501", "Market-1501")
    pattern = re.compile(r"(?P<pid>-1|[0-9]{4})_c(?P<camid>[1-6])s[1-6]_[0-9]{6}_[0-9]{2}(?:(?:\.jpg){1,2}|\.png)")
    example = "0002_c1s1_000451_03.jpg"
    junk_pids = frozenset({-1})
    published: ClassVar = {
        "official": {"train": Counts(12_936, 751, 6), "query": Counts(3_368, 750, 6), "gallery": Counts(15_913, 751, 6)}
    }
    source = (
        "https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html (Market-1501-v15.09.15.zip; for research only)"
    )

    def __init__(self, root: str | Path, distractors: str | Path | None = None) -> None:
        self.distractors = distractors
        super().__init__(root)

    def verify(self) -> bool:
        as_published = super().verify()
        if self.distractors is not None:  # after the counts: those of the gallery proper are compared
            self.gallery += self._distractor_records(self.folder / Path(self.distractors).expanduser())
        return as_published

    def _distractor_records(self, folder: Path) -> list[Record]:
        """All images of the folder as pid 0; no query has that pid, so a camera not in the name does not matter."""
        if not folder.is_dir():
            raise DatasetNotFoundError(
                f"data.distractors={self.distractors}: there is no folder {folder}. "
                f"Unpack the 500k distractors of Market-1501 there, or leave data.distractors=null."
            )
        return [Record(path, 0, (self.parse(path.name) or (0, -1))[1]) for path in image_files(folder.iterdir())]


class Market1501DataModule(ReIDDataModule):
    """Market-1501 for training and testing; see `ReIDDataModule` for the common arguments."""

    dataset_class = Market1501

    def __init__(self, root: str | Path, *, distractors: str | Path | None = None, **common: Unpack[Common]) -> None:
        super().__init__(root, **common)
        self.options = {"distractors": distractors}
