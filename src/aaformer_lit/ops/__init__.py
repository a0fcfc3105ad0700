"""The mathematics of auto-alignment: pure functions on tensors."""

from aaformer_lit.ops.attention import attention
from aaformer_lit.ops.auto_alignment import PartAttention, auto_alignment
from aaformer_lit.ops.packed import Projections, unpack_projections
from aaformer_lit.ops.reference import (
    SIMILARITIES,
    Comparison,
    Similarity,
    compare,
    part_attention,
    part_attention_weights,
    similarity_scores,
    soft_attention_weights,
)
from aaformer_lit.ops.rounding import ROUNDING, Rounding, fill_empty, round_argmax, round_balanced
from aaformer_lit.ops.sinkhorn import check_sinkhorn, log_sinkhorn, sinkhorn

__all__ = [
    "ROUNDING",
    "SIMILARITIES",
    "Comparison",
    "PartAttention",
    "Projections",
    "Rounding",
    "Similarity",
    "attention",
    "auto_alignment",
    "check_sinkhorn",
    "compare",
    "fill_empty",
    "log_sinkhorn",
    "part_attention",
    "part_attention_weights",
    "round_argmax",
    "round_balanced",
    "similarity_scores",
    "sinkhorn",
    "soft_attention_weights",
    "unpack_projections",
]
