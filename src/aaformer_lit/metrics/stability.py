"""How far descriptors move where their images hardly change, beside how far apart people are."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def movement(before: Float[Tensor, "images dim"], after: Float[Tensor, "images dim"]) -> float:
    """Median L2 distance of each L2-normalized descriptor before and after a change of its image; at most 2."""
    moved = F.normalize(after, dim=1) - F.normalize(before, dim=1)
    lengths: Tensor = torch.linalg.vector_norm(moved, dim=1)
    return lengths.median().item()


def between_people(features: Float[Tensor, "images dim"], pids: Int[Tensor, " images"]) -> float | None:
    """Median L2 distance of two L2-normalized descriptors of different people; None where there is one person only."""
    unit = F.normalize(features, dim=1)
    different = torch.cdist(unit, unit)[pids[:, None] != pids]
    return different.median().item() if len(different) else None
