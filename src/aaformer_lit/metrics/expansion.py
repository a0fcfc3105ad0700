"""Query expansion: a feature joined by its neighbors (AQE, Chum et al. 2007; alpha-QE, Radenovic et al., TPAMI 2019).

A feature becomes the L2-normalized sum of itself and its k nearest database features, each weighted by its cosine similarity
to the power alpha: alpha = 0 is the plain average (AQE). Applied to the gallery itself it is database-side augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.errors import ConfigError
from aaformer_lit.metrics.distance import Cosine
from aaformer_lit.metrics.neighbors import smallest
from aaformer_lit.structures import FeatureSet
from aaformer_lit.utils.sequences import tiles


@dataclass(frozen=True, slots=True)
class Expansion:
    """Which sets are expanded before they are compared: the gallery by itself, then the queries by that gallery.

    Without looking at labels or cameras, so a query may be joined by images that the Market rule ignores when it ranks.

    Args:
        queries: neighbors that join each query; 0 leaves the queries as they are.
        gallery: neighbors that join each gallery image; 0 leaves the gallery as it is.
        alpha: power of the similarity that weights them; 0 is the plain average.
    """

    queries: int = 0
    gallery: int = 0
    alpha: float = 3.0

    def __post_init__(self) -> None:
        if self.queries < 0 or self.gallery < 0 or self.alpha < 0:
            raise ConfigError(
                f"expand.queries={self.queries}, expand.gallery={self.gallery} and expand.alpha={self.alpha} must be at "
                "least 0. Usual are 5 to 10 neighbors and alpha=3."
            )

    def __call__(self, query: FeatureSet, gallery: FeatureSet) -> tuple[FeatureSet, FeatureSet]:
        """Both sets, expanded as asked for."""
        if self.gallery:
            gallery = replace(gallery, features=expand_features(gallery.features, k=self.gallery, alpha=self.alpha))
        if self.queries:
            features = expand_features(query.features, gallery.features, k=self.queries, alpha=self.alpha)
            query = replace(query, features=features)
        return query, gallery


@torch.no_grad()
def expand_features(
    features: Float[Tensor, "images dim"],
    database: Float[Tensor, "database dim"] | None = None,
    *,
    k: int = 10,
    alpha: float = 3.0,
    chunk_size: int = 256,
) -> Float[Tensor, "images dim"]:
    """Expanded, L2-normalized features.

    Args:
        features: those to expand, for example the queries; normalized first.
        database: where the neighbors come from, for example the gallery; None takes `features` themselves, each without
            itself as a neighbor (database-side augmentation).
        k: neighbors per feature.
        alpha: power of the cosine similarity that weights a neighbor; negative similarities count as 0.
        chunk_size: features expanded at a time.
    """
    pool = features if database is None else database
    available = len(pool) - (database is None)
    if not 1 <= k <= available:
        raise ConfigError(f"expansion by k={k} neighbors needs at least as many database features; got {available}.")
    distances = Cosine(features, pool)
    out = torch.empty_like(features)
    for rows in tiles(len(features), chunk_size):
        block = distances.rows(rows)
        if database is None:
            own = torch.arange(rows.start, rows.stop, device=block.device)
            block[own - rows.start, own] = torch.inf
        near = smallest(block, k)
        weights = (1 - near.distances).clamp(min=0) ** alpha
        unit = F.normalize(pool[near.indices].to(weights.dtype), dim=-1)
        joined = F.normalize(features[rows].to(weights.dtype)) + torch.einsum("rk,rkd->rd", weights, unit)
        out[rows] = F.normalize(joined).to(out.dtype)
    return out
