"""MSMT17's list files: they must agree with the names and with what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aaformer_lit.data.datasets.msmt17 import MSMT17
from aaformer_lit.data.datasets.occluded_duke import OccludedDuke
from aaformer_lit.errors import DatasetNotFoundError, ProtocolError

NAMES = [f"0000/0000_00{n}_0{n + 1}_0303morning_0015_0.jpg" for n in range(3)]


@pytest.fixture
def msmt(tmp_path: Path, write_images: Callable[..., list[Path]]) -> Path:
    folder = tmp_path / "MSMT17_V1"
    for split in ("train", "test"):
        write_images(folder / split, NAMES)
    for name in ("train", "val", "query", "gallery"):
        (folder / f"list_{name}.txt").write_text("".join(f"{path} 0\n" for path in NAMES))
    return folder


@pytest.mark.parametrize(
    "line",
    ["0000/0000_000_01_0303morning_0015_0.jpg 1", "0001/0000_000_01_0303morning_0015_0.jpg 0", "0000/holiday.jpg 0",
     "0000/0000_000_16_0303morning_0015_0.jpg 0", "../0000/0000_000_01_0303morning_0015_0.jpg 0", "0"],
)  # fmt: skip
def test_lines_must_have_the_form(msmt: Path, line: str) -> None:
    with (msmt / "list_query.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ProtocolError, match=r"1 of 4 lines of list_query.txt .* do not have the form"):
        MSMT17(msmt.parent)


def test_listed_images_must_be_there(msmt: Path) -> None:
    (msmt / "test" / NAMES[1]).unlink()
    with pytest.raises(ProtocolError, match=f"1 of 3 images of list_query.txt .*: {NAMES[1]}. Unpack"):
        MSMT17(msmt.parent)


def test_blank_lines_do_no_harm(msmt: Path) -> None:
    path = msmt / "list_gallery.txt"
    path.write_text(path.read_text().replace("\n", "\r\n") + "\n \n")
    assert len(MSMT17(msmt.parent).gallery) == 3


def test_a_missing_list_is_named(msmt: Path) -> None:
    (msmt / "list_val.txt").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"lacks list_val.txt"):
        MSMT17(msmt.parent)
    (msmt / "train").rename(msmt / "mask_train_v2")
    with pytest.raises(
        DatasetNotFoundError, match="lacks train/ and test/ or mask_train_v2/ and mask_test_v2/, list_val"
    ):
        MSMT17(msmt.parent)


class TestOccludedDukeLists:
    @pytest.fixture
    def lists(self, tmp_path: Path, write_images: Callable[..., list[Path]]) -> Path:
        for split in ("bounding_box_train", "query", "bounding_box_test"):
            write_images(tmp_path / "DukeMTMC-reID" / split, [f"000{len(split) % 7}_c1_f0046182.jpg"])
        for name, pid in (("train", 4), ("query", 5), ("gallery", 3)):
            path = tmp_path / "Occluded_Duke" / f"{name}.list"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"000{pid}_c1_f0046182.jpg\n")
        write_images(tmp_path / "DukeMTMC-reID" / "bounding_box_test", ["0005_c2_f0046182.jpg"])
        (tmp_path / "Occluded_Duke" / "gallery.list").write_text("0003_c1_f0046182.jpg\n0005_c2_f0046182.jpg\n")
        return tmp_path / "Occluded_Duke"

    def test_the_lists_may_be_the_root(self, lists: Path) -> None:
        assert [r.path.parts[-3:-1] for r in OccludedDuke(lists).query] == [("DukeMTMC-reID", "query")]

    def test_duke_must_be_there(self, lists: Path) -> None:
        (lists.parent / "DukeMTMC-reID").rename(lists.parent / "elsewhere")
        with pytest.raises(
            DatasetNotFoundError, match=r"DukeMTMC-reID was not found .*(?s:.*)withdrew DukeMTMC in June 2019"
        ):
            OccludedDuke(lists.parent)

    def test_listed_images_must_be_there(self, lists: Path) -> None:
        (lists / "train.list").write_text("0009_c1_f0046182.jpg\n0004_c1_f0046182.jpg\n")
        with pytest.raises(ProtocolError, match=r"1 image in .*train.list but not in DukeMTMC-reID: 0009_c1"):
            OccludedDuke(lists.parent)

    def test_names_must_have_the_form(self, lists: Path) -> None:
        (lists / "train.list").write_text("<html>\n")
        with pytest.raises(ProtocolError, match=r"not named like 0001_c2_f0046182.jpg: <html>"):
            OccludedDuke(lists.parent)
