"""Person re-ID data: the benchmarks and one's own images as Records, PK batches, augmentation.

`DATASETS` are the data sets by name. Names are imported when they are asked for: a search reads images without Lightning.
"""

from typing import TYPE_CHECKING

from aaformer_lit.utils.lazy import lazily

if TYPE_CHECKING:
    from aaformer_lit.data.counts import Counts as Counts
    from aaformer_lit.data.datamodule import ReIDDataModule as ReIDDataModule
    from aaformer_lit.data.dataset import ReIDDataset as ReIDDataset
    from aaformer_lit.data.datasets import DATASETS as DATASETS
    from aaformer_lit.data.datasets.cuhk03 import CUHK03DataModule as CUHK03DataModule
    from aaformer_lit.data.datasets.dukemtmc import DukeMTMCDataModule as DukeMTMCDataModule
    from aaformer_lit.data.datasets.folder import FolderDataModule as FolderDataModule
    from aaformer_lit.data.datasets.joint import JointDataModule as JointDataModule
    from aaformer_lit.data.datasets.market1501 import Market1501DataModule as Market1501DataModule
    from aaformer_lit.data.datasets.msmt17 import MSMT17DataModule as MSMT17DataModule
    from aaformer_lit.data.datasets.occluded_duke import OccludedDukeDataModule as OccludedDukeDataModule
    from aaformer_lit.data.image_transform import ImageTransform as ImageTransform
    from aaformer_lit.data.synthetic.datamodule import SyntheticDataModule as SyntheticDataModule
    from aaformer_lit.data.test_set import TestSet as TestSet

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
}
__all__ = sorted(_HOME)
__getattr__, __dir__ = lazily(__name__, _HOME)
