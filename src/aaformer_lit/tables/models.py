"""Models as people choose them: how well each does on each data set, how large and how fast it is.

One line per model, and per cut where the test images were cut off; of each test set mAP, Rank-1, and NMI where there is one.
Then each model's difference to the first one, query by query. Both answered the same queries, so the interval of a
difference is narrower than those of the two numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from aaformer_lit.structures import RetrievalMetrics
from aaformer_lit.tables.bootstrap import PairedDifference, paired_bootstrap
from aaformer_lit.tables.document import Document, Grid, Section
from aaformer_lit.tables.paper import METRICS
from aaformer_lit.utils.text import plural, significant

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
class ModelTest:
    """One model on one test set.

    Args:
        model, data: their names in the tables.
        cut: share of the height that the images have lost.
        result: what it found.
        nmi: of its parts and body parts, the mean over layers, heads and granularities; None where it was not measured.
        difference: to the first model, in points, by metric; None where the two did not answer the same queries; empty
            for the first model itself.
    """

    model: str
    data: str
    cut: float
    result: RetrievalMetrics
    nmi: float | None = None
    difference: Mapping[str, PairedDifference | None] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: fractions of 1, differences in points."""
        where = {"model": self.model, "data": self.data, "cut": self.cut, "queries": self.result.num_valid_queries}
        difference = {metric: d and asdict(d) for metric, d in self.difference.items()}
        return where | self.result.as_dict("") | {"nmi": self.nmi, "difference": difference}


@dataclass(frozen=True)
class ModelComparison:
    """Models on test sets.

    Args:
        models: the first one is what the others are compared with.
        tests: of every model on every test set at every cut.
        speed: how the speed was measured, in words.
    """

    models: Sequence[ModelFacts]
    tests: Sequence[ModelTest]
    speed: str

    @property
    def data(self) -> list[str]:
        """The test sets."""
        return list(dict.fromkeys(test.data for test in self.tests))

    @property
    def cuts(self) -> list[float]:
        return list(dict.fromkeys(test.cut for test in self.tests))

    def document(self) -> Document:
        """The tables."""
        first = self.models[0].name
        notes = [
            "parameters and MB: of the network without the classifiers, which are for training only; float32",
            f"images/s: {self.speed}; in brackets over the first model's, measured in turns",
        ]
        aligned = any(test.nmi is not None for test in self.tests)
        nmi = ["NMI: of parts and body parts, the mean over layers, heads and granularities"] if aligned else []
        sections = [
            Section("mAP and Rank-1", [self._matrix()], nmi),
            Section("Size and speed", [self._costs()], notes),
        ]
        if len(self.models) > 1:
            drawn = (
                "paired bootstrap over queries; the intervals cover the choice of queries, not the chance in training"
            )
            sections.append(Section(f"Difference to {first}", [self._differences()], [drawn]))
        what = f"{plural(len(self.models), 'model')}, {plural(len(self.data), 'test set')}"
        return Document("Models compared", what, sections)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: fractions of 1, differences in points."""
        tests = [test.as_dict() for test in self.tests]
        return {"models": [asdict(model) for model in self.models], "speed": self.speed, "results": tests}

    def over_cuts(self, data: str) -> dict[str, dict[str, list[float]]]:
        """Of one test set: mAP by model, and NMI of the models that have it, in the order of `cuts`."""
        lines: dict[str, dict[str, list[float]]] = {}
        for test in self.tests:
            scores = {"mAP": test.result.mAP, "NMI of parts and body parts": test.nmi} if test.data == data else {}
            for score, value in scores.items():
                if value is not None:
                    lines.setdefault(score, {}).setdefault(test.model, []).append(value)
        return lines

    def _matrix(self) -> Grid:
        cut_off = self.cuts != [0]
        aligned = {test.data for test in self.tests if test.nmi is not None}
        columns = {name: ["mAP", "Rank-1", "NMI"][: 3 if name in aligned else 2] for name in self.data}
        header = [f"{name} {column}" for name, several in columns.items() for column in several]
        lines = [["model", "trained on", *["cut off"] * cut_off, *header]]
        for cut, model in product(self.cuts, self.models):
            cells = []
            for test in self.tests:
                if (test.cut, test.model) == (cut, model.name):
                    scores = [test.result.mAP, test.result.cmc[1], test.nmi][: len(columns[test.data])]
                    cells += ["-" if score is None else f"{100 * score:.1f}" for score in scores]
            lines.append([model.name, model.trained_on, *[f"{100 * cut:g}%"] * cut_off, *cells])
        return lines

    def _costs(self) -> Grid:
        header = ["model", "network", "parameters, M", "MB", "descriptor", "images/s"]
        return [header] + [
            [
                model.name,
                model.network,
                f"{model.parameters / 1e6:.2f}",
                f"{model.weight_bytes / 1e6:.1f}",
                f"{model.descriptor:,}",
                f"{significant(model.images_per_second)} ({model.speed:.2f}x)",
            ]
            for model in self.models
        ]

    def _differences(self) -> Grid:
        lines = [["model", "data", "metric", "difference", "95% interval", "p", "queries"]]
        for test in self.tests:
            where = test.data if not test.cut else f"{test.data}, {100 * test.cut:g}% cut off"
            for metric, d in test.difference.items():
                cells = ["other queries", "-", "-", "-"] if d is None else [*d.cells, str(d.queries)]
                lines.append([test.model, where, METRICS[metric], *cells])
        return lines


def differences(
    result: RetrievalMetrics, first: RetrievalMetrics, samples: int, seed: int
) -> dict[str, PairedDifference | None]:
    """`result - first` in points, by metric; None where they did not answer the same queries."""
    if result.per_query.index.tolist() != first.per_query.index.tolist():
        return dict.fromkeys(SHOWN)
    pairs = zip(SHOWN, _per_query(result), _per_query(first), strict=True)
    return {metric: paired_bootstrap(ours, theirs, samples, seed=seed) for metric, ours, theirs in pairs}


def _per_query(result: RetrievalMetrics) -> tuple[np.ndarray, np.ndarray]:
    """Average precision, and whether the first answer is right, of each query in percent; one row, as of one seed."""
    each = result.per_query
    first = (each.first_hit_rank == 1).double().numpy()
    draws = [one.per_query for one in getattr(result, "single", ())]
    if draws:  # of single-shot galleries: the share of the draws, as Rank-1 is their mean
        rows = [np.searchsorted(each.index.numpy(), draw.index.numpy()) for draw in draws]
        hits = [(draw.first_hit_rank == 1).double().numpy() for draw in draws]
        first = np.bincount(np.concatenate(rows), np.concatenate(hits)) / np.bincount(np.concatenate(rows))
    return 100 * each.average_precision.double().numpy()[None], 100 * first[None]


def short_names(ckpts: Sequence[str]) -> list[str]:
    """The checkpoints' paths without the folders that all share at their beginning and at their end."""
    parts = [Path(ckpt).parts for ckpt in ckpts]
    while len(parts) > 1 and all(len(one) > 1 for one in parts) and len({one[0] for one in parts}) == 1:
        parts = [one[1:] for one in parts]
    while len(parts) > 1 and all(len(one) > 1 for one in parts) and len({one[-1] for one in parts}) == 1:
        parts = [one[:-1] for one in parts]
    return [Path(*one).as_posix() for one in parts]
