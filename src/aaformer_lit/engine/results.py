"""What a test found, flattened to the names of `metrics.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from aaformer_lit.metrics import PartAlignment
from aaformer_lit.metrics.retrieval import flatten_subsets
from aaformer_lit.structures import RetrievalMetrics
from aaformer_lit.utils.text import granularity_names

Results = dict[str, dict[str, RetrievalMetrics]]


def flatten_results(results: Results) -> dict[str, float]:
    """Names as in `metrics.json`: one test set `test/mAP`, `test/mAP_parts`; several also `test/<set>/mAP`, and their mean."""
    return _flatten_sets({name: flatten_subsets(subsets, "") for name, subsets in results.items()})


Alignments = dict[str, tuple[PartAlignment, ...]]


def flatten_alignment(results: Mapping[str, Sequence[PartAlignment]]) -> dict[str, float]:
    """Names as in `metrics.json`, of the last layer: `test/alignment/nmi` is the mean of the granularities,
    `test/alignment/nmi_parts_2` that of one; several test sets also have `test/<set>/alignment/nmi`, and their mean.
    """
    return _flatten_sets({name: _of_granularities(alignments) for name, alignments in results.items()})


def _flatten_sets(per_set: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The means over the test sets, and where there are several, the values of each."""
    flat = {f"test/{key}": value for key, value in _mean(list(per_set.values())).items()}
    if len(per_set) > 1:
        for name, values in per_set.items():
            flat |= {f"test/{name}/{key}": value for key, value in values.items()}
    return flat


def mean_nmi(alignments: Sequence[PartAlignment]) -> float | None:
    """The mean over granularities, layers and heads; None without parts."""
    values = [alignment.nmi.mean().item() for alignment in alignments]
    return sum(values) / len(values) if values else None


def _of_granularities(alignments: Sequence[PartAlignment]) -> dict[str, float]:
    each = [alignment.last_layer() for alignment in alignments]
    flat = _mean(each)
    if len(each) > 1:
        for granularity, values in zip(granularity_names([one.parts for one in alignments]), each, strict=True):
            flat |= {f"{key}_{granularity}": value for key, value in values.items()}
    return {f"alignment/{key}": value for key, value in flat.items()}


def _mean(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of what all of them have."""
    shared = [key for key in (several[0] if several else ()) if all(key in values for values in several)]
    return {key: sum(values[key] for values in several) / len(several) for key in shared}


def alignment_rows(results: Mapping[str, Sequence[PartAlignment]]) -> list[dict[str, Any]]:
    """One row per test set, granularity, layer and head (both counted from 1).

    `background_share` is the mean over the parts of the attention that falls on background; `subset_share` and `counts`
    have an entry per part: its share of all patches, and its patches by body part, the last entry being background.
    """
    rows = []
    for name, alignments in results.items():
        for one in alignments:
            for layer, head in torch.cartesian_prod(*map(torch.arange, one.nmi.shape)).tolist():
                share = one.background_attention
                row = {
                    "set": name,
                    "parts": one.parts,
                    "layer": layer + 1,
                    "head": head + 1,
                    "nmi": one.nmi[layer, head].item(),
                    "purity": one.purity[layer, head].item(),
                    "background_share": None if share is None else share[layer, head].mean().item(),
                    "background_patches": one.background[layer, head].mean().item(),
                    "subset_entropy": one.subset_entropy[layer, head].item(),
                    "subset_share": one.subset_share[layer, head].tolist(),
                    "counts": one.counts[layer, head].tolist(),
                }
                rows.append(row)
    return rows


def alignment_text(body_parts: Sequence[str], results: Mapping[str, Sequence[PartAlignment]]) -> str:
    """`{"body_parts": [...], "rows": [...]}`, one row of the table per line."""
    rows = ",\n".join(json.dumps(row) for row in alignment_rows(results))
    return f'{{"body_parts": {json.dumps([*body_parts, "background"])}, "rows": [\n{rows}\n]}}\n'
