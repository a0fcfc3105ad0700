"""The size of a split, and queries that nothing can answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aaformer_lit.structures import Record
from aaformer_lit.utils.text import plural


class Counts(NamedTuple):
    """Size of a split; junk images (pid -1) are not counted, distractors (pid 0) are, as one id."""

    images: int
    ids: int
    cameras: int

    def __str__(self) -> str:
        return ", ".join(plural(number, noun[:-1]) for noun, number in self._asdict().items())


def count(records: Iterable[Record]) -> Counts:
    """Images, distinct pids and distinct known cameras."""
    records = list(records)
    return Counts(len(records), len({r.pid for r in records}), len({r.camid for r in records if r.camid >= 0}))


def unmatched(query: Sequence[Record], gallery: Iterable[Record]) -> list[Record]:
    """Queries without a gallery image of their pid in another camera (an unknown camera, -1, counts as another) and in
    another sequence; a query's own file is no match."""
    images: dict[int, list[Record]] = {q.pid: [] for q in query}
    for r in gallery:
        if r.pid in images:
            images[r.pid].append(r)
    return [q for q in query if not any(is_match(q, r) for r in images[q.pid])]


def is_match(query: Record, other: Record) -> bool:
    """Whether a gallery image of the query's pid counts as a hit."""
    same_camera = query.camid == other.camid >= 0
    same_sequence = query.sequence == other.sequence >= 0
    return not (same_camera or same_sequence or query.path == other.path)
