"""No file name outside a data set's form is ever given an identity.

The parsers are compared with readers that take a name apart by hand, on names of the form, on names one edit away from it, and
on any text.
"""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aaformer_lit.data.dataset import ReIDDataset
from aaformer_lit.data.datasets.cuhk03 import CUHK03
from aaformer_lit.data.datasets.dukemtmc import DukeMTMC
from aaformer_lit.data.datasets.folder import FolderDataset
from aaformer_lit.data.datasets.market1501 import Market1501
from aaformer_lit.data.datasets.msmt17 import MSMT17
from aaformer_lit.data.datasets.occluded_duke import OccludedDuke

Parsed = tuple[int, int] | None


def digits(text: str, count: int, among: str = string.digits) -> bool:
    return len(text) == count and all(c in among for c in text)


def market(name: str) -> Parsed:
    stem = name[:-4] if name.endswith((".jpg", ".png")) else ""
    parts = (stem.removesuffix(".jpg") if name.endswith(".jpg") else stem).split("_")
    if len(parts) != 4:
        return None
    pid, camera, frame, box = parts
    is_camera = (
        len(camera) == 4 and camera[0] == "c" and camera[2] == "s" and digits(camera[1] + camera[3], 2, "123456")
    )
    if (digits(pid, 4) or pid == "-1") and is_camera and digits(frame, 6) and digits(box, 2):
        return int(pid), int(camera[1])
    return None


def duke(name: str) -> Parsed:
    parts = name[:-4].split("_") if name.endswith((".jpg", ".png")) else []
    if len(parts) != 3:
        return None
    pid, camera, frame = parts
    is_camera = len(camera) == 2 and camera[0] == "c" and camera[1] in "12345678"
    return (
        (int(pid), int(camera[1]))
        if digits(pid, 4) and is_camera and frame[:1] == "f" and digits(frame[1:], 7)
        else None
    )


def msmt(name: str) -> Parsed:
    stem = name[:-4].removesuffix("_ex") if name.endswith(".jpg") else ""
    parts = stem.split("_")
    if len(parts) != 6:
        return None
    pid, number, camera, moment, frame, box = parts
    good = digits(pid, 4) and digits(number, 3) and digits(camera, 2) and 1 <= int(camera) <= 15
    good = good and digits(moment[:4], 4) and moment[4:] in ("morning", "noon", "afternoon")
    return (int(pid), int(camera)) if good and digits(frame, 4) and box and digits(box, len(box)) else None


def cuhk(name: str) -> Parsed:
    stem, dot, kind = name.rpartition(".")
    parts = stem.split("_")
    if not dot or kind not in ("png", "jpg"):
        return None
    if len(parts) == 3:
        pid, camera, number = parts
        good = digits(pid, 4) and camera in ("c1", "c2") and number and digits(number, len(number))
        return (int(pid), int(camera[1])) if good else None
    if len(parts) == 4:
        pair, person, camera, number = parts
        people = {"1": range(1, 844), "2": range(1, 441), "3": range(1, 78), "4": range(1, 59), "5": range(1, 50)}
        before = {"1": 0, "2": 843, "3": 1283, "4": 1360, "5": 1418}
        if pair not in people or not digits(person, 3) or int(person) not in people[pair]:
            return None
        if camera not in ("1", "2") or not digits(number, 2) or not 1 <= int(number) <= 10:
            return None
        return before[pair] + int(person), int(camera)
    return None


def number(width: int, low: int = 0, high: int | None = None) -> st.SearchStrategy[str]:
    return st.integers(low, 10**width - 1 if high is None else high).map(lambda n: f"{n:0{width}d}")


def joined(*parts: str | st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(p) if isinstance(p, str) else p for p in parts)).map("".join)


MARKET = joined(
    st.one_of(number(4), st.just("-1")), "_c", number(1, 0, 9), "s", number(1, 0, 9), "_", number(6), "_", number(2)
).flatmap(lambda stem: st.sampled_from([f"{stem}.jpg", f"{stem}.jpg.jpg", f"{stem}.jpg.jpg.jpg", f"{stem}.png"]))
DUKE = joined(number(4), "_c", number(1, 0, 9), "_f", number(7), ".jpg")
TIMES = st.sampled_from(["morning", "noon", "afternoon", "night", "Noon", ""])
MSMT = joined(
    number(4), "_", number(3), "_", number(2, 0, 20), "_", number(4), TIMES, "_", number(4), "_", number(1),
    st.sampled_from(["", "_ex", "_EX"]), ".jpg",
)  # fmt: skip
CUHK = st.one_of(
    joined(
        number(4), "_c", number(1, 0, 3), "_", st.integers(0, 120).map(str), st.sampled_from([".png", ".jpg", ".gif"])
    ),
    joined(number(1, 0, 6), "_", number(3, 0, 999), "_", number(1, 0, 3), "_", number(2, 0, 12), ".png"),
    joined(number(1, 2, 5), "_", number(3, 0, 90), "_", number(1, 1, 2), "_", number(2, 1, 10), ".png"),
)
CASES: list[tuple[type[ReIDDataset], Callable[[str], Parsed], st.SearchStrategy[str]]] = [
    (Market1501, market, MARKET),
    (DukeMTMC, duke, DUKE),
    (OccludedDuke, duke, DUKE),
    (MSMT17, msmt, MSMT),
    (CUHK03, cuhk, CUHK),
]
# also digits that are none in ASCII, which `\d` and `int` would accept
LETTERS = st.one_of(st.sampled_from("0123456789_.-csfexjpgn \n\t/१٣²"), st.characters())


@st.composite
def edited(draw: st.DrawFn, names: st.SearchStrategy[str]) -> str:
    """A name with a letter or two inserted, dropped or replaced."""
    name = draw(names)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(name)))
        name = name[:at] + draw(st.one_of(st.just(""), LETTERS)) + name[at + draw(st.integers(0, 1)) :]
    return name


@pytest.mark.parametrize(("dataset", "by_hand", "names"), CASES, ids=[case[0].name for case in CASES])
@given(data=st.data())
@settings(max_examples=270, deadline=None)
def test_names_of_the_form_near_it_and_any_text(
    dataset: type[ReIDDataset], by_hand: Callable[[str], Parsed], names: st.SearchStrategy[str], data: st.DataObject
) -> None:
    name = data.draw(st.one_of(names, edited(names), edited(names), st.text()))
    assert dataset.parse(name) == by_hand(name)
    assert FolderDataset.parse(name) is None


@pytest.mark.parametrize("dataset", [case[0] for case in CASES], ids=lambda d: d.name)
def test_the_example_is_of_the_form(dataset: type[ReIDDataset]) -> None:
    assert all(dataset.parse(example) for example in dataset.example.split(" or "))


def test_known_names() -> None:
    assert Market1501.parse("0002_c1s1_000451_03.jpg") == (2, 1)
    assert Market1501.parse("-1_c4s6_022316_11.jpg.jpg") == (-1, 4)
    assert DukeMTMC.parse("7140_c8_f0183462.jpg") == (7140, 8)
    assert MSMT17.parse("0205_007_05_0303afternoon_1525_10_ex.jpg") == (205, 5)
    assert CUHK03.parse("0001_c1_1.png") == (1, 1)
    assert CUHK03.parse("0012_c1_107.png") == (12, 1)
    assert CUHK03.parse("0012_c2_14096.jpg") == (12, 2)
    assert CUHK03.parse("5_049_2_10.png") == (1467, 2)
