"""Families: siblings differ in one clue and nothing else; families, and train and test people, are different."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np
import pytest

from aaformer_lit.data.synthetic import SyntheticSpec
from aaformer_lit.data.synthetic.attributes import CLUES, Identity, color_distance, family_of, identity
from aaformer_lit.errors import ConfigError


def differences(a: Identity, b: Identity) -> set[str]:
    left, right = asdict(a), asdict(b)
    return {name for name in left if left[name] != right[name]}


def families(spec: SyntheticSpec, count: int) -> list[list[Identity]]:
    return [[identity(spec, f * spec.siblings + s + 1) for s in range(spec.siblings)] for f in range(count)]


@pytest.mark.parametrize("siblings", [2, 3, 4])
@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_siblings_differ_in_exactly_one_attribute_which_is_a_clue(siblings: int, difficulty: float) -> None:
    spec = SyntheticSpec(siblings=siblings, difficulty=difficulty)
    clues = Counter()
    for family in families(spec, 150):
        clue = differences(family[0], family[1])
        assert len(clue) == 1
        assert all(differences(a, b) == clue for a, b in combinations(family, 2))
        clues.update(clue)
    assert set(clues) == set(CLUES)


def test_people_of_different_families_differ_in_more_than_a_clue() -> None:
    spec = SyntheticSpec(difficulty=1.0)
    firsts = [family[0] for family in families(spec, 120)]
    assert min(len(differences(a, b)) for a, b in combinations(firsts, 2)) >= 3


def test_a_clue_can_be_seen() -> None:
    for family in families(SyntheticSpec(siblings=3, seed=4), 300):
        clue = differences(family[0], family[1]).pop()
        if clue == "carried_color":
            assert family[0].carried != "none"
        if clue == "pattern_color":
            assert family[0].pattern != "plain"
        if clue.endswith("_color"):
            pairs = [color_distance(getattr(a, clue), getattr(b, clue)) for a, b in combinations(family, 2)]
            assert min(pairs) > 60


def test_clues_are_less_distinct_the_harder_the_data() -> None:
    def mean_distance(difficulty: float) -> float:
        distances = []
        for a, b in families(SyntheticSpec(difficulty=difficulty), 300):
            clue = differences(a, b).pop()
            if clue.endswith("_color"):
                distances.append(color_distance(getattr(a, clue), getattr(b, clue)))
        return float(np.mean(distances))

    easy, medium, hard = map(mean_distance, (0.0, 0.5, 1.0))
    assert easy > medium > hard


def test_families_dress_more_alike_the_harder_the_data() -> None:
    def dark(difficulty: float) -> float:
        people = [family[0] for family in families(SyntheticSpec(difficulty=difficulty, siblings=1), 400)]
        return float(np.mean([max(who.upper_color) < 140 for who in people]))

    assert dark(1.0) > dark(0.0) + 0.15


def test_an_identity_depends_on_seed_siblings_and_difficulty_alone() -> None:
    spec = SyntheticSpec(num_train_ids=10)
    same = replace(spec, num_train_ids=99, num_cameras=2, occlusion=0.9, misalignment=0.0, height=256, width=128)
    assert [identity(spec, pid) for pid in range(1, 30)] == [identity(same, pid) for pid in range(1, 30)]
    assert identity(spec, 1) != identity(replace(spec, seed=1), 1)


@pytest.mark.parametrize(("train", "siblings"), [(7, 3), (8, 4), (5, 2), (6, 1)])
def test_train_and_test_share_neither_people_nor_families(train: int, siblings: int) -> None:
    spec = SyntheticSpec(num_train_ids=train, num_test_ids=9, siblings=siblings)
    assert (len(spec.train_pids), len(spec.test_pids)) == (train, 9)
    assert not {family_of(spec, pid) for pid in spec.train_pids} & {family_of(spec, pid) for pid in spec.test_pids}


def test_redmean_distance() -> None:
    # from the formula, by hand: mean red 127.5, differences 255
    assert color_distance((0, 0, 0), (255, 255, 255)) == pytest.approx((9 - 1 / 256) ** 0.5 * 255, rel=1e-6)
    assert color_distance((10, 20, 30), (10, 20, 30)) == 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"num_train_ids": 0}, "num_train_ids >= 1; got 0"),
        ({"siblings": 5}, "1 to 4 siblings"),
        ({"difficulty": 1.2}, "difficulty is a number from 0 to 1; got 1.2"),
        ({"occlusion": -0.1}, "occlusion is a number from 0 to 1"),
        ({"height": 8}, "height >= 32; got 8"),
    ],
)
def test_impossible_specs_are_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SyntheticSpec(**wrong)  # type: ignore[arg-type]
