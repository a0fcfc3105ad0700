"""The MAA layer's arithmetic in plain torch (AAformer, Eq. 2): the CPU path and the kernels' reference.

What the transport compares is computed in float32 whatever the autocast dtype, because half precision would regroup patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.errors import check_choice
from aaformer_lit.ops.sinkhorn import log_sinkhorn

Similarity = Literal["cosine", "dot", "scaled"]
SIMILARITIES: tuple[str, ...] = get_args(Similarity)


def part_products(
    queries: Float[Tensor, "*batch parts dim"], keys: Float[Tensor, "*batch patches dim"]
) -> Float[Tensor, "*batch parts patches"]:
    """q.k of each part and patch, in float32 or better."""
    with torch.autocast(queries.device.type, enabled=False):
        if queries.dtype != torch.float64:
            queries, keys = queries.float(), keys.float()
        # one copy of strided keys beats a matrix product over heads that lie apart in memory (threefold on a CPU)
        return queries @ keys.contiguous().transpose(-2, -1)


def similarity_scores(
    queries: Float[Tensor, "*batch parts dim"],
    keys: Float[Tensor, "*batch patches dim"],
    similarity: Similarity = "cosine",
) -> Float[Tensor, "*batch parts patches"]:
    """What the transport compares: `cosine`, `dot` (Eq. 3 as printed) or `scaled` (dot over sqrt(d)); in float32."""
    check_choice("similarity", similarity, SIMILARITIES)
    return _scores(part_products(queries, keys), queries, keys, similarity)


def _scores(
    products: Float[Tensor, "*batch parts patches"], queries: Tensor, keys: Tensor, similarity: Similarity
) -> Float[Tensor, "*batch parts patches"]:
    if similarity == "dot":
        return products
    if similarity == "scaled":
        return products / math.sqrt(queries.shape[-1])
    # normalizing the few scores is cheaper than normalizing every key
    q_length: Tensor = torch.linalg.vector_norm(queries, dim=-1, dtype=products.dtype)
    k_length: Tensor = torch.linalg.vector_norm(keys, dim=-1, dtype=products.dtype)
    return products / (q_length[..., None] * k_length[..., None, :]).clamp_min(1e-12)


def subset_softmax(
    logits: Float[Tensor, "*batch parts patches"],
    membership: Bool[Tensor, "*batch parts patches"] | Float[Tensor, "*batch parts patches"],
) -> Float[Tensor, "*batch parts patches"]:
    """Softmax over each part's own subset; an empty subset gets weights of zero.

    Weights instead of booleans multiply the exponentials, so that a straight-through assigner's gradient gets in.
    """
    members = membership if membership.dtype == torch.bool else membership > 0
    logits = logits.masked_fill(~members, -torch.inf)
    # an empty subset would be softmax over -inf alone, which is NaN in value and in gradient
    occupied = members.any(dim=-1, keepdim=True)
    logits = logits.masked_fill(~occupied, 0.0)
    if membership.dtype == torch.bool:
        return F.softmax(logits, dim=-1) * occupied
    weights = (logits - logits.detach().amax(dim=-1, keepdim=True)).exp() * membership
    # not divided by a tiny number where a subset is empty: the square of that is in the gradient, and overflows
    return weights / torch.where(occupied, weights.sum(dim=-1, keepdim=True), 1.0)


def part_attention_weights(
    queries: Float[Tensor, "*batch parts dim"],
    keys: Float[Tensor, "*batch patches dim"],
    membership: Bool[Tensor, "*batch parts patches"] | Float[Tensor, "*batch parts patches"],
    scale: float | None = None,
) -> Float[Tensor, "*batch parts patches"]:
    """Who looks where and how much, within the subsets. `scale` defaults to 1/sqrt(d)."""
    return subset_softmax(
        part_products(queries, keys) * (queries.shape[-1] ** -0.5 if scale is None else scale), membership
    )


def part_attention(
    queries: Float[Tensor, "*batch parts dim"],
    keys: Float[Tensor, "*batch patches dim"],
    values: Float[Tensor, "*batch patches dim"],
    membership: Bool[Tensor, "*batch parts patches"] | Float[Tensor, "*batch parts patches"],
    scale: float | None = None,
) -> Float[Tensor, "*batch parts dim"]:
    """Eq. 2: each part attends to the patches of its own subset; zeros for an empty one. `scale` defaults to 1/sqrt(d)."""
    if membership.dtype != torch.bool:
        return part_attention_weights(queries, keys, membership, scale).to(values.dtype) @ values
    # torch's own attention has half the gradient's cost of two products and a softmax (on a CPU; the forwards are equal)
    occupied = membership.any(dim=-1, keepdim=True)
    return F.scaled_dot_product_attention(queries, keys, values, membership | ~occupied, scale=scale) * occupied


def soft_attention_weights(
    queries: Float[Tensor, "*batch parts dim"],
    keys: Float[Tensor, "*batch patches dim"],
    *,
    parts: Sequence[int],
    epsilon: float,
    iterations: int,
    similarity: Similarity,
    cost: Float[Tensor, "parts patches"] | None = None,
) -> tuple[Float[Tensor, "*batch parts patches"], Float[Tensor, "*batch parts patches"]]:
    """Who looks where where the plan Y* of Eq. 5 is a prior: softmax over all patches of q.k / sqrt(d) + log Y*.

    Continuous in queries and keys, unlike Eq. 2 within subsets, and differentiable through the Sinkhorn iterations. Where
    Y* is uniform this is plain attention over the patches. In float32 or better.

    Args:
        parts: granularities, each its own transport problem.
        cost: what the scores lose in the transport, besides the similarity; the attention itself keeps q.k.

    Returns:
        The weights, and log Y* of each granularity one below the other.
    """
    products = part_products(queries, keys)
    # one product serves both: what the transport compares, and the attention itself
    scores = _scores(products, queries, keys, similarity)
    if cost is not None:
        scores = scores - cost
    plans = [log_sinkhorn(group, epsilon, iterations) for group in scores.split(list(parts), dim=-2)]
    log_plan = torch.cat(plans, dim=-2)
    return F.softmax(products / math.sqrt(queries.shape[-1]) + log_plan, dim=-1), log_plan
