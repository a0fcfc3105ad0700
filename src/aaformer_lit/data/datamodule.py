"""The data module of every re-ID data set: records in, PK batches for training and query + gallery loaders out.

A data set's own module (`Market1501DataModule`, ...) only says how to open its data set; what is common is here: hold
out validation ids, attach part masks, make labels, check that training is possible, build the loaders.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.distributed as dist
from lightning import LightningDataModule
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch.utils.data import DataLoader, DistributedSampler

from aaformer_lit.data.arguments import Common, Loading
from aaformer_lit.data.counts import Counts, count
from aaformer_lit.data.dataset import DATASETS, ReIDDataset, warn
from aaformer_lit.data.holdout import hold_out, union
from aaformer_lit.data.masks import PartTable, attach_masks
from aaformer_lit.data.person_images import PersonImages, readable
from aaformer_lit.data.sampler import EpochSampler, MakeSampler, PKSampler
from aaformer_lit.data.test_set import TestSet
from aaformer_lit.data.transforms import Transforms
from aaformer_lit.data.workers import default_workers
from aaformer_lit.errors import ConfigError, ProtocolError, check_choice
from aaformer_lit.structures import Record
from aaformer_lit.utils.text import plural, some

__all__ = ["DATASETS", "Common", "Counts", "Loading", "ReIDDataModule", "ReIDDataset", "TestSet"]

MAX_SIDE = 2048  # pixels of an image as the network sees it

_SET_UP = (
    "train_records",
    "test_sets",
    "val_set",
    "labels",
    "fingerprint",
    "query_records",
    "gallery_records",
    "num_classes",
)

log = logging.getLogger(__name__)


class ReIDDataModule(LightningDataModule):
    """Batches for training and testing on one data set, or on several (`sources`).

    Args:
        root: the folder that holds the data sets (`paths.data`), or the data set's own folder.
        image_size: (height, width) in pixels.
        ids_per_batch: P, `images_per_id`: K; P x K is the global batch whatever the number of GPUs.
        eval_batch_size: images per batch and process in testing.
        num_workers: loader processes of each device's process; None: its share of the CPUs, 8 at most.
        pin_memory: None: if there is a CUDA device.
        sampler: makes the training batches; None: P identities with K images each (`PKSampler`).
        seed: of the sampler, the augmentation and the choice of held-out ids.
        transforms: augmentation and normalization.
        cache: keep the decoded training images, resized to `image_size`, in memory.
        val_ids: share of the training ids held out to form the query and gallery of `val_set`; they are not trained on.
        on_bad_image: "error" when a file that does not decode is met; "skip" decodes all files first and drops those.
        masks: folder of body-part label maps, one PNG per image; `mask_parts`: part name -> label values in them.
        cut: share of the height that every image loses in validation and testing, at the top or at the bottom (`cut_off`).

    After `setup`: `train_records`, `query_records`, `gallery_records` (the first test set's), `test_sets`, `val_set`,
    `labels` (pid -> 0..n-1), `num_classes`, `part_names`, `fingerprint`.
    """

    dataset_class: ClassVar[type[ReIDDataset] | None] = None
    options: Mapping[str, Any]  # arguments of the data set's constructor, beside the root

    train_records: Sequence[Record]
    test_sets: dict[str, TestSet]
    val_set: TestSet | None
    labels: dict[int, int]
    fingerprint: dict[str, Any]

    def __init__(
        self,
        root: str | Path,
        *,
        image_size: Sequence[int] = (256, 128),
        ids_per_batch: int = 16,
        images_per_id: int = 4,
        sampler: MakeSampler | None = None,
        eval_batch_size: int = 128,
        num_workers: int | None = None,
        pin_memory: bool | None = None,
        seed: int = 0,
        transforms: Transforms | None = None,
        cache: bool = False,
        val_ids: float = 0.0,
        on_bad_image: Literal["error", "skip"] = "error",
        masks: str | Path | None = None,
        mask_parts: Mapping[str, Sequence[int]] | None = None,
        cut: float = 0.0,
    ) -> None:
        super().__init__()
        if len(image_size) != 2 or min(image_size) < 1:
            raise ConfigError(f"data.image_size={list(image_size)} must be [height, width] in pixels, e.g. [256, 128].")
        if max(image_size) > MAX_SIDE:
            raise ConfigError(
                f"data.image_size={list(image_size)} is too large: up to {MAX_SIDE} pixels a side. Images of people are seldom "
                "larger than [384, 128], and memory and time grow with the square of the number of pixels."
            )
        if not 0 <= val_ids < 1:
            raise ConfigError(f"data.val_ids={val_ids} is a share of the training ids. Use 0 (none) or e.g. 0.1.")
        if not 0 <= cut < 1:
            raise ConfigError(f"data.cut={cut} is a share of each test image's height. Use 0 (none) or e.g. 0.2.")
        check_choice("data.on_bad_image", on_bad_image, ("error", "skip"))
        bounds = {"num_workers": (num_workers or 0, 0), "eval_batch_size": (eval_batch_size, 1), "seed": (seed, 0)}
        for name, (value, low) in bounds.items():
            if value < low:
                raise ConfigError(f"data.{name}={value} is too small. Use {low} or more.")
        if masks is not None and not mask_parts:
            raise ConfigError(
                "data.masks is set but data.mask_parts is not: say which label values make up which part, e.g. "
                "data.mask_parts='{head: [1, 2], torso: [3], legs: [4, 5]}'."
            )
        self.root, self.options = Path(root).expanduser(), {}
        self.image_size = (image_size[0], image_size[1])
        self.ids_per_batch, self.images_per_id, self.sampler = ids_per_batch, images_per_id, sampler
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.seed = seed
        self.transforms = transforms or Transforms()
        self.cache, self.val_ids, self.on_bad_image = cache, val_ids, on_bad_image
        self.masks, self.cut = masks, cut
        self.part_table = PartTable(mask_parts) if mask_parts else None
        self.bad_images: list[str] = []
        self._sources: tuple[list[ReIDDataset], list[ReIDDataset]] | None = None
        self._cached: PersonImages | None = None

    def __getattr__(self, name: str) -> Any:
        if name in _SET_UP:
            raise AttributeError(
                f"{type(self).__name__} has not been set up, so it has no {name} yet. Call setup('fit') to train or "
                "setup('test') to test; a Trainer does so by itself."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def open(self) -> ReIDDataset:
        """The data set, found and indexed."""
        if self.dataset_class is None:
            raise NotImplementedError(f"{type(self).__name__} must name its dataset_class or say what its sources are")
        return self.dataset_class(self.root, **self.options)

    def sources(self) -> tuple[list[ReIDDataset], list[ReIDDataset]]:
        """The data sets to train on and those to test on."""
        dataset = self.open()
        return [dataset], [dataset]

    @property
    def num_classes(self) -> int:
        return len(self.labels)

    @property
    def part_names(self) -> tuple[str, ...]:
        return self.part_table.names if self.part_table else ()

    @property
    def query_records(self) -> Sequence[Record]:
        return next((test_set.query for test_set in self.test_sets.values()), ())

    @property
    def gallery_records(self) -> Sequence[Record]:
        return next((test_set.gallery for test_set in self.test_sets.values()), ())

    def prepare_data(self) -> None:
        """Index once in the first process, so that what a data set unpacks on first use is there for the others."""
        self._sources = self._sources or self.sources()

    def setup(self, stage: str | None = None) -> None:
        """Index the data; also check that a batch can be made (`stage="fit"`), or that there is something to test on."""
        if not hasattr(self, "labels"):
            self.prepare_data()
            assert self._sources is not None
            self._assign(*self._sources)
        if stage == "fit":
            self._sampler()
        if stage == "test" and not self.test_sets:
            raise ProtocolError(
                f"{self.fingerprint['name']} has no query images, so there is nothing to test on. Give some images the splits "
                "query and gallery, or use other data (data=...)."
            )

    def teardown(self, stage: str | None = None) -> None:
        if self.bad_images:
            warn("%s left out of this run, as undecodable.", plural(len(self.bad_images), "image"))

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        images = self._cached or PersonImages(
            self.train_records,
            self.image_size,
            self.transforms.train(self.image_size),
            labels=self.labels,
            part_table=self.part_table,
            seed=self.seed,
        )
        if self.cache:
            images.cache()
            self._cached = images
        sampler = self._sampler()
        if self.trainer is not None:
            # of a continued training Lightning tells the epoch only after the workers have drawn their first batches
            progress: Any = self.trainer.fit_loop.epoch_progress.current
            sampler.set_epoch(progress.processed)
        return self._loader(images, persistent=True, batch_sampler=sampler)

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[DataLoader[dict[str, Any]]]:
        return [] if self.val_set is None else self._test_loader(self.val_set, persistent=True)

    def test_dataloader(self) -> list[DataLoader[dict[str, Any]]]:
        return [self._test_loader(test_set) for test_set in self.test_sets.values()]

    def test_images(
        self, records: Sequence[Record], change: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> PersonImages:
        """Images as they are tested, cut off where that is asked for; `change` is done to their pixels before the resize."""
        return PersonImages(
            records,
            self.image_size,
            self.transforms.test(),
            part_table=self.part_table,
            cut=self.cut,
            change=change,
        )

    def _assign(self, train_sets: list[ReIDDataset], test_sets: list[ReIDDataset]) -> None:
        image_of: dict[str, dict[Path, Record]] = {d.name: {} for d in (*train_sets, *test_sets)}  # of each mask
        train = union([self._usable(d, d.train, image_of[d.name]) for d in train_sets])
        self.test_sets = {}
        for d in test_sets:
            if d.query:
                query, gallery = (self._usable(d, split, image_of[d.name]) for split in (d.query, d.gallery))
                self.test_sets[d.name] = TestSet(d.name, query, gallery, d.draws, d.camera_names)
        self.val_set = None
        if self.val_ids:
            train, query, gallery = hold_out(train, self.val_ids, self.seed)
            self.val_set = TestSet("val", query, gallery)
        self.train_records = train
        self.labels = {pid: label for label, pid in enumerate(sorted({r.pid for r in train}))}
        self.fingerprint = self._fingerprint(train_sets, test_sets)
        if self.bad_images:
            warn(
                "left out: %s that cannot be decoded: %s",
                plural(len(self.bad_images), "image"),
                some(self.bad_images, 3),
            )

    def _usable(
        self, dataset: ReIDDataset, records: Sequence[Record], image_of: dict[Path, Record]
    ) -> Sequence[Record]:
        """The records with their masks where asked for, without the unreadable ones where those are to be skipped."""
        if self.masks is not None:
            records = attach_masks(records, dataset.folder, self.masks, image_of)
        if self.on_bad_image == "skip":
            records, problems = readable(records)
            self.bad_images += problems
        return records

    def _fingerprint(self, train_sets: list[ReIDDataset], test_sets: list[ReIDDataset]) -> dict[str, Any]:
        extra: dict[str, Any] = {"bad_images": len(self.bad_images)}
        if self.val_set is not None:
            extra["held_out_ids"] = count(self.val_set.query).ids
        if len(train_sets) == len(test_sets) == 1 and train_sets[0] is test_sets[0]:
            return train_sets[0].fingerprint() | extra
        train, test = [d.fingerprint() for d in train_sets], [d.fingerprint() for d in test_sets]
        name = f"{'+'.join(d.name for d in train_sets)} -> {'+'.join(d.name for d in test_sets)}"
        return {"name": name, "variant": "joint", "train": train, "test": test} | extra

    def _sampler(self) -> EpochSampler:
        records, labels = self.train_records, [self.labels[r.pid] for r in self.train_records]
        rank, world_size = self._rank()
        batch = {"ids_per_batch": self.ids_per_batch, "images_per_id": self.images_per_id}
        if self.sampler is None:
            return PKSampler(labels, **batch, seed=self.seed, rank=rank, world_size=world_size)
        return self.sampler(records, labels, **batch, seed=self.seed, rank=rank, world_size=world_size)

    def _test_loader(self, test_set: TestSet, persistent: bool = False) -> DataLoader[dict[str, Any]]:
        images = self.test_images(test_set.records)
        rank, world_size = self._rank()
        # each process takes every world_size-th image; the last ones repeat a few so that all have equally many
        sampler: DistributedSampler[Any] | None = (
            DistributedSampler(images, world_size, rank, shuffle=False) if world_size > 1 else None
        )
        return self._loader(images, persistent, batch_size=self.eval_batch_size, sampler=sampler)

    def _loader(self, images: PersonImages, persistent: bool, **options: Any) -> DataLoader[dict[str, Any]]:
        return DataLoader(
            images,
            num_workers=self.workers,
            pin_memory=self.pin_memory,
            persistent_workers=persistent and self.workers > 0,
            # the loader draws a seed for its workers; not from the global generator, which training also uses
            generator=torch.Generator().manual_seed(self.seed),
            **options,
        )

    @property
    def workers(self) -> int:
        """Loader processes of this process: as given, or its share of the CPUs that the devices of this machine have."""
        if self.num_workers is not None:
            return self.num_workers
        if self.trainer is None or isinstance(
            getattr(self.trainer.strategy, "cluster_environment", None), SLURMEnvironment
        ):  # which has given each process CPUs of its own
            return default_workers()
        return default_workers(self.trainer.num_devices)

    def _rank(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if dist.is_available() and dist.is_initialized():
            return dist.get_rank(), dist.get_world_size()
        return 0, 1
