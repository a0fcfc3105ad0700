"""The mathematics of auto-alignment: pure functions on tensors."""

from aaformer_lit.ops.attention import attention
from aaformer_lit.ops.auto_alignment import PartAttention, auto_alignment
from aaformer_lit.ops.packed import Projections, unpack_projections
from aaformer_lit.ops.reference import (
    SIMILARITIES,
    Comparison,
    PartWeights,
    Similarity,
    aligned_weights,
    compare,
    dense,
    part_attention,
    scores_of,
    similarity_scores,
    soft_attention_weights,
    subset_softmax,
    weighted,
)
from aaformer_lit.ops.rounding import ROUNDING, Rounding, fill_empty, round_argmax, round_balanced
from aaformer_lit.ops.sinkhorn import check_sinkhorn, log_sinkhorn, sinkhorn

__all__ = [
    "ROUNDING",
    "SIMILARITIES",
    "Comparison",
    "PartAttention",
    "PartWeights",
    "Projections",
    "Rounding",
    "Similarity",
    "aligned_weights",
    "attention",
    "auto_alignment",
    "check_sinkhorn",
    "compare",
    "dense",
    "fill_empty",
    "log_sinkhorn",
    "part_attention",
    "round_argmax",
    "round_balanced",
    "scores_of",
    "similarity_scores",
    "sinkhorn",
    "soft_attention_weights",
    "subset_softmax",
    "unpack_projections",
    "weighted",
]
