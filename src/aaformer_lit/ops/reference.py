"""The MAA layer's arithmetic in plain torch (AAformer, Eq. 2): the CPU path and the kernels' yardstick."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.errors import ConfigError

SIMILARITIES = ("cosine", "dot", "scaled")


def similarity_scores(
    queries: Float[Tensor, "*batch parts dim"], keys: Float[Tensor, "*batch patches dim"], similarity: str = "cosine"
) -> Float[Tensor, "*batch parts patches"]:
    """What the transport compares: `cosine`, `dot` (Eq. 3 as printed) or `scaled` (dot over sqrt(d)); in float32."""
    if similarity not in SIMILARITIES:
        raise ConfigError(f"similarity must be one of {', '.join(SIMILARITIES)}; got {similarity!r}.")
    with torch.autocast(queries.device.type, enabled=False):
        if queries.dtype != torch.float64:
            queries, keys = queries.float(), keys.float()
        if similarity == "cosine":
            # normalising the few scores is cheaper than normalising every key
            norms = queries.norm(dim=-1)[..., None] * keys.norm(dim=-1)[..., None, :]
            return queries @ keys.transpose(-2, -1) / norms.clamp_min(1e-12)
        scores = queries @ keys.transpose(-2, -1)
        return scores * queries.shape[-1] ** -0.5 if similarity == "scaled" else scores


def part_attention_weights(
    queries: Float[Tensor, "*batch parts dim"],
    keys: Float[Tensor, "*batch patches dim"],
    membership: Bool[Tensor, "*batch parts patches"] | Float[Tensor, "*batch parts patches"],
    scale: float | None = None,
) -> Float[Tensor, "*batch parts patches"]:
    """Softmax over each part's own subset; an empty subset gets weights of zero.

    Weights instead of booleans multiply the exponentials, so that a straight-through assigner's gradient gets in.
    """
    logits = (queries @ keys.transpose(-2, -1)) * (queries.shape[-1] ** -0.5 if scale is None else scale)
    members = membership if membership.dtype == torch.bool else membership > 0
    logits = logits.masked_fill(~members, -torch.inf)
    # an empty subset would be softmax over -inf alone, which is NaN in value and in gradient
    logits = logits.masked_fill(~members.any(dim=-1, keepdim=True), 0.0)
    if membership.dtype == torch.bool:
        return F.softmax(logits, dim=-1) * members.any(dim=-1, keepdim=True)
    weights = (logits - logits.detach().amax(dim=-1, keepdim=True)).exp() * membership
    return weights / weights.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)


def part_attention(
    queries: Float[Tensor, "*batch parts dim"],
    keys: Float[Tensor, "*batch patches dim"],
    values: Float[Tensor, "*batch patches dim"],
    membership: Bool[Tensor, "*batch parts patches"] | Float[Tensor, "*batch parts patches"],
    scale: float | None = None,
) -> Float[Tensor, "*batch parts dim"]:
    """Eq. 2: each part attends to the patches of its own subset. `scale` defaults to 1/sqrt(d)."""
    return part_attention_weights(queries, keys, membership, scale).to(values.dtype) @ values
