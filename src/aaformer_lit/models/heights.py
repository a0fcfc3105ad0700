"""Where on the body each patch is, by its looks: what a cost of place needs where boxes are off. Not in the paper."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aaformer_lit.assign.placed import patch_heights


class BodyHeights(nn.Module):
    """How far down the body's box each patch is, 0 at its top and 1 at its bottom, whatever the image shows of it.

    Boxes are off upwards and downwards, so two numbers per image say it all: where its upper and its lower edge are on
    the body. They are read off the rows of patches, each of which has weights of its own: a head in the first row is
    where it should be, shoulders there are not. Before any training they are 0 and 1, the image's own edges. `PlaceLoss`
    teaches them on boxes that were moved (`data.transforms.box`).

    Args:
        dim: channels of the patches.
        grid: patch rows and columns.
    """

    rows: Tensor

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.norm, self.edges = nn.LayerNorm(dim), nn.Linear(grid[0] * dim, 2)
        nn.init.zeros_(self.edges.weight)
        with torch.no_grad():
            self.edges.bias.copy_(torch.tensor([0.0, 1.0]))
        self.register_buffer("rows", patch_heights(grid), persistent=False)

    def forward(self, patches: Float[Tensor, "batch patches dim"]) -> Float[Tensor, "batch patches"]:
        """Heights on the body, in float32."""
        rows = self.norm(patches).unflatten(1, self.grid).mean(dim=2)
        # divided, so that one step of Adam moves the edges no further on a finer grid
        edges = self.edges(rows.flatten(1) / math.sqrt(self.edges.in_features))
        with torch.autocast(edges.device.type, enabled=False):
            upper, lower = edges.float()[..., None].unbind(dim=1)
            heights: Tensor = upper + (lower - upper) * self.rows
        return heights
