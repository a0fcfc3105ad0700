"""How well the parts match true body parts, and how the patches are shared out among the parts.

A patch belongs to a part token (the assignment) and shows a body part (its label, the majority of its pixels in the mask).
One contingency table per layer and head counts both over the whole test set. So a part token scores only if it means the
same body part on every image: its index is compared, not the best matching within an image.

* NMI: mutual information of part and body part over the mean of their entropies; 0 independent, 1 one-to-one.
* Purity: share of the patches whose body part is the most frequent one of their part.
Both over patches that show a body part; masks of one class, person or not, are compared with the background as the other.
What falls on background is reported apart, by patches and by attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num, UInt8
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.metrics.structured import StructuredMetric
from aaformer_lit.structures import NO_PART


def nmi(table: Num[Tensor, "*batch parts labels"]) -> Float[Tensor, "*batch"]:
    """Normalized mutual information (arithmetic mean of the entropies) of contingency tables.

    As in scikit-learn: 1 if parts and labels both take one value only, 0 if one of them does; 0 for an empty table.
    """
    joint = table.double()
    joint = joint / joint.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
    part_entropy, label_entropy = entropy(joint.sum(dim=-1)), entropy(joint.sum(dim=-2))
    mutual = part_entropy + label_entropy - entropy(joint.flatten(-2))
    mean = (part_entropy + label_entropy) / 2
    trivial = (mean < 1e-12) & (joint.sum(dim=(-2, -1)) > 0)
    return torch.where(trivial, 1.0, mutual.clamp(min=0) / mean.clamp(min=1e-12)).clamp(max=1)


def purity(table: Num[Tensor, "*batch parts labels"]) -> Float[Tensor, "*batch"]:
    """Share of patches that carry the most frequent label of their part; 0 for an empty table."""
    table = table.double()
    return table.amax(dim=-1).sum(dim=-1) / table.sum(dim=(-2, -1)).clamp(min=1)


def without_background(table: Int[Tensor, "*batch parts labels"]) -> Int[Tensor, "*batch parts labels"]:
    """The body parts of tables whose last label is background; of one class, with which nothing can agree, all."""
    return table if table.shape[-1] == 2 else table[..., :-1]


def entropy(probabilities: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """In nats, with 0 log 0 = 0."""
    return -torch.xlogy(probabilities, probabilities).sum(dim=-1)


def patch_labels(
    part_mask: UInt8[Tensor, "batch height width"], grid: tuple[int, int]
) -> UInt8[Tensor, "batch patches"]:
    """The body part that most pixels of each patch show (`NO_PART` may win); the lower label on a tie, background last.

    Args:
        part_mask: body part of each pixel, `NO_PART` for none.
        grid: patch rows and columns; the image is cut into so many cells, numbered row by row.
    """
    labels = part_mask.unique().tolist()
    shares = torch.stack([F.adaptive_avg_pool2d((part_mask == label).float(), grid) for label in labels])
    winner = shares.max(dim=0).indices.flatten(1)
    return part_mask.new_tensor(labels)[winner]


@dataclass(frozen=True, slots=True)
class PartAlignment:
    """Alignment of one granularity with the body parts; the last entry along `layers` is the last layer.

    `nmi`, `purity`: (layers, heads). `background`: share of a part's patches that show background; `background_attention`:
    share of a part's attention there, None where no attention was given; `subset_share`: share of all patches that a part
    takes: (layers, heads, parts). `subset_entropy`: entropy of these shares over log parts, 1 is equal: (layers, heads).
    `counts`: the contingency table itself, patches by part and body part, the last of which is background.
    """

    nmi: Float[Tensor, "layers heads"]
    purity: Float[Tensor, "layers heads"]
    background: Float[Tensor, "layers heads parts"]
    background_attention: Float[Tensor, "layers heads parts"] | None
    subset_share: Float[Tensor, "layers heads parts"]
    subset_entropy: Float[Tensor, "layers heads"]
    counts: Int[Tensor, "layers heads parts labels"]

    @property
    def parts(self) -> int:
        """The granularity."""
        return self.counts.shape[2]

    @property
    def compared(self) -> Int[Tensor, "layers heads parts labels"]:
        """What `nmi` and `purity` are of: the table without background, or the person against it."""
        return without_background(self.counts)

    def last_layer(self) -> dict[str, float]:
        """Means over the heads (and parts) of the last layer, and the NMI of its best head.

        `background_share` is that of the attention, where there is one; `background_patches` that of the patches.
        """
        values = {
            "nmi": self.nmi[-1].mean(),
            "nmi_best_head": self.nmi[-1].max(),
            "purity": self.purity[-1].mean(),
            "background_patches": self.background[-1].mean(),
            "subset_entropy": self.subset_entropy[-1].mean(),
        }
        if self.background_attention is not None:
            values["background_share"] = self.background_attention[-1].mean()
        return {name: value.item() for name, value in values.items()}


class AlignmentMeter(StructuredMetric):
    """Streams assignments and patch labels into contingency tables; `compute` gives a `PartAlignment` per granularity.

    Args:
        parts: granularities in token order, such as [2, 3]; their sum is the number of part tokens.
        num_labels: body parts in the masks (labels 0 to num_labels - 1; `NO_PART` is background).
        layers: of the assignments; a network that pools once has 1.
        heads: of the assignments; a network that pools once has 1.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    table: Tensor
    attention: Tensor

    def __init__(self, parts: Sequence[int], num_labels: int, layers: int, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts, self.num_labels = tuple(parts), num_labels
        shape = (layers, heads, sum(self.parts))
        self.add_state("table", torch.zeros(*shape, num_labels + 1, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("attention", torch.zeros(*shape, 2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        assignments: Sequence[Bool[Tensor, "batch heads parts patches"]],
        patch_labels: Int[Tensor, "batch patches"],
        attention: Sequence[Float[Tensor, "batch heads parts patches"]] | None = None,
    ) -> None:
        """Add a batch: one membership tensor per layer, and the attention of parts to patches where it is known."""
        layers, heads, parts = self.table.shape[:3]
        if len(assignments) != layers or any(a.shape[1:3] != (heads, parts) for a in assignments):
            raise ValueError(
                f"expected assignments of {layers} layers with {heads} heads and {parts} parts; got "
                f"{[tuple(a.shape) for a in assignments]}."
            )
        hidden = patch_labels == NO_PART
        highest = int(patch_labels.masked_fill(hidden, 0).max())
        if highest >= self.num_labels:
            raise ValueError(
                f"patch label {highest} found, but num_labels={self.num_labels} (NO_PART={NO_PART} is background)."
            )
        one_hot = F.one_hot(patch_labels.long().masked_fill(hidden, self.num_labels), self.num_labels + 1).float()
        for layer, membership in enumerate(assignments):
            # float32 products are exact here: the counts of one batch stay below 2^24
            self.table[layer] += torch.einsum("bhpn,bnc->hpc", _as_bool(membership).float(), one_hot).round().long()
        for layer, weights in enumerate(attention or ()):
            on_background = torch.einsum("bhpn,bn->hp", weights.double(), hidden.double())
            self.attention[layer] += torch.stack([on_background, weights.double().sum(dim=(0, 3))], dim=-1)

    def compute(self) -> tuple[PartAlignment, ...]:
        """One result per granularity, in the order of `parts`."""
        tables = zip(self.table.split(self.parts, dim=2), self.attention.split(self.parts, dim=2), strict=True)
        return tuple(self._alignment(table, attention) for table, attention in tables)

    @staticmethod
    def _alignment(
        table: Int[Tensor, "layers heads parts labels"], attention: Float[Tensor, "layers heads parts 2"]
    ) -> PartAlignment:
        size = table.sum(dim=-1).double()
        share = size / size.sum(dim=-1, keepdim=True).clamp(min=1)
        known = bool((attention[..., 1] > 0).any())
        return PartAlignment(
            nmi=nmi(without_background(table)),
            purity=purity(without_background(table)),
            background=table[..., -1] / size.clamp(min=1),
            background_attention=attention[..., 0] / attention[..., 1].clamp(min=1e-12) if known else None,
            subset_share=share,
            subset_entropy=relative_entropy(share),
            counts=table,
        )


def _as_bool(membership: Tensor) -> Bool[Tensor, "batch heads parts patches"]:
    """Straight-through weights are 0 and 1 up to rounding."""
    return membership if membership.dtype == torch.bool else membership > 0.5


def relative_entropy(shares: Float[Tensor, "*batch parts"]) -> Float[Tensor, "*batch"]:
    """Entropy over its maximum, log parts: 1 is equal sizes, 0 is collapse; 1 for a single part."""
    parts = shares.shape[-1]
    if parts == 1:
        return torch.ones_like(shares[..., 0])
    return (entropy(shares) / torch.log(shares.new_tensor(float(parts)))).clamp(max=1.0)  # rounding may pass it


def largest_share(assignment: Bool[Tensor, "batch heads parts patches"]) -> float:
    """Share of the patches that the largest part takes, mean over images and heads: 1/parts is equal, 1 is collapse."""
    return assignment.float().mean(dim=-1).amax(dim=-1).mean().item()


def empty_share(assignment: Bool[Tensor, "batch heads parts patches"]) -> float:
    """Share of the parts that got no patch of their own.

    The assigners lend such a part the one patch that suits it best, which also stays where it was, so it is a part with at
    most one patch, and that patch another part's too.
    """
    owners = assignment.sum(dim=2, keepdim=True)
    own = (assignment & (owners == 1)).any(dim=-1)
    return (~own & (assignment.sum(dim=-1) <= 1)).float().mean().item()


def subset_entropy(assignment: Bool[Tensor, "batch heads parts patches"]) -> float:
    """Relative entropy of the subset sizes, mean over images and heads: 1 is equal, 0 is collapse."""
    size = assignment.sum(dim=-1).double()
    return relative_entropy(size / size.sum(dim=-1, keepdim=True).clamp(min=1)).mean().item()


def assignment_statistics(
    assignments: Sequence[Bool[Tensor, "batch heads parts patches"]], parts: Sequence[int]
) -> dict[str, float]:
    """The three statistics, means over layers and granularities, for logging as `assign/*`.

    Args:
        assignments: one membership tensor per layer.
        parts: granularities in token order; each is a division of the patches of its own.
    """
    groups = [group for layer in assignments for group in _as_bool(layer).split(list(parts), dim=2)]
    statistics = {"largest_share": largest_share, "empty_share": empty_share, "entropy": subset_entropy}
    return {name: sum(map(function, groups)) / len(groups) for name, function in statistics.items()}
