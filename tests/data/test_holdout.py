"""Validation ids held out of training, and several training sets in one numbering."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aaformer_lit.data.counts import unmatched
from aaformer_lit.data.holdout import hold_out, union
from aaformer_lit.errors import ProtocolError
from aaformer_lit.structures import Record


def people(cameras_of: list[list[int]]) -> list[Record]:
    return [
        Record(Path(f"{pid}_{camid}_{n}.jpg"), pid, camid)
        for pid, cameras in enumerate(cameras_of)
        for n, camid in enumerate(cameras)
    ]


@given(
    cameras_of=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=12, max_size=20),
    share=st.floats(0.05, 0.3),
    seed=st.integers(0, 9),
)
@settings(max_examples=100, deadline=None)
def test_every_held_out_query_can_be_found(cameras_of: list[list[int]], share: float, seed: int) -> None:
    cameras_of[:8] = [[1, 2, 2]] * 8
    records = people(cameras_of)
    train, query, gallery = hold_out(records, share, seed)
    held = {r.pid for r in query}
    assert len(held) == max(2, round(share * len(cameras_of)))
    assert train == [r for r in records if r.pid not in held]
    assert gallery == [r for r in records if r.pid in held], "the camera rule hides each query from itself"
    assert not unmatched(query, gallery)
    assert len(query) == len({(r.pid, r.camid) for r in gallery})
    assert (train, query, gallery) == hold_out(records, share, seed)


def test_without_cameras_a_query_is_not_in_its_gallery() -> None:
    records = people([[-1, -1, -1]] * 6 + [[-1]])
    train, query, gallery = hold_out(records, 0.4, 0)
    assert len(query) == 3
    assert len(gallery) == 6
    assert not set(query) & set(gallery)
    assert {r.pid for r in train} >= {6}, "one image alone cannot be found again"


def test_frames_of_one_clip_cannot_find_each_other() -> None:
    clips = [[0, 0, 0]] * 9 + [[0, 0, 1]] * 3
    records = [
        Record(Path(f"{pid}_{n}.jpg"), pid, -1, sequence=10 * pid + clip)
        for pid, of_pid in enumerate(clips)
        for n, clip in enumerate(of_pid)
    ]
    _, query, gallery = hold_out(records, 0.25, 0)
    assert {r.pid for r in query} == {9, 10, 11}
    assert not unmatched(query, gallery)


def test_seeds_hold_out_different_ids() -> None:
    records = people([[1, 2]] * 30)
    assert len({tuple(hold_out(records, 0.2, seed)[1]) for seed in range(5)}) == 5


@pytest.mark.parametrize(("cameras_of", "share"), [([[1, 1]] * 10, 0.2), ([[1, 2]] * 10, 0.9), ([[1, 2]] * 3, 0.1)])
def test_too_few_ids(cameras_of: list[list[int]], share: float) -> None:
    with pytest.raises(ProtocolError, match=r"data.val_ids=0\.\d asks to hold out"):
        hold_out(people(cameras_of), share, 0)


def test_union_keeps_people_apart() -> None:
    first, second = people([[1], [2, 2], [3]]), people([[1, 4], [2]])
    joined = union([first, second, first])
    assert joined[:4] == first
    assert [r.pid for r in joined] == [0, 1, 1, 2, 3, 3, 4, 5, 6, 6, 7]
    assert [r.path for r in joined] == [r.path for r in [*first, *second, *first]]
    assert [r.camid for r in joined] == [r.camid for r in [*first, *second, *first]]
    assert union([[], first]) == first
