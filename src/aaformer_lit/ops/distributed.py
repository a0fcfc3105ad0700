"""Gathering a batch from all ranks, so that several devices compute what one would on the whole batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def is_distributed() -> bool:
    """Whether more than one process takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_batch(tensor: Tensor) -> Tensor:
    """Rows of all ranks in rank order; every rank needs as many rows. The gradient flows back to the rank it came from."""
    if not is_distributed():
        return tensor
    if tensor.requires_grad:
        return torch.cat(all_gather(tensor.contiguous()))
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)
