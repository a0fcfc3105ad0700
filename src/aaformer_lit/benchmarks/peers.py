"""Ours beside the packages that people know: a ratio of times, and only where both give the same result.

A package that is not installed is left out, and so is one that gives another result; the log says which and why.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from aaformer_lit.benchmarks.assignment import assignment
from aaformer_lit.benchmarks.data import data
from aaformer_lit.benchmarks.measure import Measurement, Run, WrongResult, check, compare, fastest
from aaformer_lit.benchmarks.retrieval import made_features
from aaformer_lit.errors import ConfigError, first_line
from aaformer_lit.structures import FeatureSet

logger = logging.getLogger(__name__)


def peers(full: bool, repeats: int) -> Iterator[Measurement]:
    """Evaluation, neighbors, mining, sampling, augmentation and transport, each with what is installed."""
    for package, measure in PEERS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of packages at their import
                row = measure(full, repeats)
        except (ImportError, ConfigError) as error:
            logger.info("%s is not compared with, as it cannot be imported: %s", package, first_line(error))
        except WrongResult as error:
            logger.warning("%s is not compared with, as it gives another result: %s", package, error)
        else:
            yield replace(row, suite=f"peers: {package}", against=package)


def evaluation_of_torchreid(full: bool, repeats: int) -> Measurement:
    """mAP and Rank-1 under Market-1501's rule, its Python path: the Cython one has to be compiled by hand."""
    from torchreid.reid.metrics.distance import compute_distance_matrix
    from torchreid.reid.metrics.rank import evaluate_rank

    query, gallery = _people(full)

    def theirs() -> Tensor:
        distances = compute_distance_matrix(query.features, gallery.features, "euclidean").numpy()
        labels = [one.numpy() for one in (query.pids, gallery.pids, query.camids, gallery.camids)]
        cmc, mean = evaluate_rank(distances, *labels, use_cython=False)
        return torch.tensor([mean, cmc[0]])

    return _evaluation(query, gallery, theirs, repeats)


def evaluation_of_oml(full: bool, repeats: int) -> Measurement:
    """mAP and Rank-1 of all gallery images; without cameras, which its metrics do not know."""
    from oml.functional.metrics import calc_retrieval_metrics

    query, gallery = (replace(one, camids=torch.full_like(one.camids, -1)) for one in _people(full))

    def theirs() -> Tensor:
        retrieved = torch.cdist(query.features, gallery.features).argsort(dim=1)
        matches = [(gallery.pids == pid).nonzero().flatten() for pid in query.pids]
        last = len(gallery)
        options = {"cmc_top_k": (1,), "precision_top_k": (), "map_top_k": (last,), "verbose": False}
        found = calc_retrieval_metrics(list(retrieved), matches, **options)
        return torch.tensor([float(found["map"][last]), float(found["cmc"][1])])

    return _evaluation(query, gallery, theirs, repeats)


def evaluation_of_sklearn(full: bool, repeats: int) -> Measurement:
    """mAP by `average_precision_score`, query by query, and Rank-1 by the nearest image."""
    from sklearn.metrics import average_precision_score

    query, gallery = _people(full)

    def theirs() -> Tensor:
        scores = (query.features @ gallery.features.t()).numpy()
        values = []
        for row, pid, camid in zip(scores, query.pids, query.camids, strict=True):
            same = gallery.pids == pid
            keep = (~(same & (gallery.camids == camid))).numpy()
            same = same.numpy()[keep]
            values.append((average_precision_score(same, row[keep]), same[row[keep].argmax()]))
        return torch.tensor(values).mean(dim=0)

    return _evaluation(query, gallery, theirs, repeats)


def neighbors_of_faiss(full: bool, repeats: int) -> Measurement:
    """The ten nearest gallery images of each query, exact."""
    import faiss

    from aaformer_lit.metrics.distance import SquaredEuclidean
    from aaformer_lit.metrics.neighbors import nearest_neighbors

    query, gallery = _people(full)

    def theirs() -> Any:
        index = faiss.IndexFlatL2(gallery.features.shape[1])
        index.add(gallery.features.numpy())
        return index.search(query.features.numpy(), 10)

    def ours() -> Any:
        return nearest_neighbors(SquaredEuclidean(query.features, gallery.features), 10)

    check("peers", ours().distances, torch.from_numpy(theirs()[0]), 1e-4)
    return _measured(f"10 nearest, {_size(query, gallery)}", ours, theirs, *_product(query, gallery), repeats)


def mining_of_pml(full: bool, repeats: int) -> Measurement:
    """Batch-hard triplet loss of a batch, forward and backward."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BatchHardMiner
    from pytorch_metric_learning.reducers import MeanReducer

    from aaformer_lit.losses import TripletLoss

    images = 512 if full else 64
    features = torch.randn(images, 768).requires_grad_()
    pids = torch.arange(images // 4).repeat_interleave(4)
    distance = LpDistance(normalize_embeddings=False)
    miner, triplets = (
        BatchHardMiner(distance=distance),
        TripletMarginLoss(0.3, distance=distance, reducer=MeanReducer()),
    )
    loss = TripletLoss(0.3)

    def ours() -> Tensor:
        return torch.autograd.grad(loss(features, pids), features)[0]

    def theirs() -> Tensor:
        value = triplets(features, pids, miner(features, pids))
        return torch.autograd.grad(value, features)[0]

    check("peers", ours(), theirs(), 1e-5)
    floor = features.detach()
    what = f"batch-hard triplets, {images} x 768"
    return _measured(what, ours, theirs, lambda: floor @ floor.t(), "the product", repeats)


def sampling_of_pml(full: bool, repeats: int) -> Measurement:
    """An epoch of batches of 16 people and 4 images of each, Market-1501's size."""
    from pytorch_metric_learning.samplers import MPerClassSampler

    from aaformer_lit.data.sampler import PKSampler

    labels = torch.arange(751 if full else 75).repeat_interleave(17).tolist()
    sampler = PKSampler(labels, 16, 4)
    epoch = 0

    def ours() -> list[list[int]]:
        nonlocal epoch
        epoch += 1
        sampler.set_epoch(epoch)
        return [[draw.index for draw in batch] for batch in sampler]

    batches = len(ours())
    other = MPerClassSampler(labels, 4, batch_size=64, length_before_new_iter=64 * batches)

    def theirs() -> list[list[int]]:
        drawn = list(other)
        return [drawn[start : start + 64] for start in range(0, len(drawn), 64)]

    def people(epoch: list[list[int]]) -> Tensor:
        """Images of each person in each batch, sorted."""
        return torch.tensor([sorted(torch.tensor(labels)[batch].bincount().tolist())[-17:] for batch in epoch])

    check("peers", people(ours()), people(theirs()), 0)
    what = f"{batches} batches of 16 x 4"
    return _measured(what, ours, theirs, lambda: torch.randperm(len(labels)), "a permutation of the images", repeats)


PEERS: dict[str, Callable[[bool, int], Measurement]] = {
    "torchreid": evaluation_of_torchreid,
    "open-metric-learning": evaluation_of_oml,
    "scikit-learn": evaluation_of_sklearn,
    "FAISS": neighbors_of_faiss,
    "pytorch-metric-learning (mining)": mining_of_pml,
    "pytorch-metric-learning (sampling)": sampling_of_pml,
    "torchvision": lambda full, repeats: next(data(full, repeats)),
    "POT": lambda full, repeats: next(assignment(full, repeats)),
}


def _people(full: bool) -> tuple[FeatureSet, FeatureSet]:
    return made_features(*((3368, 15913, 751, 768) if full else (300, 2000, 60, 256)))


def _evaluation(query: FeatureSet, gallery: FeatureSet, theirs: Callable[[], Tensor], repeats: int) -> Measurement:
    from aaformer_lit.metrics import evaluate_retrieval

    def ours() -> Tensor:
        found = evaluate_retrieval(query, gallery)
        return torch.tensor([found.mAP, found.cmc[1]])

    check("peers", ours(), theirs(), 1e-5)
    return _measured(f"mAP, CMC, {_size(query, gallery)}", ours, theirs, *_product(query, gallery), repeats)


def _product(query: FeatureSet, gallery: FeatureSet) -> tuple[Run, str]:
    return lambda: query.features @ gallery.features.t(), "the product"


def _size(query: FeatureSet, gallery: FeatureSet) -> str:
    return f"{len(query)} x {len(gallery)}, {query.features.shape[1]}-d"


def _measured(what: str, ours: Run, theirs: Run, floor: Run, floor_is: str, repeats: int) -> Measurement:
    return Measurement("", what, "", *compare(ours, theirs, repeats), fastest(floor, repeats), floor_is)
