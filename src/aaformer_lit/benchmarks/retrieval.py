"""Retrieval metrics, without and with re-ranking, against the matrix product that they cannot do without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from aaformer_lit.benchmarks.measure import Measurement, check, compare, peak_memory
from aaformer_lit.structures import FeatureSet, RetrievalMetrics

if TYPE_CHECKING:
    from aaformer_lit.metrics import KReciprocal

# queries, gallery images, identities: Market-1501, MSMT17
MARKET, MSMT = (3368, 15913, 751), (11659, 82161, 3060)
DIM = 4608


def evaluate(full: bool, repeats: int) -> Iterator[Measurement]:
    """CMC, mAP and mINP."""
    if full:
        yield _measured("evaluate", MARKET, DIM, repeats)
        yield _measured("evaluate", MSMT, DIM, 1)  # minutes on a CPU
    else:
        yield _measured("evaluate", (500, 3000, 100), 512, repeats)


def rerank(full: bool, repeats: int) -> Iterator[Measurement]:
    """Streaming k-reciprocal re-ranking with its metrics; MSMT17's size (82 TFLOP a time) on a GPU only."""
    from aaformer_lit.metrics import KReciprocal, evaluate_retrieval, k_reciprocal_rerank

    few = made_features(20, 80, 10, 16)
    found = evaluate_retrieval(*few, rerank=KReciprocal()).per_query
    distances = k_reciprocal_rerank(few[0].features, few[1].features).cpu()
    reference = torch.tensor([_average_precision(*few, int(i), distances[i]) for i in found.index])
    check("rerank", found.average_precision, reference, 1e-5)
    if full:
        for size in (MARKET, MSMT) if torch.cuda.is_available() else (MARKET,):
            yield _measured("rerank", size, DIM, 1, KReciprocal())
    else:
        yield _measured("rerank", (300, 1500, 100), 512, repeats, KReciprocal())


def _measured(
    suite: str, size: tuple[int, int, int], dim: int, repeats: int, reranking: KReciprocal | None = None
) -> Measurement:
    from aaformer_lit.metrics import evaluate_retrieval

    query, gallery = made_features(*size, dim)
    rows, columns, against = query.features, gallery.features, "matrix product"
    if reranking is not None:
        rows = columns = torch.cat([rows, columns])
        against = "N x N product"
    results: list[RetrievalMetrics] = []

    def ours() -> None:
        results[:] = [evaluate_retrieval(query, gallery, rerank=reranking)]

    def product(chunk: int = 512) -> None:
        for part in rows.split(chunk):
            part @ columns.t()

    memory = peak_memory(ours)
    if reranking is None:
        scores, images = results[0].per_query, columns.cpu().double()
        reference = torch.tensor(
            [
                _average_precision(query, gallery, int(i), (rows[i].cpu().double() - images).square().sum(dim=1))
                for i in scores.index[:5]
            ]
        )
        check(suite, scores.average_precision[:5], reference, 1e-6)
    seconds = compare(ours, product, repeats, warm_up=False)  # the call for the memory has warmed up
    what = f"{len(query)} x {len(gallery)}, {dim}-d"
    return Measurement(suite, what, against, *seconds, min(seconds[1]), against, memory)


def made_features(queries: int, images: int, ids: int, dim: int) -> tuple[FeatureSet, FeatureSet]:
    """Noisy descriptors around a center per identity, on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    centers = torch.randn(ids, dim, device=device)

    def some(count: int) -> FeatureSet:
        pids = torch.randint(ids, (count,))
        features = torch.randn(count, dim, device=device).mul_(2).add_(centers[pids.to(device)])
        return FeatureSet(torch.nn.functional.normalize(features, dim=1), pids + 1, torch.randint(6, (count,)))

    return some(queries), some(images)


def _average_precision(
    query: FeatureSet, gallery: FeatureSet, index: int, distances: Float[Tensor, " gallery"]
) -> float:
    """The obvious way, for one query and its distances to the gallery."""
    same = gallery.pids == query.pids[index]
    keep = ~(same & (gallery.camids == query.camids[index]))
    hits = same[keep][distances[keep].argsort(stable=True)].nonzero().flatten() + 1
    return float((torch.arange(1, len(hits) + 1) / hits).mean())
