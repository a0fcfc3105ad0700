"""Does an evaluation follow the re-ID protocol? Small cases with exact answers, for this package and for any other.

`cases.json` (in the form of `schema.json`) holds queries and galleries of a few images each, one case for each point on which
evaluations differ: camera rule, junk, distractors, ties, single-shot draws, padding copies of several processes, cameras named
by the splits, self-matches, clips. An image has one feature, its position on a line, so that distances can be told by eye.
Expected numbers are fractions.

    from aaformer_lit.metrics.conformance import check
    check(lambda case: my_evaluation(case.query, case.gallery))    # {"mAP": ..., "rank1": ...}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from typing import Any

import torch

from aaformer_lit.metrics.draws import mean_of_draws
from aaformer_lit.metrics.protocol import UNKNOWN_CAMID
from aaformer_lit.metrics.ranking import evaluate_retrieval
from aaformer_lit.structures import FeatureSet


@dataclass(frozen=True, slots=True)
class Images:
    """One side of a case: per image its position (the only feature), pid, camera (None: unknown) and clip or file."""

    positions: Sequence[float]
    pids: Sequence[int]
    camids: Sequence[int | str | None]
    sequences: Sequence[str | None] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One point of the protocol. See `schema.json` for the fields.

    `expected`: exact numbers by name; `variance_*` are over the draws. `hits`: the ranks of each query's matches, where there
    are no draws.
    """

    name: str
    rule: str
    query: Images
    gallery: Images
    expected: Mapping[str, Fraction]
    hits: Sequence[Sequence[int]] = ()
    draws: Sequence[Sequence[int]] = ()
    processes: Sequence[Sequence[int]] = ()

    def feature_sets(self) -> tuple[FeatureSet, FeatureSet]:
        """Both sides as this package compares them; cameras and clips are numbered over both."""
        known = dict.fromkeys(one for one in (*self.query.camids, *self.gallery.camids) if one is not None)
        cameras = {None: UNKNOWN_CAMID} | {camid: number for number, camid in enumerate(known)}
        sides = (self.query, self.gallery)
        clips = [clip for side in sides for clip in side.sequences or [None] * len(side.pids)]
        alone = iter(range(len(clips)))  # images of no clip are each by itself
        names = [next(alone) if clip is None else clip for clip in clips]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        sequences = [numbers[name] for name in names]
        split = len(self.query.pids)
        first, second = (
            FeatureSet(
                torch.tensor(side.positions, dtype=torch.float32)[:, None],
                torch.tensor(side.pids),
                torch.tensor([cameras[camid] for camid in side.camids]),
                torch.tensor(own),
            )
            for side, own in zip(sides, (sequences[:split], sequences[split:]), strict=True)
        )
        return first, second


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A number that an evaluation gave and that is another by the protocol."""

    case: str
    name: str
    got: float
    expected: Fraction
    rule: str

    def __str__(self) -> str:
        return (
            f"{self.case}: {self.name} is {self.got:.6f}, not {self.expected} = {float(self.expected):.6f}. {self.rule}"
        )


def cases() -> list[Case]:
    """All cases, in the order of the file."""
    content = json.loads(files(__package__).joinpath("cases.json").read_text(encoding="utf-8"))
    return [_case(case) for case in content["cases"]]


def check(evaluate: Callable[[Case], Mapping[str, float]], tolerance: float = 1e-6) -> list[Disagreement]:
    """What an evaluation computes differently; nothing if it conforms.

    Args:
        evaluate: gives numbers for a case, by the names in its `expected`; those that it does not give are not compared.
        tolerance: the largest difference that counts as none.
    """
    return [
        Disagreement(case.name, name, float(got), case.expected[name], case.rule)
        for case in cases()
        for name, got in evaluate(case).items()
        if name in case.expected and not abs(float(got) - float(case.expected[name])) <= tolerance
    ]


def evaluate_here(case: Case) -> dict[str, float]:
    """A case by this package's `evaluate_retrieval`; copies of several processes are for `ReIDRetrieval` to drop."""
    query, gallery = case.feature_sets()
    if not case.draws:
        found = evaluate_retrieval(query, gallery)
        return found.as_dict("") | {"valid_queries": found.num_valid_queries}
    drawn = mean_of_draws([evaluate_retrieval(query, gallery.select(torch.tensor(rows))) for rows in case.draws])
    variances = {f"variance_{name}": value**2 for name, value in drawn.deviation.items()}
    return drawn.as_dict("") | variances | {"valid_queries": drawn.num_valid_queries}


def _case(content: dict[str, Any]) -> Case:
    expected = dict(content["expected"])
    hits = expected.pop("hits", ())
    sides = {side: Images(**content[side]) for side in ("query", "gallery")}
    exact = {name: Fraction(value) for name, value in expected.items()}
    return Case(**content | sides | {"expected": exact, "hits": hits})
