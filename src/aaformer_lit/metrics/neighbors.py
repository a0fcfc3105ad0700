"""Nearest neighbors in slices: the k smallest of each row, ties by gallery order, no (Q, G) or (N, N) matrix.

`torch.topk` leaves open which of several equal values it takes. Here the earlier gallery image wins, always, so that a set
of neighbors does not depend on tile sizes or on the device.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aaformer_lit.errors import ConfigError
from aaformer_lit.metrics.distance import RowDistances, squared_distances, squared_norms
from aaformer_lit.utils.sequences import tiles

_SELF_TILE = {"cpu": 2048, "cuda": 8192}


class Neighbors(NamedTuple):
    """The k nearest of each row, nearest first."""

    distances: Float[Tensor, "rows k"]
    indices: Int[Tensor, "rows k"]


def smallest(values: Float[Tensor, "rows columns"], k: int) -> Neighbors:
    """The k smallest of each row in ascending order; of equal values the one with the lower column. k <= columns."""
    if k == values.shape[1]:
        return Neighbors(*values.sort(dim=1, stable=True))
    candidates = values.topk(k + 1, dim=1, largest=False)
    # by column first, so that the stable sort by value leaves equal values in column order
    column, order = candidates.indices[:, :k].sort(dim=1)
    distance, by_value = candidates.values[:, :k].gather(1, order).sort(dim=1, stable=True)
    column = column.gather(1, by_value)
    # equal values on both sides of the cut: topk may have taken the wrong ones
    torn = (candidates.values[:, k - 1] == candidates.values[:, k]).nonzero().flatten()
    for rows in tiles(len(torn), 256):
        column[torn[rows]] = values[torn[rows]].sort(dim=1, stable=True).indices[:, :k]
    return Neighbors(distance, column)


@torch.no_grad()
def nearest_neighbors(distances: RowDistances, k: int, chunk_size: int = 256) -> Neighbors:
    """The k nearest gallery images of each query: `nearest_neighbors(SquaredEuclidean(query, gallery), 10)`.

    Raises:
        ConfigError: k is below 1 or above the number of gallery images, or a chunk size below 1.
    """
    none = distances.rows(slice(0))
    if not 1 <= k <= none.shape[1]:
        raise ConfigError(
            f"there are no k={k} nearest of {none.shape[1]} gallery images. Use a k from 1 to their number."
        )
    found = [smallest(none, k)]  # without queries the result still has its columns
    found += [smallest(distances.rows(rows), k) for rows in tiles(len(distances), chunk_size)]
    return Neighbors(*(torch.cat(column) for column in zip(*found, strict=True)))


class SelfNeighbors(NamedTuple):
    """Neighbors of each image among all images (the image itself at distance 0), and its distance to the farthest."""

    distances: Float[Tensor, "images k"]
    indices: Int[Tensor, "images k"]
    farthest: Float[Tensor, " images"]


@torch.no_grad()
def self_neighbors(sets: Sequence[Float[Tensor, "images dim"]], k: int, tile_size: int | None = None) -> SelfNeighbors:
    """Squared-Euclidean neighbors within the concatenation of `sets`, which is never made.

    Distances are symmetric, so each pair of tiles is multiplied once and read from both sides: half the work of an N x N
    product. A row meets the columns in ascending order, so that on ties the earlier image is already there.
    """
    size = tile_size or _SELF_TILE.get(sets[0].device.type, 8192)
    dtype = functools.reduce(torch.promote_types, (features.dtype for features in sets), torch.float32)
    blocks, images = [], 0
    for features in sets:
        norms = squared_norms(features, dtype, "image")
        blocks += [(images + part.start, features[part], norms[part]) for part in tiles(len(features), size)]
        images += len(features)
    k = min(k, images)
    best = Neighbors(
        torch.full((images, k), torch.inf, dtype=dtype, device=sets[0].device),
        torch.full((images, k), images, device=sets[0].device),
    )
    farthest = torch.zeros(images, dtype=dtype, device=sets[0].device)
    for a, (start_a, block_a, norms_a) in enumerate(blocks):
        for start_b, block_b, norms_b in blocks[a:]:
            tile = squared_distances(block_a, block_b, norms_a, norms_b)
            if start_a == start_b:
                tile.fill_diagonal_(0)
            _update(best, farthest, tile, start_a, start_b)
            if start_a != start_b:
                _update(best, farthest, tile.T.contiguous(), start_b, start_a)
    return SelfNeighbors(best.distances, best.indices, farthest)


def _update(
    best: Neighbors, farthest: Float[Tensor, " images"], tile: Float[Tensor, "rows columns"], row: int, column: int
) -> None:
    """Merge the distances of images `row...` to images `column...` into what these rows have found so far."""
    rows = slice(row, row + len(tile))
    k = best.indices.shape[1]
    merged = smallest(torch.cat([best.distances[rows], tile], dim=1), k)
    old = best.indices[rows].gather(1, merged.indices.clamp(max=k - 1))
    best.indices[rows] = torch.where(merged.indices < k, old, merged.indices - k + column)
    best.distances[rows] = merged.distances
    torch.maximum(farthest[rows], tile.amax(dim=1), out=farthest[rows])
