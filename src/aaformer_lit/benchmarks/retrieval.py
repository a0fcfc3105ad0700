"""Retrieval metrics, without and with re-ranking, against the matrix product that they cannot do without."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from aaformer_lit.benchmarks.measure import Measurement, check, compare, peak_memory
from aaformer_lit.structures import FeatureSet, RetrievalMetrics

if TYPE_CHECKING:
    from aaformer_lit.metrics import KReciprocal

# queries, gallery images, identities: Market-1501, MSMT17
MARKET, MSMT = (3368, 15913, 751), (11659, 82161, 3060)
DIM = 4608


def evaluate(full: bool, repeats: int) -> list[Measurement]:
    """CMC, mAP and mINP."""
    if not full:
        return [_evaluate((500, 3000, 100), 512, repeats)]
    return [_evaluate(MARKET, DIM, repeats), _evaluate(MSMT, DIM, 1)]  # minutes each time on a CPU


def rerank(full: bool, repeats: int) -> list[Measurement]:
    """Streaming k-reciprocal re-ranking with its metrics; MSMT17's size (82 TFLOP a time) on a GPU only."""
    if not full:
        return [_rerank((300, 1500, 100), 512, repeats)]
    sizes = [MARKET, MSMT] if torch.cuda.is_available() else [MARKET]
    return [_rerank(size, DIM, 1) for size in sizes]


def _evaluate(size: tuple[int, int, int], dim: int, repeats: int) -> Measurement:
    query, gallery = made_features(*size, dim)
    product = _product(query.features, gallery.features)
    return _measured("evaluate", "matrix product", query, gallery, None, product, repeats)


def _rerank(size: tuple[int, int, int], dim: int, repeats: int) -> Measurement:
    from aaformer_lit.metrics import KReciprocal, evaluate_retrieval, k_reciprocal_rerank

    few = made_features(20, 80, 10, 16)
    streamed = evaluate_retrieval(*few, rerank=KReciprocal())
    distances = k_reciprocal_rerank(few[0].features, few[1].features).cpu()
    reference = torch.tensor([_average_precision(*few, int(i), distances) for i in streamed.per_query.index])
    check("rerank", streamed.per_query.average_precision, reference, 1e-5)
    query, gallery = made_features(*size, dim)
    everything = torch.cat([query.features, gallery.features])
    product = _product(everything, everything)
    return _measured("rerank", "N x N product", query, gallery, KReciprocal(), product, repeats)


def _measured(
    suite: str,
    against: str,
    query: FeatureSet,
    gallery: FeatureSet,
    reranking: KReciprocal | None,
    product: Callable[[], object],
    repeats: int,
) -> Measurement:
    from aaformer_lit.metrics import evaluate_retrieval

    results: list[RetrievalMetrics] = []

    def ours() -> None:
        results[:] = [evaluate_retrieval(query, gallery, rerank=reranking)]

    memory = peak_memory(ours)
    if reranking is None:
        scores = results[0].per_query
        reference = torch.tensor([_average_precision(query, gallery, int(i)) for i in scores.index[:5]])
        check(suite, scores.average_precision[:5], reference, 1e-6)
    seconds = compare(ours, product, repeats, warm_up=False)  # the call for the memory has warmed up
    what = f"{len(query)} x {len(gallery)}, {query.features.shape[1]}-d"
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


def _product(rows: torch.Tensor, columns: torch.Tensor, chunk: int = 512) -> Callable[[], object]:
    def run() -> None:
        for part in rows.split(chunk):
            part @ columns.t()

    return run


def _average_precision(
    query: FeatureSet, gallery: FeatureSet, index: int, distances: torch.Tensor | None = None
) -> float:
    """The obvious way, for one query."""
    if distances is None:
        row = (query.features[index].cpu().double() - gallery.features.cpu().double()).square().sum(dim=1)
    else:
        row = distances[index]
    same = gallery.pids == query.pids[index]
    keep = ~(same & (gallery.camids == query.camids[index]))
    hits = same[keep][row[keep].argsort(stable=True)].nonzero().flatten() + 1
    return float((torch.arange(1, len(hits) + 1) / hits).mean())
