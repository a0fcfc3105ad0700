"""Slow, obvious loops to compare the fast metrics with: one query, one image, one pair at a time, in plain numpy.

Each follows the published definition step by step and shares no code with the package. They take a distance matrix where ties
matter, since two ways to compute the same distance differ in the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class SlowRetrieval:
    mAP: float
    mAP_trapezoid: float
    mINP: float
    cmc: dict[int, float]
    num_valid_queries: int
    index: list[int]
    average_precision: list[float]
    first_hit_rank: list[int]


def retrieval(distances, query_pids, query_camids, gallery_pids, gallery_camids, ranks=(1, 5, 10)) -> SlowRetrieval:
    """Market-1501 protocol, query by query, with a full stable sort of each row."""
    index, aps, trapezoids, inps, firsts = [], [], [], [], []
    for i in range(len(query_pids)):
        matches = []
        for j in sorted(range(len(gallery_pids)), key=lambda j: (distances[i][j], j)):
            if gallery_pids[j] == -1:
                continue
            same_pid = gallery_pids[j] == query_pids[i]
            if same_pid and query_camids[i] != -1 and gallery_camids[j] == query_camids[i]:
                continue
            matches.append(bool(same_pid))
        if not any(matches):
            continue
        index.append(i)
        total = sum(matches)
        precisions = [sum(matches[: r + 1]) / (r + 1) for r in range(len(matches)) if matches[r]]
        aps.append(sum(precisions) / total)
        trapezoids.append(market_toolbox_ap(matches))
        inps.append(total / (max(r for r, m in enumerate(matches) if m) + 1))
        firsts.append(matches.index(True) + 1)
    return SlowRetrieval(
        mAP=mean(aps),
        mAP_trapezoid=mean(trapezoids),
        mINP=mean(inps),
        cmc={k: mean([f <= k for f in firsts]) for k in ranks},
        num_valid_queries=len(index),
        index=index,
        average_precision=aps,
        first_hit_rank=firsts,
    )


def mean(values) -> float:
    return float(sum(values) / len(values)) if values else float("nan")


def market_toolbox_ap(matches) -> float:
    """Area under the precision-recall curve as the toolbox draws it: a straight line from each rank to the next."""
    total, area, found = sum(matches), 0.0, 0
    old_recall, old_precision = 0.0, 1.0
    for rank, match in enumerate(matches, start=1):
        found += match
        recall, precision = found / total, found / rank
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return area


def squared_euclidean(a, b):
    """In float64, from differences."""
    return np.array([[float(((x - y) ** 2).sum()) for y in np.float64(b)] for x in np.float64(a)])


def k_reciprocal_rerank(query, gallery, k1=20, k2=6, lambda_value=0.3):
    """Zhong et al., CVPR 2017, with dense N x N matrices, image by image."""
    queries, everyone = len(query), np.concatenate([query, gallery])
    images = len(everyone)
    squared = squared_euclidean(everyone, everyone)
    scaled = np.stack([row / row.max() for row in squared])
    order = np.stack([np.argsort(row, kind="stable") for row in scaled])

    def reciprocal(image, k):
        return [j for j in order[image, : k + 1] if image in order[j, : k + 1]]

    weights = np.zeros((images, images))
    for i in range(images):
        base = reciprocal(i, k1)
        members = set(base)
        for candidate in base:
            theirs = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(set(theirs) & set(base)) > 2 / 3 * len(theirs):
                members |= set(theirs)
        members = sorted(members)  # none, where k + 1 earlier images are equal to this one
        weight = np.exp(-scaled[i, members])
        weights[i, members] = weight / weight.sum()
    if k2 > 1:
        weights = np.stack([weights[order[i, :k2]].mean(axis=0) for i in range(images)])
    out = np.zeros((queries, len(gallery)))
    for i in range(queries):
        for j in range(len(gallery)):
            overlap = np.minimum(weights[i], weights[queries + j]).sum()
            jaccard = 1 - overlap / (2 - overlap)
            out[i, j] = (1 - lambda_value) * jaccard + lambda_value * scaled[i, queries + j]
    return out


def expand(features, database, k, alpha):
    """Each feature plus its k most similar database features, weighted by cosine similarity to the power alpha."""
    out = []
    for feature in np.float64(features):
        unit = feature / np.linalg.norm(feature)
        directions = [row / np.linalg.norm(row) for row in np.float64(database)]
        nearest = sorted(directions, key=lambda d: -float(unit @ d))[:k]
        total = unit + sum(max(float(unit @ d), 0.0) ** alpha * d for d in nearest)
        out.append(total / np.linalg.norm(total))
    return np.stack(out)
