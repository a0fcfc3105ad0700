"""Optimal transport with a cost of place: a patch is far from a part that looks like it but belongs at another height.

Not in the paper, whose transport (Eq. 3-5) compares looks alone, so that nothing holds a part to the same region of the body
in every image. Here part i of P has a height, the middle of stripe i, and the scores lose `weight` times the squared distance
from there in stripe heights. Between two neighboring parts the border is then where stripes have it if a patch looks like
both equally, and moves by 1 / (2 * weight) stripe heights per unit of difference in their scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from aaformer_lit.assign.base import Grid
from aaformer_lit.assign.sinkhorn import Sinkhorn
from aaformer_lit.errors import ConfigError
from aaformer_lit.ops.rounding import Rounding


class Placed(Sinkhorn):
    """The paper's assigner with a cost of place.

    Args:
        weight: of the cost of place against the scores; 0 is `Sinkhorn`, and a large one `Stripes` of equal sizes.
        epsilon, iterations, rounding: as in `Sinkhorn`.
    """

    def __init__(
        self, weight: float = 0.1, epsilon: float = 0.05, iterations: int = 3, rounding: Rounding = "argmax"
    ) -> None:
        super().__init__(epsilon, iterations, rounding)
        if weight < 0:
            raise ConfigError(f"the weight of the cost of place must be 0 or more; got {weight}.")
        self.weight = weight

    def cost(
        self, parts: Sequence[int], grid: Grid, device: torch.device, heights: Tensor | None = None
    ) -> Float[Tensor, "*batch parts patches"]:
        heights = patch_heights(grid, device) if heights is None else heights.detach()[:, None]
        return self.weight * torch.cat([place_distances(granularity, heights) for granularity in parts], dim=-2)

    def extra_repr(self) -> str:
        return f"weight={self.weight}, {super().extra_repr()}"


def place_distances(parts: int, heights: Float[Tensor, "*batch patches"]) -> Float[Tensor, "*batch parts patches"]:
    """Squared vertical distance of each patch from the middle of each part's stripe, in stripe heights."""
    middles = torch.arange(parts, device=heights.device)[:, None] + 0.5
    return (heights[..., None, :] * parts - middles).square()


def patch_heights(grid: Grid, device: torch.device | None = None) -> Float[Tensor, " patches"]:
    """How far down the image, from 0 to 1, the middle of each patch is."""
    rows, columns = grid
    return ((torch.arange(rows, device=device) + 0.5) / rows).repeat_interleave(columns)
