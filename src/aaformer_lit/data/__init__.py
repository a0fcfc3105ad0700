"""Person re-ID data: the benchmarks and one's own images as Records, PK batches, augmentation.

Importing the package fills `DATASETS`, the data sets by name.
"""

from aaformer_lit.data import synthetic
from aaformer_lit.data.counts import Counts
from aaformer_lit.data.datamodule import ReIDDataModule, TestSet
from aaformer_lit.data.dataset import DATASETS, ReIDDataset
from aaformer_lit.data.datasets import body_images, cuhk03, dukemtmc, folder, joint, market1501, msmt17, occluded_duke

__all__ = [
    "DATASETS",
    "Counts",
    "ReIDDataModule",
    "ReIDDataset",
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
