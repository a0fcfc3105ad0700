"""Who belongs to which part: the one question in which AAformer, its ablations and its rivals differ (Tables IV-VI)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from aaformer_lit.errors import ConfigError
from aaformer_lit.ops import Comparison, PartAttention, PartWeights, Similarity, compare, subset_softmax, weighted

Grid = tuple[int, int]


class Assigner(nn.Module):
    """Maps the scores of one granularity to the membership of patches in parts.

    A new scheme overrides `forward`; `weights` and `attend` do the rest: one problem per granularity, Eq. 2 within the
    subsets. `whole_sequence` marks the scheme whose extra tokens take part in ordinary self-attention instead.
    """

    whole_sequence = False
    differentiable = False

    def forward(
        self,
        scores: Float[Tensor, "batch heads parts patches"],
        grid: Grid,
        part_mask: UInt8[Tensor, "batch height width"] | None = None,
    ) -> Bool[Tensor, "batch heads parts patches"] | Float[Tensor, "batch heads parts patches"]:
        """Membership of each patch in each part of one granularity; weights instead of booleans if differentiable.

        Args:
            scores: similarity of parts and patches, float32 or better.
            grid: patch rows and columns; patches are numbered row by row.
            part_mask: true part of each pixel, where the data set has masks.
        """
        raise NotImplementedError

    def validate(self, parts: Sequence[int], grid: Grid) -> None:
        """Raise `ConfigError` where these granularities cannot work on this patch grid."""
        patches = grid[0] * grid[1]
        if not parts or any(not isinstance(p, int) or p < 1 for p in parts):
            raise ConfigError(f"parts must be a list of positive granularities such as [2,3]; got {list(parts)}.")
        if max(parts) > patches:
            raise ConfigError(
                f"parts={list(parts)} asks for {max(parts)} parts of {patches} patches (grid {grid[0]}x{grid[1]}). "
                f"Use at most {patches}, a larger image or a smaller stride."
            )

    def weights(
        self,
        compared: Comparison,
        *,
        parts: Sequence[int],
        grid: Grid,
        part_mask: UInt8[Tensor, "batch height width"] | None = None,
        heights: Float[Tensor, "batch patches"] | None = None,
        return_membership: bool = False,
    ) -> PartWeights:
        """The attention of parts to patches: assign, then Eq. 2's softmax within each subset.

        `heights`: where on the body each patch is (`BodyHeights`), for a cost of place.
        """
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            groups = [self(s, grid, part_mask) for s in compared.scores.split(list(parts), dim=-2)]
            membership = torch.cat(groups, dim=-2)
        return PartWeights(subset_softmax(compared.logits, membership), membership if return_membership else None)

    def attend(
        self,
        queries: Float[Tensor, "batch heads parts dim"],
        keys: Float[Tensor, "batch heads patches dim"],
        values: Float[Tensor, "batch heads patches dim"],
        *,
        similarity: Similarity,
        parts: Sequence[int],
        grid: Grid,
        part_mask: UInt8[Tensor, "batch height width"] | None = None,
        heights: Float[Tensor, "batch patches"] | None = None,
        compared: Comparison | None = None,
        return_membership: bool = False,
    ) -> PartAttention:
        """Part outputs of one layer: the patches' values by `weights`. `compared` as in `auto_alignment`."""
        compared = compare(queries, keys, similarity) if compared is None else compared
        weights, membership = self.weights(
            compared,
            parts=parts,
            grid=grid,
            part_mask=part_mask,
            heights=heights,
            return_membership=return_membership,
        )
        return PartAttention(weighted(weights, values), membership)
