"""Data structures shared by all modules: one image on disk, one batch, one forward pass, a set of features, a result.

Everything is immutable and named; tensors carry their shapes in the annotations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

NO_PART = 255
Tokens = Sequence[int | Sequence[int]]
Pixels = UInt8[np.ndarray, "height width 3"]
Picture = str | Path | Image.Image | Pixels
Pictures = Picture | Sequence[Picture] | UInt8[np.ndarray, "images height width 3"]


@dataclass(frozen=True, slots=True)
class Record:
    """One person image: where it is, who it shows, which camera took it.

    `pid` is the data set's own identity number (training labels 0..n-1 are made from it later); `camid` is -1 where the
    camera is unknown, and then no camera rule applies. `mask` is the image's body-part label map, if there is one.
    `sequence` numbers the clips that images are frames of; it is -1 for an image of no clip.
    """

    path: Path
    pid: int
    camid: int
    mask: Path | None = None
    sequence: int = -1


def nobody(query: Sequence[Record]) -> set[int]:
    """The pids of a test set that are no one person: -1, junk, and 0, distractors, unless a query shows a person 0."""
    return {-1} | ({0} - {record.pid for record in query})


class ReIDBatch(TypedDict):
    """One batch: training `pid`s are labels 0..n-1, test `pid`s the data set's own; `index` is the position in the split.

    `part_mask` holds the part of each pixel of the augmented image, `NO_PART` where it belongs to none; `place`, how far down
    in the image before the augmentation each pixel was, from 0 to 254, and `NO_PART` where it was nowhere in it.
    """

    image: Float[Tensor, "batch 3 height width"]
    pid: Int[Tensor, " batch"]
    camid: Int[Tensor, " batch"]
    index: Int[Tensor, " batch"]
    part_mask: NotRequired[UInt8[Tensor, "batch height width"]]
    place: NotRequired[UInt8[Tensor, "batch height width"]]


@dataclass(frozen=True, slots=True)
class ReIDOutput:
    """One forward pass. `*_feat` are before the neck (what the triplet loss sees); `descriptor` is what is compared at test.

    A network that joins its tokens to one feature (`ReIDViT.joined`) has it as `global_feat`, and no `part_feats`.

    Its parts one by one, after the neck that their mean passes, are `joined_parts`. Where patches are on the body, as far as a
    network estimates that (`BodyHeights`), are `heights`.

    `descriptor` keeps the tokens apart (token 0 is global, then the parts) and is not normalized; `logits` are None in eval
    mode. `assignments` holds one membership tensor per layer where they were asked for, else it is empty; so does `scores`
    what the assigner of each layer compares, with gradient.
    """

    global_feat: Float[Tensor, "batch dim"]
    part_feats: Float[Tensor, "batch parts dim"]
    descriptor: Float[Tensor, "batch tokens dim"]
    logits: Float[Tensor, "batch tokens ids"] | None = None
    assignments: tuple[Tensor, ...] = ()
    scores: tuple[Tensor, ...] = ()
    joined_parts: Float[Tensor, "batch parts dim"] | None = None
    heights: Float[Tensor, "batch patches"] | None = None


def compared_features(
    descriptors: Float[Tensor, "images tokens dim"], normalize: bool, tokens: Tokens | None = None
) -> Float[Tensor, "images features"]:
    """What distances compare: these tokens (None: all) side by side in float32, L2-normalized where the network's are.

    In the place of a token may stand several, for their mean.
    """
    if tokens is not None:
        rows = [[token] if isinstance(token, int) else list(token) for token in tokens]
        descriptors = torch.stack([descriptors[:, row].float().mean(dim=1) for row in rows], dim=1)
    features = descriptors.flatten(1).float()
    return F.normalize(features, dim=1) if normalize else features


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Features of a query or gallery set with the identity and camera of each row.

    `sequences` says which images are one take: frames of the same clip have the same number, and so has one file in both
    sets. Where it is given for query and gallery, images of the query's pid and sequence are ignored as those of its camera.
    """

    features: Float[Tensor, "images dim"]
    pids: Int[Tensor, " images"]
    camids: Int[Tensor, " images"]
    sequences: Int[Tensor, " images"] | None = None

    def __post_init__(self) -> None:
        labels = [self.pids, self.camids] + ([] if self.sequences is None else [self.sequences])
        if any(len(label) != len(self.features) for label in labels):
            raise ValueError(
                f"a FeatureSet needs one pid and one camid (and one sequence, if any) per feature; got {len(self.features)} "
                f"features and {', '.join(str(len(label)) for label in labels)} labels."
            )

    def select(self, rows: Tensor | slice) -> FeatureSet:
        """The images of some rows, as a mask, as numbers or as a slice."""
        on_device = rows if isinstance(rows, slice) else rows.to(self.features.device)
        sequences = None if self.sequences is None else self.sequences[rows]
        return FeatureSet(self.features[on_device], self.pids[rows], self.camids[rows], sequences)

    def __len__(self) -> int:
        return len(self.pids)

    @classmethod
    def of(cls, features: FeatureSet | Sequence[Any]) -> FeatureSet:
        """A set as it is, or made of `(features, pids)` or `(features, pids, camids)`: tensors, arrays or lists.

        Without camids no camera is known (-1), and no camera rule applies.
        """
        if isinstance(features, FeatureSet):
            return features
        if isinstance(features, Tensor) or len(features) not in (2, 3):
            raise ValueError(
                "a set of features is a FeatureSet, (features, pids) or (features, pids, camids); got "
                f"{type(features).__name__} of length {len(features)}."
            )
        rows, pids, *camids = map(torch.as_tensor, features)
        if rows.ndim != 2 or pids.is_floating_point():
            raise ValueError(
                f"features are (images, dim) and pids whole numbers; got {tuple(rows.shape)} and {pids.dtype}."
            )
        return cls(rows, pids, camids[0] if camids else torch.full_like(pids, -1))


@dataclass(frozen=True, slots=True)
class PerQuery:
    """Per-query results for paired statistics; rows of queries without a match are not in it.

    `index`: the query's row; `average_precision`: step form, in [0, 1]; `first_hit_rank`: 1 is best.
    """

    index: Int[Tensor, " valid"]
    average_precision: Float[Tensor, " valid"]
    first_hit_rank: Int[Tensor, " valid"]


@dataclass(frozen=True, slots=True)
class RetrievalMetrics:
    """Retrieval quality as fractions of 1. `cmc[k]` is Rank-k; `mAP` the step form, `mAP_trapezoid` the Market toolbox's.

    The means are over the `num_valid_queries` queries that have a match in the gallery.
    """

    mAP: float
    mINP: float
    mAP_trapezoid: float
    num_valid_queries: int
    cmc: Mapping[int, float]
    per_query: PerQuery = field(repr=False)

    def as_dict(self, prefix: str = "test/") -> dict[str, float]:
        """Flat names as in `metrics.json`: `test/mAP`, `test/rank1`, ..."""
        values = {"mAP": self.mAP, **{f"rank{k}": v for k, v in self.cmc.items()}}
        values |= {"mINP": self.mINP, "mAP_trapezoid": self.mAP_trapezoid}
        return {f"{prefix}{name}": value for name, value in values.items()}
