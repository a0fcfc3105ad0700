"""DukeMTMC-reID (Zheng et al., ICCV 2017; images of Ristani et al., ECCV-W 2016).

Hand-drawn boxes from eight outdoor cameras on a campus; 702 people train, 702 test, 408 more are seen by one camera
only and serve as distractors. Its authors withdrew the underlying DukeMTMC in June 2019, as people had been filmed
without consent.

    DukeMTMC-reID/
      bounding_box_train/   0001_c2_f0046182.jpg   16,522 images
      query/                0005_c2_f0046985.jpg    2,228 images
      bounding_box_test/    0002_c1_f0044158.jpg   17,661 images

A name is pid, camera, frame.
"""

from __future__ import annotations

import re
from typing import ClassVar

from aaformer_lit.data.counts import Counts
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.dataset import ReIDDataset


class DukeMTMC(ReIDDataset):
    name = "dukemtmc"
    title = "DukeMTMC-reID"
    folders: ClassVar[tuple[str, ...]] = ("DukeMTMC-reID", "dukemtmc", "dukemtmc-reid", "dukemtmcreid")
    pattern = re.compile(r"(?P<pid>[0-9]{4})_c(?P<camid>[1-8])_f[0-9]{7}\.(?:jpg|png)")
    example = "0001_c2_f0046182.jpg"
    published: ClassVar = {
        "official": {
            "train": Counts(16_522, 702, 8),
            "query": Counts(2_228, 702, 8),
            "gallery": Counts(17_661, 1_110, 8),
        }
    }
    source = (
        "nowhere: its authors withdrew DukeMTMC in June 2019 because people had been filmed without consent. Consider "
        "market1501, msmt17 or cuhk03 instead; a copy that you hold is for non-commercial research under its terms"
    )


class DukeMTMCDataModule(ReIDDataModule):
    """DukeMTMC-reID for training and testing; see `ReIDDataModule` for the arguments."""

    dataset_class = DukeMTMC
