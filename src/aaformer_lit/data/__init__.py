"""Person re-ID data: the benchmarks and one's own images as Records, PK batches, augmentation.

Importing the package fills `DATASETS`, the data sets by name.
"""

from aaformer_lit.data import synthetic
from aaformer_lit.data.counts import Counts
from aaformer_lit.data.datamodule import ReIDDataModule, TestSet
from aaformer_lit.data.dataset import DATASETS, ReIDDataset
from aaformer_lit.data.datasets import body_images, cuhk03, dukemtmc, folder, joint, market1501, msmt17, occluded_duke
from aaformer_lit.data.datasets.cuhk03 import CUHK03DataModule
from aaformer_lit.data.datasets.dukemtmc import DukeMTMCDataModule
from aaformer_lit.data.datasets.folder import FolderDataModule
from aaformer_lit.data.datasets.joint import JointDataModule
from aaformer_lit.data.datasets.market1501 import Market1501DataModule
from aaformer_lit.data.datasets.msmt17 import MSMT17DataModule
from aaformer_lit.data.datasets.occluded_duke import OccludedDukeDataModule
from aaformer_lit.data.image_transform import ImageTransform
from aaformer_lit.data.synthetic.datamodule import SyntheticDataModule

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
