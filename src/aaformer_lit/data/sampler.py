"""PK sampling: a batch is P identities with K images each (Hermans et al., 2017), the same on one GPU as on many.

An epoch cuts each identity's shuffled images into groups of K and drops the rest; identities with fewer than K images
give one group, drawn with replacement. Each batch takes one group of P identities picked at random among those with
groups left, and the epoch ends when fewer than P are left. P x K is the global batch: under DDP every rank plans the
same epoch and takes its own P / world_size identities of each batch.

The order is a function of (seed, epoch) alone, so the only state to resume is the epoch. `EpochSampler` sees to that, and
to the share of each rank, for any way to make batches: `data/sampler=NAME` chooses another one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.structures import Record


@dataclass(frozen=True, slots=True)
class Draw:
    """One image asked for by the sampler: enough to derive its augmentation in any worker process.

    `copy` counts earlier draws of the same image in the same epoch, so that an image drawn twice is not augmented
    alike.
    """

    index: int
    epoch: int = 0
    copy: int = 0


class EpochSampler(Sampler[list[Draw]], ABC):
    """A batch sampler whose epochs are planned whole, by every rank alike, of which each rank takes its share.

    A sampler of one's own says in `batches` what the global batches of an epoch are.

    Args:
        seed: of the order, with the epoch.
        rank: whose share of each global batch it is under DDP.
        world_size: shares that a global batch is cut into.
    """

    def __init__(self, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0
        self._planned: tuple[int, list[list[Draw]]] | None = None

    @abstractmethod
    def batches(self, rng: np.random.Generator) -> list[list[int]]:
        """The global batches of one epoch, each a list of image indices that `world_size` ranks can share equally.

        All that is random comes from `rng`, whose state is a function of seed and epoch.
        """

    @property
    def sampler(self) -> EpochSampler:
        """Itself: Lightning calls `set_epoch` on a batch sampler's `.sampler` and never on the batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of the current epoch; epochs may differ by a few."""
        return len(self._plan())

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in self._plan():
            share = len(batch) // self.world_size
            yield batch[self.rank * share : (self.rank + 1) * share]

    def _plan(self) -> list[list[Draw]]:
        """All global batches of the current epoch."""
        if self._planned is None or self._planned[0] != self.epoch:
            copies: Counter[int] = Counter()
            plan: list[list[Draw]] = []
            for batch in self.batches(np.random.default_rng([self.seed, self.epoch])):
                plan.append([])
                for index in batch:
                    plan[-1].append(Draw(index, self.epoch, copies[index]))
                    copies[index] += 1
            self._planned = (self.epoch, plan)
        return self._planned[1]


class MakeSampler(Protocol):
    """What `data.sampler` is: it makes the sampler of one rank for the training images.

    `labels` are the identities of `records`, 0..n-1; `ids_per_batch` and `images_per_id` are the data config's P and K.
    """

    def __call__(
        self,
        records: Sequence[Record],
        labels: Sequence[int],
        *,
        ids_per_batch: int,
        images_per_id: int,
        seed: int,
        rank: int,
        world_size: int,
    ) -> EpochSampler: ...


class PKSampler(EpochSampler):
    """Batch sampler over `labels` (one identity label per image): each batch lists its identities' images side by side.

    `rank` and `world_size` cut the global batch of `ids_per_batch` x `images_per_id` under DDP.

    Raises `ConfigError` where the numbers cannot make a batch, `ProtocolError` where the images cannot.
    """

    def __init__(
        self,
        labels: Sequence[int],
        ids_per_batch: int,
        images_per_id: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check(Counter(labels), ids_per_batch, images_per_id, world_size)
        super().__init__(seed=seed, rank=rank, world_size=world_size)
        self.ids_per_batch, self.images_per_id = ids_per_batch, images_per_id
        order = np.argsort(np.asarray(labels), kind="stable")
        starts = np.flatnonzero(np.diff(np.asarray(labels)[order])) + 1
        self._images = np.split(order, starts)  # one array of image indices per identity, in label order

    def batches(self, rng: np.random.Generator) -> list[list[int]]:
        groups = [self._groups(images, rng) for images in self._images]
        left = list(range(len(groups)))
        batches = []
        while len(left) >= self.ids_per_batch:
            picked = [left[i] for i in rng.choice(len(left), self.ids_per_batch, replace=False)]
            batches.append([index for identity in picked for index in groups[identity].pop()])
            left = [identity for identity in left if groups[identity]]
        return batches

    def _groups(self, images: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
        k = self.images_per_id
        if len(images) < k:
            return [rng.choice(images, k, replace=True).tolist()]
        whole = len(images) // k * k
        groups: list[list[int]] = rng.permutation(images)[:whole].reshape(-1, k).tolist()
        return groups


def _check(images_of: Counter[int], ids_per_batch: int, images_per_id: int, world_size: int) -> None:
    if ids_per_batch < 2:
        raise ConfigError(
            f"data.ids_per_batch={ids_per_batch}: the triplet loss needs negatives. Use at least 2 (16 by default)."
        )
    if images_per_id < 2:
        raise ConfigError(
            f"data.images_per_id={images_per_id}: the triplet loss needs positives. Use at least 2 (4 by default)."
        )
    if ids_per_batch % world_size:
        raise ConfigError(
            f"data.ids_per_batch={ids_per_batch} cannot be shared by {world_size} processes: ids_per_batch x "
            f"images_per_id is the global batch and each process takes ids of its own. Use a multiple of {world_size}."
        )
    if len(images_of) < ids_per_batch:
        raise ProtocolError(
            f"the training split has {len(images_of)} ids, fewer than data.ids_per_batch={ids_per_batch}: not one "
            f"batch can be made. Lower data.ids_per_batch, or check the data: python -m aaformer_lit.prepare data=..."
        )
    if max(images_of.values()) < 2:
        raise ProtocolError(
            f"none of the {len(images_of)} training ids has two images, so there is no pair to pull together. "
            f"Check that the pid is read from the right part of the file names."
        )
