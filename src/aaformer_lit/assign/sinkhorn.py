"""Optimal transport (AAformer, Eq. 3-5): patches go where they fit best while parts share equally."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aaformer_lit.assign.base import Assigner, Grid
from aaformer_lit.errors import check_choice
from aaformer_lit.ops import (
    ROUNDING,
    Comparison,
    PartAttention,
    PartWeights,
    Rounding,
    Similarity,
    aligned_weights,
    auto_alignment,
    check_sinkhorn,
    log_sinkhorn,
    sinkhorn,
)


class Sinkhorn(Assigner):
    """The paper's assigner.

    Args:
        epsilon: smoothness of the plan (the paper: 0.05).
        iterations: Sinkhorn-Knopp steps (the paper: 3).
        rounding: `argmax` (each patch to its heaviest part, the paper's), `balanced` (equal sizes) or `soft`: no subsets,
            the plan is a prior of the attention over all patches, continuous in the image and learnt through.
    """

    def __init__(self, epsilon: float = 0.05, iterations: int = 3, rounding: Rounding = "argmax") -> None:
        super().__init__()
        check_sinkhorn(epsilon, iterations)
        check_choice("rounding", rounding, ROUNDING)
        self.epsilon, self.iterations = epsilon, iterations
        self.rounding: Rounding = rounding

    def forward(
        self, scores: Float[Tensor, "batch heads parts patches"], grid: Grid, part_mask: Tensor | None = None
    ) -> Bool[Tensor, "batch heads parts patches"]:
        return ROUNDING[self.rounding](log_sinkhorn(self._compared(scores, grid), self.epsilon, self.iterations))

    def plan(
        self, scores: Float[Tensor, "batch heads parts patches"], grid: Grid
    ) -> Float[Tensor, "batch heads parts patches"]:
        """Y* of one granularity (Eq. 5): it sums to 1, its columns to 1/N each, its rows nearly to 1/P."""
        return sinkhorn(self._compared(scores, grid), self.epsilon, self.iterations)

    def cost(
        self, parts: Sequence[int], grid: Grid, device: torch.device, heights: Tensor | None = None
    ) -> Float[Tensor, "*batch parts patches"] | None:
        """What the scores of these granularities lose in the transport; the paper's: nothing."""
        return None

    def weights(
        self,
        compared: Comparison,
        *,
        parts: Sequence[int],
        grid: Grid,
        part_mask: Tensor | None = None,
        heights: Float[Tensor, "batch patches"] | None = None,
        return_membership: bool = False,
    ) -> PartWeights:
        """As the base; of the soft form, the attention over all patches."""
        transport = self._transport(parts, grid, compared.scores.device, heights)
        return aligned_weights(compared, return_membership=return_membership, **transport)

    def attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        similarity: Similarity,
        parts: Sequence[int],
        grid: Grid,
        part_mask: Tensor | None = None,
        heights: Tensor | None = None,
        compared: Comparison | None = None,
        return_membership: bool = False,
    ) -> PartAttention:
        """As the base, through the fused kernel where there is one."""
        return auto_alignment(
            queries,
            keys,
            values,
            similarity=similarity,
            compared=compared,
            return_membership=return_membership,
            **self._transport(parts, grid, queries.device, heights),
        )

    def _transport(
        self, parts: Sequence[int], grid: Grid, device: torch.device, heights: Tensor | None
    ) -> dict[str, Any]:
        return {
            "parts": parts,
            "epsilon": self.epsilon,
            "iterations": self.iterations,
            "rounding": self.rounding,
            "cost": self.cost(parts, grid, device, heights),
        }

    def _compared(self, scores: Tensor, grid: Grid) -> Tensor:
        cost = self.cost([scores.shape[-2]], grid, scores.device)
        return scores if cost is None else scores - cost

    def extra_repr(self) -> str:
        return f"epsilon={self.epsilon}, iterations={self.iterations}, rounding={self.rounding!r}"
