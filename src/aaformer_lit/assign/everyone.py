"""Everyone (Table IV, 6 x CLS): extra tokens without alignment, in ordinary self-attention over the sequence."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aaformer_lit.assign.base import Assigner, Grid


class Everyone(Assigner):
    """Every patch belongs to every part, and the part tokens also see CLS, each other and themselves."""

    whole_sequence = True

    def forward(
        self, scores: Float[Tensor, "batch heads parts patches"], grid: Grid, part_mask: Tensor | None = None
    ) -> Bool[Tensor, "batch heads parts patches"]:
        return torch.ones_like(scores, dtype=torch.bool)
