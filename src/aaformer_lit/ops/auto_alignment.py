"""Auto-Alignment (AAformer, Sec. III-B): group an image's patches by optimal transport, then attend within the groups.

The front door of the MAA layer's kernel: one call from part queries and patch keys and values to part outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aaformer_lit.ops.reference import part_attention, similarity_scores
from aaformer_lit.ops.rounding import ROUNDING
from aaformer_lit.ops.sinkhorn import log_sinkhorn


class PartAttention(NamedTuple):
    """Output of the part tokens, and who belonged to whom (None where it was not asked for and never materialised)."""

    output: Float[Tensor, "batch heads parts dim"]
    membership: Bool[Tensor, "batch heads parts patches"] | Float[Tensor, "batch heads parts patches"] | None


def transport_membership(
    scores: Float[Tensor, "batch heads parts patches"], epsilon: float, iterations: int, rounding: str
) -> Bool[Tensor, "batch heads parts patches"]:
    """One granularity: scores -> Sinkhorn plan -> disjoint subsets."""
    return ROUNDING[rounding](log_sinkhorn(scores, epsilon, iterations))


def auto_alignment(
    queries: Float[Tensor, "batch heads parts dim"],
    keys: Float[Tensor, "batch heads patches dim"],
    values: Float[Tensor, "batch heads patches dim"],
    *,
    parts: Sequence[int],
    epsilon: float = 0.05,
    iterations: int = 3,
    rounding: str = "argmax",
    similarity: str = "cosine",
    return_membership: bool = False,
) -> PartAttention:
    """Eq. 2-5 for every image, head and granularity; the grouping is computed without gradient.

    Args:
        parts: granularities; `sum(parts)` part queries in this order, each granularity its own transport problem.
        return_membership: also return the subsets, for pictures and metrics.
    """
    with torch.no_grad():
        scores = similarity_scores(queries, keys, similarity)
        groups = [transport_membership(s, epsilon, iterations, rounding) for s in scores.split(list(parts), dim=-2)]
        membership = torch.cat(groups, dim=-2)
    return PartAttention(part_attention(queries, keys, values, membership), membership if return_membership else None)
