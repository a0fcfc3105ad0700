"""The MAA layer's arithmetic in plain torch (AAformer, Eq. 2): the CPU path and the kernels' reference.

What the transport compares is computed in float32 whatever the autocast dtype, because half precision would regroup patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.errors import check_choice
from aaformer_lit.ops.rounding import ROUNDING, Rounding, round_argmax
from aaformer_lit.ops.sinkhorn import log_sinkhorn

Similarity = Literal["cosine", "dot", "scaled"]
SIMILARITIES: tuple[str, ...] = get_args(Similarity)


class Comparison(NamedTuple):
    """Parts and patches in float32 or better: q.k / sqrt(d), and what the transport compares."""

    logits: Float[Tensor, "*batch parts patches"]
    scores: Float[Tensor, "*batch parts patches"]


class PartWeights(NamedTuple):
    """How much each part looks at each patch, and who belonged to whom (None where it was not asked for)."""

    weights: Float[Tensor, "*batch parts patches"]
    membership: Bool[Tensor, "*batch parts patches"] | Float[Tensor, "*batch parts patches"] | None


def part_products(
    queries: Float[Tensor, "*batch parts dim"], keys: Float[Tensor, "*batch patches dim"]
) -> Float[Tensor, "*batch parts patches"]:
    """q.k of each part and patch, in float32 or better."""
    with torch.autocast(queries.device.type, enabled=False):
        return dense(queries) @ dense(keys).transpose(-2, -1)


def compare(
    queries: Float[Tensor, "*batch parts dim"],
    keys: Float[Tensor, "*batch patches dim"],
    similarity: Similarity = "cosine",
) -> Comparison:
    """Logits, and scores: `cosine`, `dot` (Eq. 3 as printed) or `scaled` (dot over sqrt(d))."""
    check_choice("similarity", similarity, SIMILARITIES)
    queries, keys = dense(queries), dense(keys)
    products = part_products(queries, keys)
    logits = products / math.sqrt(queries.shape[-1])
    return Comparison(logits, scores_of(products, queries, keys, similarity))


def scores_of(
    products: Float[Tensor, "*batch parts patches"],
    queries: Float[Tensor, "*batch parts dim"],
    keys: Float[Tensor, "*batch patches dim"],
    similarity: Similarity,
) -> Float[Tensor, "*batch parts patches"]:
    """What the transport compares of queries and keys whose products are known."""
    if similarity == "dot":
        return products
    if similarity == "scaled":
        return products / math.sqrt(queries.shape[-1])
    # normalizing the few scores is cheaper than normalizing every key
    return products / (_lengths(queries)[..., None] * _lengths(keys)[..., None, :])


def _lengths(vectors: Float[Tensor, "*batch rows dim"]) -> Float[Tensor, "*batch rows"]:
    # the gradient of torch's norm takes three passes over the vectors more than that of the squares
    return vectors.square().sum(dim=-1).clamp_min(1e-12).sqrt()


def similarity_scores(
    queries: Float[Tensor, "*batch parts dim"],
    keys: Float[Tensor, "*batch patches dim"],
    similarity: Similarity = "cosine",
) -> Float[Tensor, "*batch parts patches"]:
    """The scores of `compare`."""
    return compare(queries, keys, similarity).scores


def dense(tensor: Float[Tensor, "*batch rows dim"]) -> Float[Tensor, "*batch rows dim"]:
    """In float32 or better, no head apart in memory: one copy beats a product over strided heads (threefold on a CPU)."""
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return tensor.to(dtype, memory_format=torch.contiguous_format).contiguous()


def subset_softmax(
    logits: Float[Tensor, "*batch parts patches"],
    membership: Bool[Tensor, "*batch parts patches"] | Float[Tensor, "*batch parts patches"],
) -> Float[Tensor, "*batch parts patches"]:
    """Softmax over each part's own subset; an empty subset gets weights of zero.

    Weights instead of booleans multiply the exponentials, so that a straight-through assigner's gradient gets in.
    """
    members = membership if membership.dtype == torch.bool else membership > 0
    # not -inf: an empty subset would be softmax over that alone, which is NaN in value and in gradient
    of_members = logits.masked_fill(~members, torch.finfo(logits.dtype).min)
    occupied = members.any(dim=-1, keepdim=True)
    if membership.dtype == torch.bool:
        return F.softmax(of_members, dim=-1) * occupied
    # the others keep their exponential, of which their weight of zero has its gradient; bounded, as they may be far larger
    weights = (logits - of_members.detach().amax(dim=-1, keepdim=True)).clamp_max(0).exp() * membership
    # not divided by a tiny number where a subset is empty: the square of that is in the gradient, and overflows
    return weights / torch.where(occupied, weights.sum(dim=-1, keepdim=True), 1.0)


def part_attention(
    queries: Float[Tensor, "*batch parts dim"],
    keys: Float[Tensor, "*batch patches dim"],
    values: Float[Tensor, "*batch patches dim"],
    membership: Bool[Tensor, "*batch parts patches"] | Float[Tensor, "*batch parts patches"],
) -> Float[Tensor, "*batch parts dim"]:
    """Eq. 2: each part attends to the patches of its own subset; zeros for an empty one."""
    logits = part_products(queries, keys) / math.sqrt(queries.shape[-1])
    return weighted(subset_softmax(logits, membership), values)


def weighted(
    weights: Float[Tensor, "*batch parts patches"], values: Float[Tensor, "*batch patches dim"]
) -> Float[Tensor, "*batch parts dim"]:
    """The values of the patches, weighted for each part; in their dtype."""
    return weights.to(values.dtype) @ values.contiguous()  # as in `dense`


def aligned_weights(
    compared: Comparison,
    *,
    parts: Sequence[int],
    epsilon: float,
    iterations: int,
    rounding: Rounding,
    cost: Float[Tensor, "*batch parts patches"] | None = None,
    return_membership: bool = False,
) -> PartWeights:
    """Who looks where by optimal transport (Eq. 3-5): within the subsets that its plan is rounded to, or by the plan itself.

    Args:
        compared: queries and keys.
        parts: granularities, each its own transport problem.
        rounding: as in `auto_alignment`.
        cost: what the scores lose in the transport, besides the similarity; the attention itself keeps q.k.
    """
    if rounding == "soft":
        weights, log_plan = soft_attention_weights(
            compared, parts=parts, epsilon=epsilon, iterations=iterations, cost=cost
        )
        groups = log_plan.detach().split(list(parts), dim=-2) if return_membership else ()
        return PartWeights(weights, torch.cat([round_argmax(group) for group in groups], dim=-2) if groups else None)
    with torch.no_grad():
        plans = log_plans(compared.scores, parts, epsilon, iterations, cost)
        membership = torch.cat([ROUNDING[rounding](plan) for plan in plans], dim=-2)
    return PartWeights(subset_softmax(compared.logits, membership), membership if return_membership else None)


def soft_attention_weights(
    compared: Comparison,
    *,
    parts: Sequence[int],
    epsilon: float,
    iterations: int,
    cost: Float[Tensor, "*batch parts patches"] | None = None,
) -> tuple[Float[Tensor, "*batch parts patches"], Float[Tensor, "*batch parts patches"]]:
    """Who looks where where the plan Y* of Eq. 5 is a prior: softmax over all patches of q.k / sqrt(d) + log Y*.

    Continuous in queries and keys, unlike Eq. 2 within subsets, and differentiable through the Sinkhorn iterations. Where
    Y* is uniform this is plain attention over the patches. Arguments as in `aligned_weights`.

    Returns:
        The weights, and log Y* of each granularity one below the other.
    """
    log_plan = torch.cat(log_plans(compared.scores, parts, epsilon, iterations, cost), dim=-2)
    return F.softmax(compared.logits + log_plan, dim=-1), log_plan


def log_plans(
    scores: Float[Tensor, "*batch parts patches"],
    parts: Sequence[int],
    epsilon: float,
    iterations: int,
    cost: Float[Tensor, "*batch parts patches"] | None = None,
) -> list[Float[Tensor, "*batch parts patches"]]:
    """Log Y* of each granularity, a transport problem of its own, of scores that lose `cost`."""
    groups = (scores if cost is None else scores - cost).split(list(parts), dim=-2)
    shares = log_shares(cost, parts, epsilon)
    return [log_sinkhorn(group, epsilon, iterations, share) for group, share in zip(groups, shares, strict=True)]


def log_shares(
    cost: Float[Tensor, "*batch parts patches"] | None, parts: Sequence[int], epsilon: float
) -> list[Float[Tensor, "*batch parts 1"]] | list[None]:
    """Log of what each part of each granularity is to receive, None for equal shares (Eq. 4).

    Where each image has a cost of its own, a part receives what the cost alone would give it, so that one of which an image
    shows little takes little.
    """
    if cost is None or cost.ndim == 2:
        return [None] * len(parts)
    patches = math.log(cost.shape[-1])
    groups = ((-group / epsilon).log_softmax(dim=-2) for group in cost.split(list(parts), dim=-2))
    return [group.logsumexp(dim=-1, keepdim=True) - patches for group in groups]
