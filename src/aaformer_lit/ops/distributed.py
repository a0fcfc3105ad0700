"""Gathering a batch from all ranks, so that several devices compute what one would on the whole batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx


def is_distributed() -> bool:
    """Whether more than one process takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_batch(tensor: Tensor) -> Tensor:
    """Rows of all ranks in rank order; every rank needs as many. The gradient flows back to the rank it came from."""
    if not is_distributed():
        return tensor
    gathered: Tensor = _Gather.apply(tensor)
    return gathered


class _Context(FunctionCtx):
    rows: int


class _Gather(torch.autograd.Function):
    """torch's own differentiable all-gather changes its name between versions."""

    @staticmethod
    def forward(ctx: _Context, tensor: Tensor) -> Tensor:
        ctx.rows = len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> Tensor:
        # every rank's loss depends on every row: the row's gradient is the sum over ranks
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        first = dist.get_rank() * ctx.rows
        return gradient[first : first + ctx.rows]
