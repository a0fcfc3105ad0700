"""Verification: are these two images the same person? ROC, TAR at a given FAR and EER over all query-gallery pairs, exactly.

A pair is accepted if its distance is at most a threshold; TAR is the share of accepted genuine pairs (same pid), FAR that of
accepted impostor pairs. Pairs of one pid and one camera are ignored, as in retrieval; images of pid -1 (junk), queries too,
are dropped: nobody knows whom they show.

Nothing is sampled or binned, although there are 54 million impostor pairs at Market-1501 size: only the distances of the few
genuine pairs are kept, and the impostor pairs are counted between them, a slice of queries at a time. The best TAR at a FAR is
reached at a genuine distance; the ROC curve is straight between these and the points just below them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.metrics.distance import SquaredEuclidean, pair_distances
from aaformer_lit.metrics.protocol import MatchIndex, without_junk
from aaformer_lit.structures import FeatureSet
from aaformer_lit.utils.sequences import tiles


@dataclass(frozen=True, slots=True)
class VerificationMetrics:
    """`tar[far]` by the wanted false accept rates; `roc_far`, `roc_tar`, `thresholds` (distances) are the curve.

    `eer` is the error rate where as many genuine pairs are refused as impostor pairs accepted, `auc` the area under the curve.
    """

    tar: Mapping[float, float]
    eer: float
    auc: float
    num_genuine: int
    num_impostor: int
    roc_far: Float[Tensor, " points"]
    roc_tar: Float[Tensor, " points"]
    thresholds: Float[Tensor, " points"]

    def as_dict(self, prefix: str = "test/") -> dict[str, float]:
        rates = {f"{prefix}tar@far={far:g}": tar for far, tar in self.tar.items()}
        return rates | {f"{prefix}eer": self.eer, f"{prefix}auc": self.auc}


@torch.no_grad()
def evaluate_verification(
    query: FeatureSet | Sequence[Any],
    gallery: FeatureSet | Sequence[Any],
    *,
    far: Sequence[float] = (1e-4, 1e-3, 1e-2),
    chunk_size: int = 256,
) -> VerificationMetrics:
    """Verification quality over all pairs of a query and a gallery image, by Euclidean distance.

    Both sets are given as to `evaluate_retrieval`.

    Raises:
        ProtocolError: there is no genuine or no impostor pair.
        ConfigError: a FAR outside [0, 1], or a chunk size below 1.
    """
    if any(not 0 <= rate <= 1 for rate in far):
        raise ConfigError(f"a false accept rate lies in [0, 1]; got {list(far)}.")
    query, gallery = without_junk(FeatureSet.of(query)), without_junk(FeatureSet.of(gallery))
    index = MatchIndex(query, gallery)
    distances = SquaredEuclidean(query.features, gallery.features)
    matches, ignored = index.pairs(slice(None))
    squared = pair_distances(distances.query, distances.gallery, matches.row, matches.col)
    impostors = len(query) * len(gallery) - len(matches) - len(ignored)
    if not len(squared) or not impostors:
        raise ProtocolError(
            f"verification needs pairs of the same pid and of different pids; got {len(squared)} and {impostors}. "
            "Check that query and gallery belong to the same data set."
        )
    # the float below each genuine distance too: impostor pairs nearer than it and as near as it are different points
    edges = torch.cat([squared, torch.nextafter(squared, torch.full_like(squared, -torch.inf))]).unique()
    genuine = torch.bincount(torch.searchsorted(edges, squared), minlength=len(edges))
    impostor = torch.zeros(len(edges) + 1, dtype=torch.int64, device=edges.device)
    for rows in tiles(len(query), chunk_size):
        block = distances.rows(rows)
        for pairs in index.pairs(rows):
            block[pairs.row, pairs.col] = torch.inf
        # bin i holds the distances above edge i - 1 and at most edge i, the last one those above all edges
        impostor += torch.bincount(torch.searchsorted(edges, block, out_int32=True).flatten(), minlength=len(impostor))
    tar = genuine.cumsum(0).double().cpu() / len(squared)
    accepted = impostor[:-1].cumsum(0).double().cpu() / impostors
    # in float64, where neighboring floats have roots that differ; the one just below 0 accepts nothing
    edges = edges.double().cpu()
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    roc_far, roc_tar = torch.cat([zero, accepted, one]), torch.cat([zero, tar, one])
    return VerificationMetrics(
        tar={rate: roc_tar[roc_far <= rate].max().item() for rate in far},
        eer=equal_error_rate(roc_far, roc_tar),
        auc=torch.trapezoid(roc_tar, roc_far).item(),
        num_genuine=len(squared),
        num_impostor=impostors,
        roc_far=roc_far,
        roc_tar=roc_tar,
        thresholds=torch.cat([zero, edges.abs().sqrt() * edges.sign(), one * torch.inf]),
    )


def equal_error_rate(far: Float[Tensor, " points"], tar: Float[Tensor, " points"]) -> float:
    """Where the ROC curve, straight between its points from (0, 0) to (1, 1), meets FAR = 1 - TAR."""
    excess = far + tar - 1  # ascends from -1 to 1
    after = int((excess >= 0).nonzero()[0])
    step = excess[after] - excess[after - 1]
    share = -excess[after - 1] / step
    return (far[after - 1] + share * (far[after] - far[after - 1])).item()
