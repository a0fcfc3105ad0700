"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) in memory proportional to the number of images.

Two images are k-reciprocal neighbors if each is among the other's k nearest, over queries and gallery together. The sets of
such neighbors, grown by those of their members, are compared by the Jaccard distance, and a share `lambda_value` of the
original distance is mixed in. As in the authors' code: squared Euclidean distances, each image's divided by its largest;
k1 + 1 neighbors, since the image itself is one; growth by the round(k1 / 2)-reciprocal neighbors of a member if more than
2/3 of those are members already; weights exp(-distance) that sum to 1; the mean of the k2 nearest images' weights.

The authors' code holds several N x N matrices (35-140 GB at MSMT17 size). But a row of the weights has some hundred entries,
so here it is a sparse matrix, the neighbors come from tiles of the distances, and the Jaccard distances from slices.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aaformer_lit.errors import ConfigError
from aaformer_lit.metrics.distance import RowDistances, SquaredEuclidean, pair_distances
from aaformer_lit.metrics.neighbors import SelfNeighbors, self_neighbors
from aaformer_lit.utils.sequences import tiles

# entries of intermediate tensors per step, which bounds the memory above the features
_STEP = 2**22


def k_reciprocal_rerank(
    query_features: Float[Tensor, "queries dim"],
    gallery_features: Float[Tensor, "gallery dim"],
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> Float[Tensor, "queries gallery"]:
    """Re-ranked distances of all queries to all gallery images, for sizes where (Q, G) fits.

    `evaluate_retrieval(query, gallery, rerank=KReciprocal(k1, k2, lambda_value))` streams over them instead. Features are
    taken as they are: normalize them first where cosine similarity is meant.
    """
    return KReciprocal(k1, k2, lambda_value).prepare(query_features, gallery_features).rows(slice(None))


@dataclass(frozen=True, slots=True)
class KReciprocal:
    """The three parameters of the method; `prepare` does the work that all queries share.

    Args:
        k1: neighbors that count for reciprocity.
        k2: images whose weights are averaged (local query expansion); 1 switches it off.
        lambda_value: share of the original distance, 0 to 1.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.lambda_value <= 1:
            raise ConfigError(f"re-ranking needs k1 >= 1, k2 >= 1 and lambda_value in [0, 1]; got {self}.")

    @torch.no_grad()
    def prepare(self, query: Float[Tensor, "queries dim"], gallery: Float[Tensor, "gallery dim"]) -> RowDistances:
        original = SquaredEuclidean(query, gallery)
        if not len(query) or not len(gallery):
            return original  # no pair, so nothing to re-rank
        query = original.query
        found = self_neighbors([query, gallery], max(self.k1 + 1, self.k2))
        # where all images are equal their distances stay 0 instead of NaN
        found = found._replace(farthest=found.farthest.clamp(min=torch.finfo(found.farthest.dtype).tiny))
        members = expanded_sets(found.indices, self.k1)
        weights = _neighbor_weights(query, gallery, members, found)
        if self.k2 > 1:
            weights = _average_rows(weights, found.indices[:, : self.k2])
        return RerankedDistances(original, found.farthest[: len(query)], weights, self.lambda_value)


class SparseRows(NamedTuple):
    """A sparse matrix by rows (CSR): row i holds the entries `start[i]:start[i + 1]`, columns ascending."""

    start: Int[Tensor, " rows_plus_1"]
    col: Int[Tensor, " entries"]
    value: Float[Tensor, " entries"]


class RerankedDistances:
    """`RowDistances` of the re-ranked kind: (1 - lambda) Jaccard distance + lambda original distance."""

    def __init__(
        self,
        original: SquaredEuclidean,
        farthest: Float[Tensor, " queries"],
        weights: SparseRows,
        lambda_value: float,
    ) -> None:
        self._original, self._farthest, self._weights, self._lambda = original, farthest, weights, lambda_value
        self._holders = _transpose(weights, len(original))

    def __len__(self) -> int:
        return len(self._original)

    @torch.no_grad()
    def rows(self, rows: slice) -> Float[Tensor, "rows gallery"]:
        first, last, _ = rows.indices(len(self))
        overlap = self._overlap(first, last)
        distance = self._original.rows(slice(first, last)).div_(self._farthest[first:last, None]).mul_(self._lambda)
        jaccard = overlap.div_(2 - overlap).neg_().add_(1)
        return distance.add_(jaccard, alpha=1 - self._lambda)

    def _overlap(self, first: int, last: int) -> Float[Tensor, "rows gallery"]:
        """Sums of min(query's weight, gallery image's weight) over the images that both hold, via who holds what."""
        start, col, value = self._weights
        holders = self._holders.start[1:] - self._holders.start[:-1]
        overlap = torch.zeros(last - first, len(self._original.gallery), dtype=value.dtype, device=value.device)
        flat = overlap.view(-1)
        entries = torch.arange(int(start[first]), int(start[last]), device=col.device)
        row = torch.searchsorted(start, entries, right=True) - 1 - first
        for part in _bounded(holders[col[entries]]):
            entry, row_part = entries[part], row[part]
            count = holders[col[entry]]
            at = _ranges(self._holders.start[col[entry]], count)
            shared = torch.minimum(value[entry].repeat_interleave(count), self._holders.value[at])
            flat.index_add_(0, row_part.repeat_interleave(count) * overlap.shape[1] + self._holders.col[at], shared)
        return overlap


def expanded_sets(neighbors: Int[Tensor, "images k"], k1: int) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """The k1-reciprocal neighbors of each image, grown by those of their members: pairs (image, member), sorted."""
    images = len(neighbors)
    near = neighbors[:, : k1 + 1]
    half = neighbors[:, : round(k1 / 2) + 1]  # rounds .5 to even, like the authors' np.around
    mutual, half_mutual = _reciprocal(near), _reciprocal(half)
    rows_out, cols_out = [], []
    for rows in tiles(images, max(1, _STEP // (near.shape[1] ** 2 * half.shape[1]))):
        own = near[rows].masked_fill(~mutual[rows], images)  # `images` marks an empty place
        theirs = half[near[rows]].masked_fill(~half_mutual[near[rows]], images)
        shared = (theirs[..., None] == own[:, None, None, :]) & (theirs < images)[..., None]
        grows = 3 * shared.any(dim=-1).sum(dim=-1) > 2 * (theirs < images).sum(dim=-1)
        grows &= mutual[rows]
        grown = torch.cat([own, theirs.masked_fill(~grows[..., None], images).flatten(1)], dim=1).sort(dim=1).values
        fresh = (grown < images) & torch.cat([grown[:, :1] >= 0, grown[:, 1:] != grown[:, :-1]], dim=1)
        row, place = fresh.nonzero().T
        rows_out.append(row + rows.start)
        cols_out.append(grown[row, place])
    return torch.cat(rows_out), torch.cat(cols_out)


def _reciprocal(near: Int[Tensor, "images k"]) -> Bool[Tensor, "images k"]:
    """Whether each neighbor counts the image among its own."""
    out = torch.empty_like(near, dtype=torch.bool)
    for rows in tiles(len(near), max(1, _STEP // near.shape[1] ** 2)):
        image = torch.arange(rows.start, rows.stop, device=near.device)
        out[rows] = (near[near[rows]] == image[:, None, None]).any(dim=-1)
    return out


def _neighbor_weights(
    query: Float[Tensor, "queries dim"],
    gallery: Float[Tensor, "gallery dim"],
    members: tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]],
    found: SelfNeighbors,
) -> SparseRows:
    """exp(-distance / largest distance) for the members of each image, scaled to sum to 1."""
    row, col = members
    distance = torch.full((len(row),), torch.nan, dtype=found.farthest.dtype, device=row.device)
    # most members are among the nearest neighbors, whose distance is known
    for pairs in tiles(len(row), max(1, _STEP // found.indices.shape[1])):
        pair, place = (found.indices[row[pairs]] == col[pairs, None]).nonzero().T
        distance[pair + pairs.start] = found.distances[row[pairs][pair], place]
    unknown = distance.isnan()
    split = len(query)
    for row_features, row_chosen, row_offset in ((query, row < split, 0), (gallery, row >= split, split)):
        for col_features, col_chosen, col_offset in ((query, col < split, 0), (gallery, col >= split, split)):
            chosen = (unknown & row_chosen & col_chosen).nonzero().flatten()
            distance[chosen] = pair_distances(
                row_features, col_features, row[chosen] - row_offset, col[chosen] - col_offset
            )
    weight = torch.exp(-distance / found.farthest[row])
    total = torch.zeros_like(found.farthest).index_add_(0, row, weight)
    return SparseRows(_starts(row, len(found.farthest)), col, weight / total[row])


def _average_rows(weights: SparseRows, neighbors: Int[Tensor, "images k2"]) -> SparseRows:
    """Local query expansion: each row becomes the mean of its k2 nearest images' rows."""
    images, k2 = neighbors.shape
    length = weights.start[1:] - weights.start[:-1]
    rows_out, cols_out, values_out = [], [], []
    for rows in _bounded(length[neighbors].sum(dim=1)):
        source = neighbors[rows].flatten()
        count = length[source]
        at = _ranges(weights.start[source], count)
        row = torch.arange(rows.start, rows.stop, device=at.device).repeat_interleave(k2).repeat_interleave(count)
        key, inverse = torch.unique(row * images + weights.col[at], return_inverse=True)
        value = torch.zeros(len(key), dtype=weights.value.dtype, device=key.device)
        values_out.append(value.index_add_(0, inverse, weights.value[at]) / k2)
        rows_out.append(key // images)
        cols_out.append(key % images)
    return SparseRows(_starts(torch.cat(rows_out), images), torch.cat(cols_out), torch.cat(values_out))


def _transpose(weights: SparseRows, queries: int) -> SparseRows:
    """Who holds an image among its neighbors: gallery images (counted from 0) by column, with their weights."""
    images = len(weights.start) - 1
    first = int(weights.start[queries])
    col, order = weights.col[first:].sort(stable=True)
    row = torch.searchsorted(weights.start, order + first, right=True) - 1 - queries
    return SparseRows(_starts(col, images), row, weights.value[first:][order])


def _starts(sorted_ids: Int[Tensor, " entries"], length: int) -> Int[Tensor, " length_plus_1"]:
    return torch.searchsorted(sorted_ids, torch.arange(length + 1, device=sorted_ids.device))


def _ranges(start: Int[Tensor, " runs"], count: Int[Tensor, " runs"]) -> Int[Tensor, " total"]:
    """`start[i], start[i] + 1, ...`, `count[i]` of them, for all i in a row."""
    shift = start - (count.cumsum(0) - count)
    total = torch.arange(int(count.sum()), device=start.device)
    return total + shift.repeat_interleave(count)


def _bounded(sizes: Int[Tensor, " items"]) -> list[slice]:
    """Consecutive slices of the items whose sizes add up to about `_STEP` each, one item at least."""
    block = ((sizes.cumsum(0) - 1).clamp(min=0) // _STEP).cpu()
    edges = [0, *((block[1:] != block[:-1]).nonzero().flatten() + 1).tolist(), len(sizes)]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if a < b]
