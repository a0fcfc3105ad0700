"""One projection, read twice: whole for the attention of CLS and patches, in part for the part tokens.

Slicing a tensor that is also used whole costs autograd a full-size tensor of zeros, a copy and an addition per slice. Here
the six gradients meet in one buffer that is the projection's gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class Projections(NamedTuple):
    """Views of one projection, as attention takes them."""

    queries: Float[Tensor, "batch heads length dim"]
    keys: Float[Tensor, "batch heads length dim"]
    values: Float[Tensor, "batch heads length dim"]
    part_queries: Float[Tensor, "batch heads parts dim"]
    patch_keys: Float[Tensor, "batch heads patches dim"]
    patch_values: Float[Tensor, "batch heads patches dim"]


def unpack_projections(packed: Float[Tensor, "batch length 3 heads dim"], first: int, last: int) -> Projections:
    """Queries, keys and values of all tokens, the queries from `first` to `last`, the keys and values from `last` on."""
    return Projections(*(view.transpose(1, 2) for view in _Unpack.apply(packed, first, last)))


class _Context(FunctionCtx):
    shape: torch.Size
    options: Tensor
    first: int
    last: int


class _Unpack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, packed: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.shape, ctx.options, ctx.first, ctx.last = packed.shape, packed.new_empty(0), first, last
        queries, keys, values = packed.unbind(2)
        return queries, keys, values, queries[:, first:last], keys[:, last:], values[:, last:]

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, *grads: Tensor | None) -> tuple[Tensor, None, None]:
        whole, windows = grads[:3], (slice(ctx.first, ctx.last), slice(ctx.last, None), slice(ctx.last, None))
        packed = ctx.options.new_empty(ctx.shape)
        for index, (grad, part_grad, window) in enumerate(zip(whole, grads[3:], windows, strict=True)):
            target = packed[:, :, index]
            target.zero_() if grad is None else target.copy_(grad)
            if part_grad is not None:
                target[:, window] += part_grad
        return packed, None, None
