"""Horizontal stripes (Table IV: PCB with [6], MGN with [2,3]): the body cut at fixed heights, whoever stands there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aaformer_lit.assign.base import Assigner, Grid
from aaformer_lit.errors import ConfigError


class Stripes(Assigner):
    """Part i of P owns the patch rows from floor(i * rows / P) up to floor((i + 1) * rows / P)."""

    def validate(self, parts: Sequence[int], grid: Grid) -> None:
        super().validate(parts, grid)
        if max(parts) > grid[0]:
            raise ConfigError(
                f"patch grid {grid[0]}x{grid[1]} has {grid[0]} rows; cannot cut {max(parts)} stripes. "
                f"Use parts of at most {grid[0]}, or a taller image."
            )

    def forward(
        self, scores: Float[Tensor, "batch heads parts patches"], grid: Grid, part_mask: Tensor | None = None
    ) -> Bool[Tensor, "batch heads parts patches"]:
        rows, columns = grid
        parts = scores.shape[-2]
        edges = torch.tensor([i * rows // parts for i in range(parts + 1)], device=scores.device)
        row = torch.arange(rows, device=scores.device).repeat_interleave(columns)
        stripes = (row >= edges[:-1, None]) & (row < edges[1:, None])
        return stripes.expand_as(scores)
