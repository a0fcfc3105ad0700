"""Does the exported file find the same people? Its first answers beside the network's own, and the mAP of both.

An answer of the file counts as the network's if the network has it no farther than its own k-th: images that are equally far
may change places. Of few images at most half are looked at: the whole gallery is always the network's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aaformer_lit.data.test_set import TestSet
from aaformer_lit.metrics.ranking import evaluate_retrieval

_TIE = 1e-4  # of a distance


@dataclass(frozen=True)
class Agreement:
    """`top_k`: the share of the first `k` answers that are the network's; the mAP of network and file where pids are known."""

    queries: int
    gallery: int
    k: int
    top_k: float
    network_mAP: float | None = None
    file_mAP: float | None = None

    @property
    def mAP_change(self) -> float:
        """0 where nobody knows who is who."""
        return 0.0 if self.network_mAP is None or self.file_mAP is None else self.file_mAP - self.network_mAP


def among_themselves(
    found: Float[Tensor, "images dim"], wanted: Float[Tensor, "images dim"], k: int = 10
) -> Agreement | None:
    """Every image searches the others; None for a single image, which has nothing to search."""
    images = len(wanted)
    if images < 2:
        return None
    k = min(k, images // 2)
    by_file, by_network = (torch.cdist(x, x).fill_diagonal_(torch.inf) for x in (_finite(found), wanted.double()))
    return Agreement(images, images, k, same_answers(by_file, by_network, k))


def on_test_set(
    found: Float[Tensor, "images dim"], wanted: Float[Tensor, "images dim"], test: TestSet, k: int = 10
) -> Agreement:
    """Queries of a data set search its gallery; rows are those of query and gallery, one after the other."""
    queries, k = len(test.query), min(k, max(1, len(test.gallery) // 2))
    found, wanted = _finite(found), wanted.double()
    by_file, by_network = (torch.cdist(x[:queries], x[queries:]) for x in (found, wanted))
    top_k = same_answers(by_file, by_network, k)
    return Agreement(queries, len(test.gallery), k, top_k, _mAP(wanted, test), _mAP(found, test))


def same_answers(found: Float[Tensor, "queries gallery"], wanted: Float[Tensor, "queries gallery"], k: int) -> float:
    """From the distances by the file and by the network: the share of the file's first `k` that are the network's."""
    answers = found.topk(k, dim=1, largest=False).indices
    farthest = wanted.topk(k, dim=1, largest=False).values[:, -1:] * (1 + _TIE)
    return float((wanted.gather(1, answers) <= farthest).double().mean())


def _finite(features: Float[Tensor, "images dim"]) -> Float[Tensor, "images dim"]:
    return features.double().nan_to_num()


def _mAP(features: Float[Tensor, "images dim"], test: TestSet) -> float:
    return evaluate_retrieval(*test.described(features)).mAP
