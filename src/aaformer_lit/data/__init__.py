"""Person re-ID data: the benchmarks and one's own images as Records, PK batches, augmentation.

`DATASETS` are the data sets by name. Names are imported when they are asked for: a search reads images without Lightning.
"""

from typing import TYPE_CHECKING

from aaformer_lit.utils.lazy import lazily

if TYPE_CHECKING:
    from aaformer_lit.data import synthetic
    from aaformer_lit.data.counts import Counts
    from aaformer_lit.data.datamodule import ReIDDataModule
    from aaformer_lit.data.dataset import ReIDDataset
    from aaformer_lit.data.datasets import (
        DATASETS,
        body_images,
        cuhk03,
        dukemtmc,
        folder,
        joint,
        market1501,
        msmt17,
        occluded_duke,
    )
    from aaformer_lit.data.datasets.cuhk03 import CUHK03DataModule
    from aaformer_lit.data.datasets.dukemtmc import DukeMTMCDataModule
    from aaformer_lit.data.datasets.folder import FolderDataModule
    from aaformer_lit.data.datasets.joint import JointDataModule
    from aaformer_lit.data.datasets.market1501 import Market1501DataModule
    from aaformer_lit.data.datasets.msmt17 import MSMT17DataModule
    from aaformer_lit.data.datasets.occluded_duke import OccludedDukeDataModule
    from aaformer_lit.data.image_transform import ImageTransform
    from aaformer_lit.data.synthetic.datamodule import SyntheticDataModule
    from aaformer_lit.data.test_set import TestSet

_DATA_SETS = ("body_images", "cuhk03", "dukemtmc", "folder", "joint", "market1501", "msmt17", "occluded_duke")
_HOME = {
    "CUHK03DataModule": "datasets.cuhk03",
    "Counts": "counts",
    "DATASETS": "datasets",
    "DukeMTMCDataModule": "datasets.dukemtmc",
    "FolderDataModule": "datasets.folder",
    "ImageTransform": "image_transform",
    "JointDataModule": "datasets.joint",
    "MSMT17DataModule": "datasets.msmt17",
    "Market1501DataModule": "datasets.market1501",
    "OccludedDukeDataModule": "datasets.occluded_duke",
    "ReIDDataModule": "datamodule",
    "ReIDDataset": "dataset",
    "SyntheticDataModule": "synthetic.datamodule",
    "TestSet": "test_set",
    "synthetic": "synthetic",
    **{name: f"datasets.{name}" for name in _DATA_SETS},
}
__all__ = [
    "DATASETS",
    "CUHK03DataModule",
    "Counts",
    "DukeMTMCDataModule",
    "FolderDataModule",
    "ImageTransform",
    "JointDataModule",
    "MSMT17DataModule",
    "Market1501DataModule",
    "OccludedDukeDataModule",
    "ReIDDataModule",
    "ReIDDataset",
    "SyntheticDataModule",
    "TestSet",
    "body_images",
    "cuhk03",
    "dukemtmc",
    "folder",
    "joint",
    "market1501",
    "msmt17",
    "occluded_duke",
    "synthetic",
]
__getattr__, __dir__ = lazily(__name__, _HOME)
