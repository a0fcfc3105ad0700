"""Models as people choose them: how well each does on each data set, how large and how fast it is.

One line per model, one pair of columns (mAP, Rank-1) per test set; then each model's difference to the first one, query by
query. Both answered the same queries, so the interval of a difference is narrower than those of the two numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aaformer_lit.structures import RetrievalMetrics
from aaformer_lit.tables.bootstrap import PairedDifference, paired_bootstrap
from aaformer_lit.tables.document import Document, Grid, Section
from aaformer_lit.tables.paper import METRICS
from aaformer_lit.utils.text import plural

SHOWN = ("mAP", "rank1")


@dataclass(frozen=True)
class ModelFacts:
    """What a model costs.

    Args:
        name: in the tables.
        ckpt: where it came from.
        network: its class.
        trained_on: its training data, as far as it says.
        parameters: of the network, without the classifiers, which are for training only.
        weight_bytes: of these parameters and the running statistics, as they are kept in float32.
        descriptor: numbers that describe an image.
        images_per_second: of the network alone, images in memory.
        speed: images per second over those of the first model, measured in turns.
    """

    name: str
    ckpt: str
    network: str
    trained_on: str
    parameters: int
    weight_bytes: int
    descriptor: int
    images_per_second: float
    speed: float


@dataclass(frozen=True)
class ModelComparison:
    """Models on test sets.

    Args:
        models: the first one is what the others are compared with.
        results: by test set, then one per model in their order.
        differences: to the first model, in points, by test set, model name and metric; None where the two models did not
            answer the same queries.
        speed: how the speed was measured, in words.
    """

    models: Sequence[ModelFacts]
    results: Mapping[str, Sequence[RetrievalMetrics]]
    differences: Mapping[str, Mapping[str, Mapping[str, PairedDifference | None]]]
    speed: str

    def document(self) -> Document:
        """The tables."""
        first = self.models[0].name
        notes = [
            "parameters and MB: of the network without the classifiers, which are for training only; float32",
            f"images/s: {self.speed}; in brackets over the first model's, measured in turns",
        ]
        sections = [Section("mAP and Rank-1", [self._matrix()]), Section("Size and speed", [self._costs()], notes)]
        if len(self.models) > 1:
            drawn = (
                "paired bootstrap over queries; the intervals cover the choice of queries, not the chance in training"
            )
            sections.append(Section(f"Difference to {first}", [self._differences()], [drawn]))
        what = f"{plural(len(self.models), 'model')}, {plural(len(self.results), 'test set')}"
        return Document("Models compared", what, sections)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: fractions of 1, differences in points."""
        cells = [
            {"model": model.name, "data": name, "queries": result.num_valid_queries}
            | result.as_dict("")
            | {"difference": {metric: d and asdict(d) for metric, d in self._of(name, model.name).items()}}
            for name, results in self.results.items()
            for model, result in zip(self.models, results, strict=True)
        ]
        return {"models": [asdict(model) for model in self.models], "speed": self.speed, "results": cells}

    def _of(self, name: str, model: str) -> Mapping[str, PairedDifference | None]:
        return self.differences.get(name, {}).get(model, {})

    def _matrix(self) -> Grid:
        header = ["model", "trained on", *(f"{name} {METRICS[m]}" for name in self.results for m in SHOWN)]
        lines = [
            [
                model.name,
                model.trained_on,
                *(f"{100 * value:.1f}" for results in self.results.values() for value in _scores(results[number])),
            ]
            for number, model in enumerate(self.models)
        ]
        return [header, *lines]

    def _costs(self) -> Grid:
        header = ["model", "network", "parameters, M", "MB", "descriptor", "images/s"]
        return [header] + [
            [
                model.name,
                model.network,
                f"{model.parameters / 1e6:.2f}",
                f"{model.weight_bytes / 1e6:.1f}",
                f"{model.descriptor:,}",
                f"{model.images_per_second:.3g} ({model.speed:.2f}x)",
            ]
            for model in self.models
        ]

    def _differences(self) -> Grid:
        lines = [["model", "data", "metric", "difference", "95% interval", "p", "queries"]]
        for name in self.results:
            for model in self.models[1:]:
                for metric, d in self._of(name, model.name).items():
                    what = [model.name, name, METRICS[metric]]
                    if d is None:
                        lines.append([*what, "other queries", "-", "-", "-"])
                    else:
                        interval = f"{d.low:+.1f} to {d.high:+.1f}"
                        lines.append([*what, f"{d.mean:+.1f}", interval, f"{d.p_value:.2g}", str(d.queries)])
        return lines


def differences(
    result: RetrievalMetrics, first: RetrievalMetrics, samples: int, seed: int
) -> dict[str, PairedDifference | None]:
    """`result - first` in points, by metric; None where they did not answer the same queries."""
    if result.per_query.index.tolist() != first.per_query.index.tolist():
        return dict.fromkeys(SHOWN)
    pairs = zip(SHOWN, _per_query(result), _per_query(first), strict=True)
    return {metric: paired_bootstrap(ours, theirs, samples, seed=seed) for metric, ours, theirs in pairs}


def _scores(result: RetrievalMetrics) -> tuple[float, float]:
    return result.mAP, result.cmc[1]


def _per_query(result: RetrievalMetrics) -> tuple[np.ndarray, np.ndarray]:
    """Average precision, and whether the first answer is right, of each query in percent; one row, as of one seed."""
    each = result.per_query
    return 100 * each.average_precision.double().numpy()[None], 100 * (each.first_hit_rank == 1).double().numpy()[None]


def short_names(ckpts: Sequence[str]) -> list[str]:
    """The checkpoints' paths without the folders that all share at their beginning and at their end."""
    parts = [tuple(part for part in ckpt.split("/") if part not in ("", ".")) for ckpt in ckpts]
    while len(parts) > 1 and all(len(one) > 1 for one in parts) and len({one[0] for one in parts}) == 1:
        parts = [one[1:] for one in parts]
    while len(parts) > 1 and all(len(one) > 1 for one in parts) and len({one[-1] for one in parts}) == 1:
        parts = [one[:-1] for one in parts]
    return ["/".join(one) for one in parts]
