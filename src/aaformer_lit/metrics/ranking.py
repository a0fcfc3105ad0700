"""CMC, mAP and mINP (Market-1501 protocol), exact to the last tie, without the distance matrix and without ranking it.

All three measures are functions of the ranks of the matches. A match's rank is one more than the number of gallery images
that are nearer, or equally near and earlier in the gallery; so a slice of distances is counted, not argsorted, and dropped.

From `hits`, the ascending ranks r_1 < ... < r_m of one query's m matches (1 = nearest; the ignored images do not count):

* AP, step form: mean of k / r_k. `mAP` everywhere in the literature since fast-reid.
* AP, trapezoid form of the official Market toolbox: mean of ((k-1) / (r_k - 1) + k / r_k) / 2. It is 0.5-2.7 points lower.
* INP: m / r_m, what the hardest match costs. (Ye et al., TPAMI 2021)
* CMC at rank k: r_1 <= k.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.metrics.distance import RowDistances, SquaredEuclidean
from aaformer_lit.metrics.protocol import MatchIndex, Pairs, without_junk
from aaformer_lit.structures import FeatureSet, PerQuery, RetrievalMetrics
from aaformer_lit.utils.sequences import tiles


class Reranker(Protocol):
    """Replaces the distances by better ones that look at both whole sets; `rerank.KReciprocal` is one."""

    def prepare(self, query: Float[Tensor, "queries dim"], gallery: Float[Tensor, "gallery dim"]) -> RowDistances: ...


@torch.no_grad()
def evaluate_retrieval(
    query: FeatureSet | Sequence[Any],
    gallery: FeatureSet | Sequence[Any],
    *,
    ranks: Sequence[int] = (1, 5, 10),
    rerank: Reranker | None = None,
    chunk_size: int = 256,
) -> RetrievalMetrics:
    """CMC, mAP (both forms) and mINP by Euclidean distance, on the device of the gallery's features.

    Queries without a match in the gallery are skipped: `num_valid_queries` is the number of the others.

    Args:
        query: a `FeatureSet`, `(features, pids)` or `(features, pids, camids)`. Features are compared as they are: normalize
            them first where cosine similarity is meant.
        gallery: likewise; pid -1 is dropped.
        ranks: the k of Rank-k.
        rerank: for example `KReciprocal()`; None ranks by plain distance.
        chunk_size: queries compared at a time; memory grows with chunk_size x gallery.

    Raises:
        ProtocolError: no query has a match in the gallery.
        ConfigError: features of different dimensions, or a rank or chunk size below 1.
        NumericsError: a feature is NaN or infinite.
    """
    if not ranks or min(ranks) < 1:
        raise ConfigError(f"ranks must be 1 or more; got ranks={tuple(ranks)}.")
    query, gallery = FeatureSet.of(query), without_junk(FeatureSet.of(gallery))
    index = MatchIndex(query, gallery)
    compare = rerank.prepare if rerank else SquaredEuclidean
    distances = compare(query.features, gallery.features)
    slices = [_rank_slice(distances, index, rows) for rows in tiles(len(query), chunk_size)]
    return summarize(slices, ranks)


def _rank_slice(distances: RowDistances, index: MatchIndex, rows: slice) -> Int[Tensor, "rows hits"]:
    matches, ignored = index.pairs(rows)
    block = distances.rows(rows)
    block[ignored.row, ignored.col] = torch.inf
    return hit_ranks(block, matches).cpu()


def summarize(hits: Sequence[Int[Tensor, "rows hits"]], ranks: Sequence[int]) -> RetrievalMetrics:
    """Means over the queries that have a match, from the hit ranks of consecutive slices of queries."""
    valid = torch.cat([(h > 0).any(dim=1) for h in hits] or [torch.zeros(0, dtype=torch.bool)])
    if not valid.any():
        raise ProtocolError(
            f"none of the {len(valid)} queries has a match in the gallery (same pid seen by another camera). Check that "
            "query and gallery belong to the same data set; where the cameras are unknown, give camid -1."
        )
    per_slice = [(average_precision(h), trapezoid_average_precision(h), inverse_penalty(h), h[:, 0]) for h in hits]
    ap, trapezoid, inp, first = (torch.cat(column)[valid] for column in zip(*per_slice, strict=True))
    return RetrievalMetrics(
        mAP=ap.mean().item(),
        mINP=inp.mean().item(),
        mAP_trapezoid=trapezoid.mean().item(),
        num_valid_queries=len(ap),
        cmc={k: (first <= k).double().mean().item() for k in ranks},
        per_query=PerQuery(valid.nonzero().flatten(), ap, first),
    )


def average_precision(hits: Int[Tensor, "rows hits"]) -> Float[Tensor, " rows"]:
    """Step form; NaN for a row without hits, as in all three functions of `hits` (ascending ranks, 0 = no further hit)."""
    found = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    precision = torch.where(hits > 0, found / hits.double(), 0)
    return precision.sum(dim=1) / (hits > 0).sum(dim=1)


def trapezoid_average_precision(hits: Int[Tensor, "rows hits"]) -> Float[Tensor, " rows"]:
    """The Market toolbox's form: precision at a hit averaged with the precision one rank before it (1 before rank 1)."""
    found = torch.arange(hits.shape[1], device=hits.device)
    before = torch.where(hits > 1, found / (hits - 1).double(), (hits == 1).double())
    return (average_precision(hits) + before.sum(dim=1) / (hits > 0).sum(dim=1)) / 2


def inverse_penalty(hits: Int[Tensor, "rows hits"]) -> Float[Tensor, " rows"]:
    """INP: hits / rank of the last hit."""
    return (hits > 0).sum(dim=1) / hits.amax(dim=1).double()


def hit_ranks(distances: Float[Tensor, "rows gallery"], matches: Pairs) -> Int[Tensor, "rows hits"]:
    """Ranks of each row's matches, ascending, 0 where a row has fewer than the fullest row (at least one column).

    Ignored images must be at +inf, all else finite. Ties are broken by gallery order.
    """
    rows, gallery = distances.shape
    per_row = torch.bincount(matches.row, minlength=rows)
    width = max(1, int(per_row.max()))
    slot = torch.arange(len(matches), device=per_row.device) - (per_row.cumsum(0) - per_row)[matches.row]
    col = torch.full((rows, width), gallery, device=distances.device)
    col[matches.row, slot] = matches.col
    threshold = torch.full((rows, width), torch.inf, dtype=distances.dtype, device=distances.device)
    threshold[matches.row, slot] = distances[matches.row, matches.col]

    count = _count_by_sorting if distances.device.type == "cpu" else _count_by_histogram
    nearer, not_farther = count(distances, threshold)
    rank = nearer + 1
    tied = ((not_farther - nearer > 1) & (col < gallery)).nonzero()
    for part in tiles(len(tied), 64):
        row, hit = tied[part].T
        equal = distances[row] == threshold[row, hit][:, None]
        earlier = torch.arange(gallery, device=distances.device) < col[row, hit][:, None]
        rank[row, hit] += (equal & earlier).sum(dim=1)
    missing = torch.iinfo(rank.dtype).max
    rank = rank.masked_fill(col == gallery, missing).sort(dim=1).values
    return rank.masked_fill(rank == missing, 0)


def _count_by_sorting(
    distances: Float[Tensor, "rows gallery"], threshold: Float[Tensor, "rows hits"]
) -> tuple[Int[Tensor, "rows hits"], Int[Tensor, "rows hits"]]:
    """How many of each row are below, and not above, each threshold. On a CPU numpy's vectorized sort of the values alone
    takes a tenth of the matrix product's time; torch's sort takes half of it, one comparison per match a fifth."""

    def count(rows: slice) -> tuple[Tensor, Tensor]:
        ordered = torch.from_numpy(np.sort(distances[rows].numpy(), axis=1))
        return torch.searchsorted(ordered, threshold[rows]), torch.searchsorted(ordered, threshold[rows], right=True)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        below, not_above = zip(*pool.map(count, tiles(len(distances), 32)), strict=True)
    return torch.cat(below), torch.cat(not_above)


def _count_by_histogram(
    distances: Float[Tensor, "rows gallery"], threshold: Float[Tensor, "rows hits"]
) -> tuple[Int[Tensor, "rows hits"], Int[Tensor, "rows hits"]]:
    """The same counts in passes over unsorted rows, for a GPU: bin each distance between a row's thresholds, add up.

    Below t and not above the float just below t are the same thing, so both counts come from one histogram.
    """
    edges = torch.stack([torch.nextafter(threshold, threshold.new_tensor(-torch.inf)), threshold], dim=-1).flatten(1)
    edges, order = edges.sort(dim=1)
    bins = torch.searchsorted(edges, distances, out_int32=True)  # the number of edges strictly below
    bins += torch.arange(len(bins), device=bins.device, dtype=bins.dtype)[:, None] * (edges.shape[1] + 1)
    # bincount, not scatter_add: it stays allowed under torch.use_deterministic_algorithms on CUDA
    histogram = torch.bincount(bins.flatten(), minlength=len(bins) * (edges.shape[1] + 1)).view(len(bins), -1)
    reached = histogram.cumsum(dim=1)[:, :-1]
    counts = torch.empty_like(reached).scatter_(1, order, reached).unflatten(1, (-1, 2))
    return counts[..., 0], counts[..., 1]
