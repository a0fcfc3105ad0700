"""CUHK03 (Li et al., CVPR 2014) under the new protocol (Zhong et al., CVPR 2017): 767 people train, 700 test.

1,467 people before five pairs of cameras on a campus, with boxes drawn by hand ("labeled") or by a detector
("detected"). Two forms are found in the wild, and both are read:

    cuhk03-np/                                  cuhk03/
      labeled/                                    cuhk-03.mat            all images, MATLAB 7.3 (or in cuhk03_release/)
        bounding_box_train/  0001_c1_1.png        cuhk03_new_protocol_config_labeled.mat
        query/                                    cuhk03_new_protocol_config_detected.mat
        bounding_box_test/
      detected/ (likewise)

The raw form is cut into images once (`cuhk03_raw`). Besides `0001_c1_1.png`, pid, camera and number, cut images may be
named `1_001_1_01.png`, camera pair, person of the pair, camera and number; the people of the pairs are numbered
through. The number of the first form counts the images of a person, or of the whole data set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Unpack

from aaformer_lit.data.arguments import Common
from aaformer_lit.data.counts import Counts
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.dataset import ReIDDataset
from aaformer_lit.data.datasets import cuhk03_raw
from aaformer_lit.errors import check_choice

Boxes = Literal["labeled", "detected"]
PEOPLE_OF_PAIR = (843, 440, 77, 58, 49)


class CUHK03(ReIDDataset):
    """CUHK03, new protocol. `protocol`: hand-drawn boxes ("labeled") or detected ones ("detected")."""

    name = "cuhk03"
    title = "CUHK03"
    folders = ("cuhk03-np", "cuhk03", "cuhk03_release", "CUHK03")
    pattern = re.compile(r"(?P<pid>[0-9]{4})_c(?P<camid>[12])_[0-9]+\.(?:png|jpg)")
    pair_pattern: ClassVar[re.Pattern[str]] = re.compile(
        r"(?P<pair>[1-5])_(?P<person>[0-9]{3})_(?P<camid>[12])_(?:0[1-9]|10)\.(?:png|jpg)"
    )
    example = "0001_c1_1.png or 1_001_1_01.png"
    published: ClassVar = {
        "labeled": {"train": Counts(7_368, 767, 2), "query": Counts(1_400, 700, 2), "gallery": Counts(5_328, 700, 2)},
        "detected": {"train": Counts(7_365, 767, 2), "query": Counts(1_400, 700, 2), "gallery": Counts(5_332, 700, 2)},
    }
    source = (
        "https://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html (cuhk03_release.zip, on request; for research only) and "
        "https://github.com/zhunzhong07/person-re-ranking (CUHK03-NP: cuhk03_new_protocol_config_*.mat, or the images cut)"
    )

    def __init__(self, root: str | Path, protocol: Boxes = "labeled") -> None:
        check_choice("data.protocol", protocol, self.published)
        self.protocol = protocol
        self.splits: Mapping[str, str] = {split: f"{protocol}/{name}" for split, name in type(self).splits.items()}
        super().__init__(root)

    def find(self) -> Path:
        """The folder of the cut images; raw data are cut first, if they were not before."""
        folder = super().find()
        return folder if self._is_cut(folder) else cuhk03_raw.extract(self.protocol, folder)

    def missing(self, folder: Path) -> list[str]:
        images, protocols = cuhk03_raw.find_raw(folder, self.protocol)
        config = f"cuhk03_new_protocol_config_{self.protocol}.mat"
        if self._is_cut(folder) or (images and protocols):
            return []
        if images:
            return [f"{config} (beside {cuhk03_raw.IMAGES})"]
        return [*super().missing(folder), f"or {cuhk03_raw.IMAGES} and {config}"]

    def detect_variant(self) -> str:
        return self.protocol

    @classmethod
    def parse(cls, name: str) -> tuple[int, int] | None:
        match = cls.pair_pattern.fullmatch(name)
        if match is None:
            return super().parse(name)
        pair, person = int(match["pair"]), int(match["person"])
        if not 1 <= person <= PEOPLE_OF_PAIR[pair - 1]:
            return None
        return sum(PEOPLE_OF_PAIR[: pair - 1]) + person, int(match["camid"])

    def _is_cut(self, folder: Path) -> bool:
        return not super().missing(folder)


class CUHK03DataModule(ReIDDataModule):
    """CUHK03 for training and testing; see `ReIDDataModule` for the common arguments."""

    dataset_class = CUHK03

    def __init__(self, root: str | Path, *, protocol: Boxes = "labeled", **common: Unpack[Common]) -> None:
        super().__init__(root, **common)
        self.options = {"protocol": protocol}
