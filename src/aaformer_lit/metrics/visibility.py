"""Part-wise distances in which hidden parts do not count (as in BPBreID, Somers et al., WACV 2023).

    d(q, g) = sum_p v_p(q) v_p(g) |q_p - g_p|^2 / sum_p v_p(q) v_p(g)        tokens q_p, g_p scaled to length 1

A part counts as far as both images show it; `v` is its visibility in each, 0 or more. Where nothing is seen in both, the
distance is 4, the largest there is. No command uses it: what a network knows of its parts' visibility has not helped so far
(docs/protocol.md), true visibility has. So this is for a visibility of one's own, from a parser of people, say.

    query, gallery = (FeatureSet(visible_features(tokens, visibility), pids, camids) for ...)
    evaluate_retrieval(query, gallery, rerank=VisibleParts(tokens=6))
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.errors import ConfigError
from aaformer_lit.metrics.distance import full_precision, squared_norms

FARTHEST = 4.0


def visible_features(
    descriptors: Float[Tensor, "images tokens dim"], visibility: Float[Tensor, "images tokens"]
) -> Float[Tensor, "images features"]:
    """Tokens scaled to length 1 and weighted by their visibility, then the visibility itself: what `VisibleParts` compares.

    Raises:
        ConfigError: visibility that does not fit the tokens, or is negative.
    """
    if visibility.shape != descriptors.shape[:2] or (visibility < 0).any():
        raise ConfigError(
            f"visibility is one number of 0 or more for each image and token, {tuple(descriptors.shape[:2])}; got shape "
            f"{tuple(visibility.shape)}, smallest {float(visibility.min()) if visibility.numel() else '-'}."
        )
    weighted = F.normalize(descriptors.float(), dim=-1) * visibility[..., None]
    return torch.cat([weighted.flatten(1), visibility.float()], dim=1)


@dataclass(frozen=True)
class VisibleParts:
    """Distances between `visible_features`, in the place of a re-ranking. `tokens`: of each descriptor."""

    tokens: int

    def prepare(self, query: Float[Tensor, "queries features"], gallery: Float[Tensor, "gallery features"]) -> PartWise:
        """Raises `NumericsError` for a feature that is NaN or infinite."""
        for name, features in (("query", query), ("gallery", gallery)):
            squared_norms(features, torch.float32, name)
        return PartWise(query, gallery, self.tokens)


@dataclass(frozen=True, eq=False)
class PartWise:
    """The distances, by slices of queries."""

    query: Float[Tensor, "queries features"]
    gallery: Float[Tensor, "gallery features"]
    tokens: int

    def __len__(self) -> int:
        return len(self.query)

    @torch.no_grad()
    def rows(self, rows: slice) -> Float[Tensor, "rows gallery"]:
        query, parts = self.query[rows], slice(-self.tokens, None)
        with full_precision(query.device.type):
            seen = query[:, parts] @ self.gallery[:, parts].T
            alike = query[:, : -self.tokens] @ self.gallery[:, : -self.tokens].T
        return torch.where(seen > 0, 2 - 2 * alike / seen, FARTHEST).clamp_(0, FARTHEST)
