"""Auto-Alignment (AAformer, Sec. III-B): group an image's patches by optimal transport, then attend within the groups.

The entry point of the MAA layer's arithmetic: one call from part queries and patch keys and values to part outputs. On a
CUDA device it runs as one fused kernel (`triton_kernel`) where that has earned its place (`trust`), elsewhere, and with
`balanced` subsets, as plain torch (`reference`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from aaformer_lit.errors import ConfigError, check_choice
from aaformer_lit.ops.reference import (
    SIMILARITIES,
    Comparison,
    Similarity,
    aligned_weights,
    compare,
    weighted,
)
from aaformer_lit.ops.rounding import ROUNDING, Rounding
from aaformer_lit.ops.sinkhorn import check_sinkhorn
from aaformer_lit.ops.trust import earned

HAS_TRITON = find_spec("triton") is not None


class PartAttention(NamedTuple):
    """Output of the part tokens, and who belonged to whom (None where it was not asked for and never materialized)."""

    output: Float[Tensor, "batch heads parts dim"]
    membership: Bool[Tensor, "batch heads parts patches"] | Float[Tensor, "batch heads parts patches"] | None


def prefers_kernel(queries: Tensor) -> bool:
    """Whether tensors like this one belong to the fused kernel, shapes and dtypes permitting."""
    return HAS_TRITON and queries.is_cuda


def auto_alignment(
    queries: Float[Tensor, "batch heads parts dim"],
    keys: Float[Tensor, "batch heads patches dim"],
    values: Float[Tensor, "batch heads patches dim"],
    *,
    parts: Sequence[int],
    epsilon: float = 0.05,
    iterations: int = 3,
    rounding: Rounding = "argmax",
    similarity: Similarity = "cosine",
    cost: Float[Tensor, "*batch parts patches"] | None = None,
    compared: Comparison | None = None,
    return_membership: bool = False,
) -> PartAttention:
    """Eq. 2-5 for every image, head and granularity; the grouping is computed without gradient unless it is `soft`.

    Args:
        parts: granularities; `sum(parts)` part queries in this order, each granularity its own transport problem.
        rounding: `argmax` and `balanced` make disjoint subsets of the plan; `soft` takes the plan itself as a prior of
            the attention, and its gradient too.
        cost: what the scores lose in the transport, besides the similarity; of each image and head its own (four axes, of
            which the first two may be 1), each part then receives what the cost alone would give it (`log_shares`).
        compared: queries and keys by `similarity`, where that is known; plain torch need not compare them again.
        return_membership: also return the subsets, for pictures and metrics.

    Raises:
        ConfigError: an unknown rounding or similarity, an epsilon or number of iterations that cannot work, or part
            queries that are not as many as `parts` asks for.
    """
    check_choice("similarity", similarity, SIMILARITIES)
    check_sinkhorn(epsilon, iterations)
    check_choice("rounding", rounding, ROUNDING)
    if sum(parts) != queries.shape[-2]:
        raise ConfigError(f"parts={list(parts)} needs {sum(parts)} part queries; got {queries.shape[-2]}.")
    transport: dict[str, Any] = {
        "parts": parts,
        "epsilon": epsilon,
        "iterations": iterations,
        "rounding": rounding,
        "cost": cost,
    }
    if prefers_kernel(queries):
        # here, because importing Triton takes time and not every machine has it
        from aaformer_lit.ops.fused import fused_auto_alignment, supports, unpack_membership

        if supports(queries, keys, values, rounding, cost) and earned(
            queries, keys, values, similarity=similarity, **transport
        ):
            output, words = fused_auto_alignment(queries, keys, values, similarity=similarity, **transport)
            return PartAttention(output, unpack_membership(words, sum(parts)) if return_membership else None)

    compared = compare(queries, keys, similarity) if compared is None else compared
    weights, membership = aligned_weights(compared, return_membership=return_membership, **transport)
    return PartAttention(weighted(weights, values), membership)
