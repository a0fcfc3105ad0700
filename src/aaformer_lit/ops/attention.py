"""torch's attention in the dtype in which it is fast."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def attention(
    queries: Float[Tensor, "batch heads length dim"],
    keys: Float[Tensor, "batch heads others dim"],
    values: Float[Tensor, "batch heads others dim"],
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads length dim"]:
    """`scaled_dot_product_attention`, on a CPU in float32 or better; the result has the values' dtype.

    There half precision gains nothing in the forward pass, and its gradient takes two to eight times as long.
    """
    if queries.device.type != "cpu":
        return F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
    dtype = torch.promote_types(queries.dtype, torch.float32)
    with torch.autocast("cpu", enabled=False):
        output = F.scaled_dot_product_attention(queries.to(dtype), keys.to(dtype), values.to(dtype), dropout_p=dropout)
    return output.to(values.dtype)
