"""The MAA layer (AAformer, Sec. III-B): self-attention for CLS and patches, auto-alignment for the part tokens.

Built from a timm attention, whose projections it keeps: a pre-trained ViT's weights fit as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from timm.models.vision_transformer import Attention
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.assign import Assigner
from aaformer_lit.errors import check_choice
from aaformer_lit.models.plain_attention import PlainAttention
from aaformer_lit.ops import (
    SIMILARITIES,
    Comparison,
    Projections,
    Similarity,
    attention,
    compare,
    dense,
    scores_of,
    unpack_projections,
)

Visibility = Literal["mutual", "isolated"]


class Attended(NamedTuple):
    """The output sequence; membership and scores (B, h, P, N), where they were asked for."""

    sequence: Float[Tensor, "batch length dim"]
    membership: Tensor | None = None
    scores: Float[Tensor, "batch heads parts patches"] | None = None


class AutoAlignedAttention(PlainAttention):
    """Multi-head attention over [prefix tokens, parts, patches].

    Args:
        taken: the attention module to take over.
        parts: granularities.
        assigner: who belongs to which part.
        similarity: what the assigner compares, `cosine`, `dot` or `scaled`.
        visibility: `mutual`, prefix and patches attend to the whole sequence, part tokens included; `isolated`, to
            prefix and patches only, so that their path is exactly the plain ViT's.
        prefix: number of tokens before the parts (CLS and registers).
    """

    def __init__(
        self,
        taken: Attention | PlainAttention,
        parts: Sequence[int],
        assigner: Assigner,
        similarity: Similarity = "cosine",
        visibility: Visibility = "mutual",
        prefix: int = 1,
    ) -> None:
        super().__init__(taken)
        check_choice("similarity", similarity, SIMILARITIES)
        check_choice("visibility", visibility, get_args(Visibility))
        self.parts, self.similarity, self.visibility, self.prefix = list(parts), similarity, visibility, prefix
        self.assigner = assigner

    def forward(  # type: ignore[override]
        self,
        sequence: Float[Tensor, "batch length dim"],
        grid: tuple[int, int],
        part_mask: Tensor | None = None,
        heights: Tensor | None = None,
        return_membership: bool = False,
        return_scores: bool = False,
    ) -> Attended:
        """The layer's output, and what it is asked for beside it."""
        how = {
            "parts": self.parts,
            "grid": grid,
            "part_mask": part_mask,
            "heights": heights,
            "return_membership": return_membership,
        }
        short = sequence.shape[1] <= self.head_dim and sequence.device.type == "cpu"
        if short and self.training and not self.assigner.whole_sequence:
            heads = self._together(sequence, how)
        else:
            heads = self._apart(sequence, how, return_scores)
        return Attended(
            self.project_out(heads.sequence, sequence),
            heads.membership if return_membership else None,
            heads.scores if return_scores else None,
        )

    def _apart(self, sequence: Tensor, how: dict[str, Any], return_scores: bool) -> Attended:
        """The parts' attention by itself, as one fused kernel where there is one."""
        q, k, v, part_q, patch_k, patch_v = self.project(sequence)
        first, last = self.prefix, self.prefix + sum(self.parts)
        compared = compare(part_q, patch_k, self.similarity) if return_scores else None
        if self.assigner.whole_sequence:
            part_output = attention(part_q, k, v)
            membership: Tensor | None = patch_k.new_ones(*part_q.shape[:3], patch_k.shape[2], dtype=torch.bool)
        else:
            part_output, membership = self.assigner.attend(
                part_q, patch_k, patch_v, similarity=self.similarity, compared=compared, **how
            )
        if self.visibility == "isolated":
            k, v = (torch.cat([t[:, :, :first], t[:, :, last:]], dim=2) for t in (k, v))
        # the parts' queries ride along and are overwritten: 5 of 134 rows cost less than gathering the others
        output = attention(q, k, v, dropout=self.dropout)
        # transposed first, as attention leaves its result in memory: only the scatter copies
        output = torch.slice_scatter(output.transpose(1, 2), part_output.transpose(1, 2), 1, first, last)
        return Attended(output, membership, None if compared is None else compared.scores)

    def _together(self, sequence: Tensor, how: dict[str, Any]) -> Attended:
        """The same, the parts' products being rows of those of all queries and keys.

        On a CPU, where a small operation costs as much as a large one, a training step is faster so while all pairs are no
        more numbers than the queries.
        """
        projected = self.split(sequence)
        q, k, v = (dense(t) for t in projected)
        first, last = self.prefix, self.prefix + sum(self.parts)
        hidden = q.new_zeros(sequence.shape[1])
        if self.visibility == "isolated":
            hidden[first:last] = -torch.inf
        with torch.autocast("cpu", enabled=False):
            root = math.sqrt(self.head_dim)
            logits = torch.baddbmm(hidden, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=1 / root)
            logits = logits.unflatten(0, q.shape[:2])
            part_logits = logits[:, :, first:last, last:]
            scores = scores_of(part_logits * root, q[:, :, first:last], k[:, :, last:], self.similarity)
            part_weights, membership = self.assigner.weights(Comparison(part_logits, scores), **how)
            weights = F.dropout(logits.softmax(dim=-1), self.dropout)
            weights = torch.slice_scatter(weights, F.pad(part_weights, (last, 0)), 2, first, last)
            output = weights @ v
        return Attended(output.transpose(1, 2).to(projected[-1].dtype), membership, scores)

    @torch.no_grad()
    def part_weights(
        self,
        sequence: Float[Tensor, "batch length dim"],
        grid: tuple[int, int],
        part_mask: Tensor | None = None,
        heights: Tensor | None = None,
    ) -> tuple[Float[Tensor, "batch heads parts patches"], Bool[Tensor, "batch heads parts patches"]]:
        """Attention of the part tokens over the patches, and their subsets: what Figure 5 shows."""
        q, k = self.project(sequence)[3:5]
        weights, membership = self.assigner.weights(
            compare(q, k, self.similarity),
            parts=self.parts,
            grid=grid,
            part_mask=part_mask,
            heights=heights,
            return_membership=True,
        )
        assert membership is not None
        return weights, membership > 0

    def project(self, sequence: Float[Tensor, "batch length dim"]) -> Projections:
        """Queries, keys and values of the whole sequence, and those that the parts' grouping compares."""
        packed = self.packed(sequence)
        q, k, v, part_q, patch_k, patch_v = unpack_projections(packed, self.prefix, self.prefix + sum(self.parts))
        return Projections(self.q_norm(q), self.k_norm(k), v, self.q_norm(part_q), self.k_norm(patch_k), patch_v)
