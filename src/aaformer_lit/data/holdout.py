"""Which training records serve for what: held-out ids for validation, and one numbering for several data sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from aaformer_lit.data.counts import unmatched
from aaformer_lit.errors import ProtocolError
from aaformer_lit.structures import Record


def hold_out(records: Sequence[Record], share: float, seed: int) -> tuple[list[Record], list[Record], list[Record]]:
    """Take a share of the ids out of `records`: (the rest, queries, gallery), each in the given order.

    Only ids that can be found again are taken: seen by two cameras, or twice where cameras are unknown, and not in one
    clip. The first image of each camera is a query. The gallery is all their images; the camera rule hides a query from
    itself, so it is left out only where its camera is unknown.
    """
    images: dict[int, list[Record]] = defaultdict(list)
    for r in records:
        images[r.pid].append(r)
    able = [pid for pid in sorted(images) if _findable(images[pid])]
    wanted = max(2, round(share * len(images)))
    if len(able) < wanted or len(images) - wanted < 2:
        raise ProtocolError(
            f"data.val_ids={share} asks to hold out {wanted} of {len(images)} training ids, but {len(able)} can "
            f"be held out (they need images of two cameras, not of one clip) and 2 must be left to train on. "
            f"Lower data.val_ids."
        )
    chosen = set(np.random.default_rng(seed).permutation(able)[:wanted].tolist())
    held = [r for r in records if r.pid in chosen]
    query = _queries(held)
    hidden = {r.path for r in query if r.camid < 0}
    return [r for r in records if r.pid not in chosen], query, [r for r in held if r.path not in hidden]


def union(splits: Iterable[Sequence[Record]]) -> list[Record]:
    """The records of all splits; the pids of each are shifted behind those of the ones before, so that none collide."""
    records: list[Record] = []
    free = 0
    for split in splits:
        records += [replace(r, pid=r.pid + free) for r in split] if free else split
        free = 1 + max((r.pid for r in records), default=-1)
    return records


def _queries(images: Sequence[Record]) -> list[Record]:
    """The first image of each id and camera."""
    first: dict[tuple[int, int], Record] = {}
    for r in images:
        first.setdefault((r.pid, r.camid), r)
    return list(first.values())


def _findable(images: Sequence[Record]) -> bool:
    queries = _queries(images)
    return len(unmatched(queries, images)) < len(queries)
