"""Images in a benchmark's folder that are not the benchmark's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aaformer_lit.data.account import account
from aaformer_lit.data.datasets.cuhk03 import CUHK03
from aaformer_lit.data.datasets.market1501 import Market1501
from aaformer_lit.errors import ProtocolError

Write = Callable[..., list[Path]]
SPLITS = ("bounding_box_train", "query", "bounding_box_test")


@pytest.fixture
def market(tmp_path: Path, write_images: Write) -> Path:
    folder = tmp_path / "market1501"
    for split, pids, frames in zip(SPLITS, ((1, 2, 3, 4), (7, 8), (7, 8)), (10, 1, 8), strict=True):
        names = [f"{pid:04d}_c{n % 2 + 1}s1_{n:06d}_00.jpg" for pid in pids for n in range(frames)]
        write_images(folder / split, names)
    return folder


def test_a_stray_image_is_said_and_more_of_them_are_an_error(market: Path, write_images: Write) -> None:
    write_images(market / "bounding_box_train", ["holiday.jpg"])
    dataset = Market1501(market)
    assert len(dataset.train) == 40
    assert any("left out: 1 image file in" in str(remark) for remark in dataset.remarks)
    found = account(dataset)
    assert (found.files, found.used) == (59, 58)
    assert found.unused == {f"not named like {Market1501.example}": (Path("bounding_box_train/holiday.jpg"),)}
    write_images(market / "bounding_box_train", ["beach.jpg"])
    with pytest.raises(ProtocolError, match=r"40 of 42 images to use for Market-1501: 2 image files in .*beach.jpg"):
        Market1501(market)


def test_cuhk03_numbered_through_is_read(tmp_path: Path, write_images: Write) -> None:
    number = iter(range(1, 15_000, 37))
    for split, pids in zip(SPLITS, ((1, 2), (3,), (3,)), strict=True):
        names = [f"{pid:04d}_c{camera}_{next(number)}.png" for pid in pids for camera in (1, 2) for _ in range(3)]
        write_images(tmp_path / "cuhk03-np" / "labeled" / split, names)
    dataset = CUHK03(tmp_path)
    assert [len(records) for records in (dataset.train, dataset.query, dataset.gallery)] == [12, 6, 6]
    assert {(r.pid, r.camid) for r in dataset.train} == {(1, 1), (1, 2), (2, 1), (2, 2)}
