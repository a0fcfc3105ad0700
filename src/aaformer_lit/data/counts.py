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
    """Queries without a gallery image of their pid in another camera (an unknown camera, -1, counts as another)."""
    cameras: dict[int, set[int]] = {q.pid: set() for q in query}
    for r in gallery:
        if r.pid in cameras:
            cameras[r.pid].add(r.camid)
    return [q for q in query if not any(camid != q.camid or camid < 0 for camid in cameras[q.pid])]
