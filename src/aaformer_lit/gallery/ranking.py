"""Who in the gallery looks most like a query: an index's answers under the rules of a search."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aaformer_lit.errors import ConfigError
from aaformer_lit.gallery.index.base import NO_ROW, Features, Index, Neighbors, ordered
from aaformer_lit.gallery.sources import Crop, identity
from aaformer_lit.gallery.store import Gallery

if TYPE_CHECKING:
    from aaformer_lit.metrics.ranking import Reranker

JUNK = "-1"


def rank(
    gallery: Gallery,
    index: Index,
    features: Float[Tensor, "queries dim"],
    k: int = 10,
    *,
    queries: Sequence[Crop] = (),
    camids: Collection[str | int] | None = None,
    like_evaluation: bool = False,
) -> Neighbors:
    """The k nearest rows of the gallery for each query.

    Args:
        index: filled by `gallery.indexed(index, group)`.
        features: of the same token group, as `gallery.layout.select` makes them.
        k: answers; there are fewer, and rows -1 behind them, where the gallery or the rules leave fewer.
        queries: who the queries are, for `like_evaluation`.
        camids: search images of these cameras only.
        like_evaluation: leave out junk (pid -1) and the query's own person in its own camera, where those are known.

    Raises:
        ConfigError: k below 1, a camera that the gallery does not know, an empty gallery.
    """
    if k < 1:
        raise ConfigError(f"k={k} must be 1 or more.")
    if not len(gallery):
        raise ConfigError(f"the gallery {gallery.folder} is empty. Extract images into it first.")
    mask = _of_cameras(gallery, camids) if camids is not None else np.ones(len(gallery), dtype=bool)
    wanted = min(k, len(gallery))
    found = Neighbors(np.full((len(features), wanted), np.inf), np.full((len(features), wanted), NO_ROW))
    for who, rows in _by_identity(queries, len(features), like_evaluation).items():
        allowed = mask & ~_ignored(gallery, *who) if like_evaluation else mask
        answers = index.search(features[rows], wanted, None if allowed.all() else allowed)
        for mine, theirs in zip(found, answers, strict=True):
            mine[rows, : theirs.shape[1]] = theirs
    return found


def reranked(
    candidates: Neighbors,
    queries: Float[Tensor, "queries dim"],
    gallery: Features,
    reranker: Reranker,
    k: int,
) -> Neighbors:
    """The k best of each query's candidates by a distance that looks at all of them, such as `KReciprocal`.

    A query is re-ranked among its own candidates, so the price does not grow with the gallery. Where these are the whole
    gallery, it is the full re-ranking of that query.

    Args:
        candidates: nearest rows by plain distance, as `rank` finds them.
        queries: their features.
        gallery: `gallery.rows(group)` of the same token group.
    """
    found = Neighbors(np.full_like(candidates.distances, np.inf), np.full_like(candidates.rows, NO_ROW))
    for number, row in enumerate(candidates.rows):
        rows = np.sort(row[row != NO_ROW])  # of equal distances the earlier row first, as everywhere
        if len(rows):
            distances = reranker.prepare(queries[number : number + 1], gallery[torch.from_numpy(rows)]).rows(
                slice(None)
            )
            found.distances[number, : len(rows)], found.rows[number, : len(rows)] = distances[0].cpu().numpy(), rows
    best = ordered(*found)
    return Neighbors(best.distances[:, :k], best.rows[:, :k])


def verdicts(gallery: Gallery, queries: Sequence[Crop], found: Neighbors) -> list[list[bool | None]]:
    """For each answer whether it is the query's person; None where either is unknown, or the query is junk (pid -1)."""
    pids: list[Any] = gallery.table["pid"].tolist()
    return [
        [None if query.pid in ("", JUNK) or not pids[row] else query.pid == pids[row] for row in rows if row != NO_ROW]
        for query, rows in zip(queries, found.rows, strict=True)
    ]


def _of_cameras(gallery: Gallery, camids: Collection[str | int]) -> Bool[np.ndarray, " images"]:
    known = sorted(set(gallery.table["camid"]))
    wanted = [identity(str(camid)) for camid in camids]
    unknown = [camid for camid in wanted if camid not in known]
    if unknown or not wanted:
        named = ", ".join(camid or "(unknown)" for camid in known)
        raise ConfigError(f"no image of the gallery is from camera {', '.join(unknown)}. Its cameras: {named}.")
    mask: np.ndarray = gallery.table["camid"].isin(wanted).to_numpy(dtype=bool)
    return mask


def _by_identity(queries: Sequence[Crop], count: int, apart: bool) -> dict[tuple[str, str], list[int]]:
    """Queries that are searched together: all, or those of one person in one camera."""
    if not apart:
        return {("", ""): list(range(count))}
    together: dict[tuple[str, str], list[int]] = {}
    for number, query in enumerate(queries):
        together.setdefault((query.pid, query.camid), []).append(number)
    return together


def _ignored(gallery: Gallery, pid: str, camid: str) -> Bool[np.ndarray, " images"]:
    junk = gallery.table["pid"] == JUNK
    if pid and camid:
        junk |= (gallery.table["pid"] == pid) & (gallery.table["camid"] == camid)
    ignored: np.ndarray = junk.to_numpy(dtype=bool)
    return ignored
