"""The Market-1501 protocol, which every re-ID benchmark uses: which gallery images are a query's matches, which are ignored.

Same pid and same camid: ignored, since finding the next frame of the same track is no feat. Same pid, other camera: a match.
Gallery pid -1 ("junk", a bad detection) is dropped for all queries; pid 0 (a distractor) stays. Camera -1 means unknown, and
then the camera rule does not apply. Same pid and same sequence: ignored likewise, whatever the cameras; an image is of one
sequence with itself, so that it is never its own answer.

A query has a handful of matches among thousands of images, so both kinds are listed as pairs and no (Q, G) mask is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from aaformer_lit.structures import FeatureSet

JUNK_PID = -1
UNKNOWN_CAMID = -1


@dataclass(frozen=True, slots=True)
class Pairs:
    """Entries (row, col) of a slice of the distance matrix, sorted by row."""

    row: Int[Tensor, " pairs"]
    col: Int[Tensor, " pairs"]

    def __len__(self) -> int:
        return len(self.row)


class MatchIndex:
    """Looks up the matches and the ignored images of queries, in time proportional to their number."""

    def __init__(self, query: FeatureSet, gallery: FeatureSet) -> None:
        device = gallery.features.device
        self._pids, self._camids = query.pids.to(device), query.camids.to(device)
        self._gallery_camids = gallery.camids.to(device)
        self._sequences = None
        if query.sequences is not None and gallery.sequences is not None:
            self._sequences = query.sequences.to(device), gallery.sequences.to(device)
        self._gallery_pids, self._gallery_order = gallery.pids.to(device).sort(stable=True)

    def pairs(self, rows: slice) -> tuple[Pairs, Pairs]:
        """`(matches, ignored)` of these queries; rows count from the start of the slice."""
        pids, camids = self._pids[rows].contiguous(), self._camids[rows]
        start = torch.searchsorted(self._gallery_pids, pids)
        count = torch.searchsorted(self._gallery_pids, pids, right=True) - start
        row = torch.arange(len(pids), device=pids.device).repeat_interleave(count)
        within = torch.arange(len(row), device=pids.device) - (count.cumsum(0) - count)[row]
        col = self._gallery_order[start[row] + within]
        ignored = (camids[row] == self._gallery_camids[col]) & (camids[row] != UNKNOWN_CAMID)
        if self._sequences is not None:
            own, others = self._sequences
            ignored |= own[rows][row] == others[col]
        return Pairs(row[~ignored], col[~ignored]), Pairs(row[ignored], col[ignored])


def without_junk(features: FeatureSet) -> FeatureSet:
    """The images without pid -1; the same object, and no copy, where there is none."""
    keep = features.pids != JUNK_PID
    return features if keep.all() else features.select(keep)
