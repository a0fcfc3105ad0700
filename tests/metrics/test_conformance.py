"""The conformance cases are right by hand-made arithmetic, this package follows them, and evaluations that break one rule do
not."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from importlib.resources import files
from typing import Any

import pytest
import torch

import reference
from aaformer_lit.errors import ProtocolError
from aaformer_lit.metrics import ReIDRetrieval, evaluate_retrieval, single_shot
from aaformer_lit.metrics.conformance import Case, cases, check, evaluate_here
from aaformer_lit.structures import FeatureSet

CASES = cases()
BY_NAME = {case.name: case for case in CASES}
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def by_fractions(hits: list[list[int]]) -> dict[str, Fraction]:
    """All measures from the ranks of the matches, exactly."""
    found = [ranks for ranks in hits if ranks]
    precision = [sum(Fraction(k, r) for k, r in enumerate(ranks, 1)) / len(ranks) for ranks in found]
    before = [
        sum(Fraction(k - 1, r - 1) if r > 1 else Fraction(1) for k, r in enumerate(ranks, 1)) / len(ranks)
        for ranks in found
    ]
    count = len(found)
    values = {
        "valid_queries": Fraction(count),
        "mAP": sum(precision, Fraction()) / count,
        "mINP": sum((Fraction(len(ranks), ranks[-1]) for ranks in found), Fraction()) / count,
        "mAP_trapezoid": (sum(precision, Fraction()) + sum(before, Fraction())) / 2 / count,
    }
    return values | {f"rank{k}": Fraction(sum(ranks[0] <= k for ranks in found), count) for k in (1, 5, 10)}


@each_case
def test_the_expected_numbers_follow_from_the_hits(case: Case) -> None:
    if case.hits:
        assert case.expected == by_fractions([list(ranks) for ranks in case.hits])
    else:
        assert case.draws


@each_case
def test_this_package_conforms(case: Case) -> None:
    got = evaluate_here(case)
    assert set(case.expected) <= set(got)
    for name, value in case.expected.items():
        assert got[name] == pytest.approx(float(value), abs=1e-12), case.rule


def test_nothing_disagrees_and_every_rule_has_its_case() -> None:
    assert check(evaluate_here) == []
    rules = {
        "camera_rule",
        "junk",
        "distractors",
        "ties",
        "single_shot",
        "padding_copies",
        "cameras_by_name",
        "self_match",
    }
    assert rules <= set(BY_NAME)


def test_the_metric_conforms_and_drops_the_copies_of_several_processes() -> None:
    case = BY_NAME["padding_copies"]
    query, gallery = case.feature_sets()
    features = torch.cat([query.features, gallery.features])[:, None]
    pids, camids = torch.cat([query.pids, gallery.pids]), torch.cat([query.camids, gallery.camids])
    assert query.sequences is not None
    assert gallery.sequences is not None
    sequences = [*query.sequences.tolist(), *gallery.sequences.tolist()]
    metric = ReIDRetrieval(len(query), normalize=False, sequences=sequences)
    seen = [index for share in case.processes for index in share]
    assert len(seen) > len(set(seen)) == len(pids)
    for share in case.processes:
        rows = torch.tensor(share)
        metric.update(features[rows], pids[rows], camids[rows], rows)
    got = metric.compute()[""].as_dict("")
    assert check(lambda one: got if one is case or one.name == case.name else {}) == []


def loop(case: Case) -> dict[str, float]:
    """The reference of these tests, which knows cameras and junk but no clips."""
    query, gallery = case.feature_sets()
    distances = reference.squared_euclidean(query.features.numpy(), gallery.features.numpy())
    labels = (query.pids, query.camids, gallery.pids, gallery.camids)
    found = reference.retrieval(distances, *(label.tolist() for label in labels))
    return {"mAP": found.mAP, "mINP": found.mINP, "rank1": found.cmc[1]}


def test_a_slow_loop_agrees_where_it_knows_the_rules() -> None:
    beyond = {"self_match", "same_sequence", "single_shot"}
    assert {one.case for one in check(lambda case: {} if case.name in beyond else loop(case))} == set()
    assert {one.case for one in check(lambda case: loop(case) if case.name in beyond else {})} == beyond


def broken(how: str) -> Any:
    def evaluate(case: Case) -> dict[str, float]:
        query, gallery = case.feature_sets()
        if how == "no camera rule":
            query = FeatureSet(query.features, query.pids, torch.full_like(query.camids, -1), query.sequences)
        elif how == "junk stays":
            gallery = FeatureSet(gallery.features, gallery.pids.where(gallery.pids != -1, 999), gallery.camids)
        elif how == "no distractors":
            gallery = gallery.select(gallery.pids != 0)
        elif how == "ties the other way":
            gallery = gallery.select(torch.arange(len(gallery) - 1, -1, -1))
        elif how == "own file counts":
            query = FeatureSet(query.features, query.pids, query.camids)
        elif how == "cameras numbered in each split":
            query, gallery = (
                replace(side, camids=torch.tensor([sorted(set(map(str, names))).index(str(name)) for name in names]))
                for side, names in ((query, case.query.camids), (gallery, case.gallery.camids))
            )
        try:
            return {} if case.draws else evaluate_retrieval(query, gallery).as_dict("")
        except ProtocolError:  # no query has a match any more
            return {"mAP": 0.0}

    return evaluate


@pytest.mark.parametrize(
    ("how", "noticed"),
    [
        ("no camera rule", "camera_rule"),
        ("junk stays", "junk"),
        ("no distractors", "distractors"),
        ("ties the other way", "ties"),
        ("own file counts", "self_match"),
        ("own file counts", "same_sequence"),
        ("cameras numbered in each split", "cameras_by_name"),
    ],
)
def test_a_broken_rule_is_noticed_by_its_case(how: str, noticed: str) -> None:
    found = check(broken(how))
    assert noticed in {one.case for one in found}
    assert any(BY_NAME[noticed].rule in str(one) for one in found)


def test_the_file_has_the_form_of_the_schema() -> None:
    """By hand, as a validator is no dependency: the fields that the schema names, and no others."""
    folder = files("aaformer_lit.metrics.conformance")
    schema = json.loads(folder.joinpath("schema.json").read_text())
    content = json.loads(folder.joinpath("cases.json").read_text())
    definitions = schema["$defs"]
    assert content["version"] == schema["properties"]["version"]["const"]
    for case in content["cases"]:
        parts = [("case", case), ("expected", case["expected"]), ("images", case["query"]), ("images", case["gallery"])]
        for name, part in parts:
            assert set(definitions[name]["required"]) <= set(part) <= set(definitions[name]["properties"])
        for side in (case["query"], case["gallery"]):
            assert len({len(values) for values in side.values()}) == 1


def test_draws_take_one_image_of_each_person_and_repeat() -> None:
    pids = torch.tensor([5, 3, 5, 0, 3, 5, 9])
    drawn = single_shot(pids, 20, seed=1)
    for rows in drawn:
        assert sorted(pids[rows].tolist()) == [0, 3, 5, 9]
        assert rows.tolist() == sorted(rows.tolist())
    assert all(torch.equal(*pair) for pair in zip(drawn, single_shot(pids, 20, seed=1), strict=True))
    chosen = {int(row) for rows in drawn for row in rows}
    assert chosen == set(range(7)), "every image is drawn some time"


def test_the_metric_averages_over_its_draws() -> None:
    case = BY_NAME["single_shot"]
    query, gallery = case.feature_sets()
    metric = ReIDRetrieval(len(query), normalize=False, draws=5)
    features = torch.cat([query.features, gallery.features])[:, None]
    pids, camids = torch.cat([query.pids, gallery.pids]), torch.cat([query.camids, gallery.camids])
    metric.update(features, pids, camids, torch.arange(len(pids)))
    got = metric.compute()[""]
    each = [evaluate_retrieval(query, gallery.select(rows)) for rows in single_shot(gallery.pids, 5)]
    assert got.mAP == pytest.approx(sum(one.mAP for one in each) / 5)
    values = torch.tensor([one.mAP for one in each], dtype=torch.float64)
    assert got.as_dict()["test/deviation/mAP"] == pytest.approx(values.std().item())
