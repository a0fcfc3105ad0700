"""Which images there are, who is on them, and boxes that are none."""

import os

import pandas as pd
import pytest

from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.gallery import Crop, find_crops
from aaformer_lit.gallery.sources import identity


def test_a_folder_is_searched_in_sorted_order(images, tmp_path, caplog):
    (images / "notes.txt").write_text("no image")
    crops = find_crops(images, pattern=r"0*(?P<pid>[1-9]\d*)_c(?P<camid>\d)\.png")
    assert [crop.path.relative_to(images).as_posix() for crop in crops] == [
        f"c{camid}/{pid:04d}_c{camid}.png" for camid in range(2) for pid in range(4)
    ]
    assert [(crop.pid, crop.camid) for crop in crops[:3]] == [("", ""), ("1", "0"), ("2", "0")]
    assert "2 images not named like data.pattern" in caplog.text
    assert find_crops([images / "c0" / "0000_c0.png"], pattern=r"(?P<pid>\d+).*")[0].pid == "0"


def test_boxes_from_a_table(tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text("path,x,y,w,h,pid,camid,score\nb.png,1.4,2,10,20,0007,door,0.9\na.png,-3,0,5,5,,-1,1\n")
    assert find_crops(None, table) == [
        Crop(tmp_path / "a.png", (-3, 0, 5, 5)),
        Crop(tmp_path / "b.png", (1, 2, 10, 20), "7", "door"),
    ]
    table.write_text("path,x,y,w,h,pid,camid\nb.png,1.0,2,10,20,7.0,1.0\na.png,3,0,5,5,,-1.0\n")  # pandas, with gaps
    assert [(crop.pid, crop.camid) for crop in find_crops(None, table)] == [("", ""), ("7", "1")]
    assert find_crops("frames", table)[0].path.as_posix() == "frames/a.png"
    pd.DataFrame({"path": ["b.png"], "x": [1.4], "y": [2], "w": [10], "h": [20], "pid": [7]}).to_parquet(
        tmp_path / "boxes.parquet"
    )
    assert find_crops(None, tmp_path / "boxes.parquet") == [Crop(tmp_path / "b.png", (1, 2, 10, 20), "7")]


def test_columns_of_boxes_that_are_not_read_are_said_where_no_camera_is_known(tmp_path, caplog):
    table = tmp_path / "boxes.csv"
    table.write_text("Path,X,y,w,h,PID,Camera\nb.png,1,2,10,20,7,door\n", encoding="utf-8-sig")
    assert find_crops(None, table) == [Crop(tmp_path / "b.png", (1, 2, 10, 20), "7")]
    assert "boxes.csv: no column camid, so no camera rule applies; columns that are not read: camera. If" in caplog.text
    caplog.clear()
    table.write_text("path,x,y,w,h,camid,score,Score\nb.png,1,2,10,20,door,0.9,1\n")
    assert find_crops(None, table) == [Crop(tmp_path / "b.png", (1, 2, 10, 20), "", "door")]
    assert not caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,x,y,w\na,1,2,3\n", "has no column h"),
        ("path,x,y,w,h\na,1,2,0,5\n", r"row 1 .* box 1, 2, 0, 5"),
        ("path,x,y,w,h\na,1,2,3,4\nb,1,inf,3,4\n", "row 2 .* box 1, inf, 3, 4"),
        ("path,x,y,w,h\na,1,,3,4\n", "row 1"),
        ("path,x,y,w,h\n", "lists no boxes"),
        ("path,x,y,w,h\na,1,2,3e9,4\n", "row 1 .* box 1, 2, 3e9, 4"),
        ("", "cannot be read as a table"),
        ("path;x;y;w;h\na;1;2;3;4\n", "separated by semicolons; save it with commas"),
        ("path,x,y,w,h,w\na,1,2,3,4,5\n", "column w more than once"),
    ],
)
def test_tables_that_are_none(tmp_path, content, message):
    (tmp_path / "boxes.csv").write_text(content)
    with pytest.raises(ProtocolError, match=message):
        find_crops(None, tmp_path / "boxes.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "no images are given"),
        (("/nonexistent",), "no image at /nonexistent"),
        ((None, "/nonexistent.csv"), "no file boxes="),
        ((["a", "b"], "/nonexistent.csv"), "one folder"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ConfigError, match=message):
        find_crops(*arguments)


def test_a_name_that_is_not_utf8_is_told_before_anything_is_done(tmp_path):
    (tmp_path / os.fsdecode(b"j\xfcrgen.png")).touch()
    with pytest.raises(ConfigError, match=r"j\\udcfcrgen\.png' is not UTF-8. Rename"):
        find_crops(tmp_path)


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("0002", "2"),
        ("-01", "-1"),
        ("-0", "0"),
        ("000", "0"),
        ("7b", "7b"),
        ("-", "-"),
        ("", ""),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_numbers_have_one_spelling(name, spelled):
    assert identity(name) == spelled


def test_an_empty_folder(tmp_path):
    with pytest.raises(ConfigError, match="no image at"):
        find_crops(tmp_path)
