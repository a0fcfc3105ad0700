"""Occluded and partial people searched among whole ones: Occluded-REID, Partial-REID and P-DukeMTMC-reID.

    Occluded_REID/ (Zhuo et al., ICME 2018)        Partial_REID/ (Zheng et al., ICCV 2015)
      occluded_body_images/001/001_01.tif  1,000     partial_body_images/001_001.jpg   300
      whole_body_images/001/001_06.tif     1,000     occluded_body_images/             300
                                                     whole_body_images/                300
    P-DukeMTMC-reid/ (Zhuo et al., ICME 2018; images of DukeMTMC-reID)
      train/{occluded,whole}_body_images/0002/0002_c1_f0044158.jpg    12,927 of 665 people
      test/occluded_body_images/                                       2,163 of 634 people: the queries
      test/whole_body_images/                                          9,053

The occluded images are the queries, the whole ones the gallery. No camera is used: every whole image of the query's person is a
match. The first two hold no training images; they test what was trained elsewhere, `data=joint data.train=[market1501]
data.test=[occluded_reid]`. They are single-shot: `draws` galleries of one image per person are drawn, and results are means
over them with their deviation. `draws=0` searches all whole images at once, as much recent work does; say which you report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Literal, Unpack

from aaformer_lit.data.arguments import Common
from aaformer_lit.data.counts import Counts
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.dataset import ReIDDataset
from aaformer_lit.data.listing import files_below
from aaformer_lit.errors import ConfigError, check_choice

_NOTHING = Counts(0, 0, 0)


class OccludedREID(ReIDDataset):
    """200 people of a campus, five occluded and five whole images of each; no training images."""

    name = "occluded_reid"
    title = "Occluded-REID"
    folders: ClassVar[tuple[str, ...]] = ("Occluded_REID", "OccludedREID", "Occluded_ReID", "occluded_reid")
    splits: Mapping[str, str] = {"query": "occluded_body_images", "gallery": "whole_body_images"}
    pattern = re.compile(r"(?P<pid>[0-9]{3,4})_[0-9]+\.(?:tif|jpg|png)")
    example = "001_01.tif"
    published: ClassVar = {
        "official": {"train": _NOTHING, "query": Counts(1_000, 200, 0), "gallery": Counts(1_000, 200, 0)}
    }
    draws = 10
    source = "https://github.com/tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets (for research only)"

    def __init__(self, root: str | Path, draws: int | None = None) -> None:
        self.draws = type(self).draws if draws is None else draws
        if self.draws < 0:
            raise ConfigError(f"data.draws={draws} is too small. Use 10, or 0 for the whole gallery at once.")
        super().__init__(root)

    def files(self, folder: Path) -> Iterable[Path]:
        """The images may lie in a folder for each person, or side by side."""
        return files_below(folder)


class PartialREID(OccludedREID):
    """60 people, five whole, five partial and five occluded images of each; no training images."""

    name = "partial_reid"
    title = "Partial-REID"
    folders: ClassVar[tuple[str, ...]] = ("Partial_REID", "Partial-REID_Dataset", "PartialREID", "partial_reid")
    pattern = re.compile(r"(?P<pid>[0-9]{1,4})_[0-9]+\.(?:jpg|png|tif)")
    example = "001_001.jpg"
    published: ClassVar = {"official": {"train": _NOTHING, "query": Counts(300, 60, 0), "gallery": Counts(300, 60, 0)}}
    source = "the authors of Partial Person Re-identification (Zheng et al., ICCV 2015), on request; for research only"

    def __init__(
        self, root: str | Path, draws: int | None = None, query: Literal["partial", "occluded"] = "partial"
    ) -> None:
        check_choice("data.query", query, ("partial", "occluded"))
        self.splits = {"query": f"{query}_body_images", "gallery": "whole_body_images"}
        super().__init__(root, draws)


class PDukeMTMC(OccludedREID):
    """The occluded people of DukeMTMC-reID: trained on occluded and whole images, and tested on other people."""

    name = "p_dukemtmc"
    title = "P-DukeMTMC-reID"
    folders: ClassVar[tuple[str, ...]] = ("P-DukeMTMC-reid", "P-DukeMTMC-reID", "p_dukemtmc")
    splits: Mapping[str, str] = {
        "train": "train",
        "query": "test/occluded_body_images",
        "gallery": "test/whole_body_images",
    }
    pattern = re.compile(r"(?P<pid>[0-9]{4})_c[1-8]_f?[0-9]+\.(?:jpg|png)")
    example = "0002_c1_f0044158.jpg"
    published: ClassVar = {
        "official": {"train": Counts(12_927, 665, 0), "query": Counts(2_163, 634, 0), "gallery": Counts(9_053, 634, 0)}
    }
    draws = 0
    images_of = "dukemtmc"
    source = (
        "nowhere: its images are those of DukeMTMC-reID, which its authors withdrew in June 2019 because people had been "
        "filmed without consent"
    )


class OccludedREIDDataModule(ReIDDataModule):
    """Occluded-REID for testing; see `ReIDDataModule` for the common arguments."""

    dataset_class = OccludedREID

    def __init__(self, root: str | Path, *, draws: int | None = None, **common: Unpack[Common]) -> None:
        super().__init__(root, **common)
        self.options = {"draws": draws}


class PartialREIDDataModule(OccludedREIDDataModule):
    """Partial-REID for testing; see `ReIDDataModule` for the common arguments."""

    dataset_class = PartialREID

    def __init__(
        self,
        root: str | Path,
        *,
        draws: int | None = None,
        query: Literal["partial", "occluded"] = "partial",
        **common: Unpack[Common],
    ) -> None:
        super().__init__(root, draws=draws, **common)
        self.options = {"draws": draws, "query": query}


class PDukeMTMCDataModule(OccludedREIDDataModule):
    """P-DukeMTMC-reID for training and testing; see `ReIDDataModule` for the common arguments."""

    dataset_class = PDukeMTMC
