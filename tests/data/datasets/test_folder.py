"""Own images: tables and folders, numbers and names, and what goes wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from aaformer_lit.data.datasets.folder import FolderDataModule, FolderDataset, numbered
from aaformer_lit.errors import ConfigError, DatasetNotFoundError, ProtocolError
from aaformer_lit.structures import nobody

Write = Callable[..., list[Path]]


def seen(dataset: FolderDataset, split: str) -> list[tuple[str, int, int]]:
    return [(r.path.name, r.pid, r.camid) for r in getattr(dataset, split)]


@pytest.fixture
def pictures(tmp_path: Path, write_images: Write) -> Path:
    write_images(tmp_path / "img", [f"{name}.jpg" for name in "abcdef"])
    return tmp_path


ROWS = [
    ("img/b.jpg", "bob", "door", "train"),
    ("img/a.jpg", "bob", "yard", "train"),
    ("img/c.jpg", "eve", "door", "query"),
    ("img/d.jpg", "eve", "", "gallery"),
    ("img/e.jpg", "kim", "yard", "gallery"),
]


def table(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame(ROWS, columns=["path", "pid", "camid", "split"]).assign(**changes)


def test_names_are_numbered_in_sorted_order(pictures: Path) -> None:
    table().to_csv(pictures / "people.csv", index=False)
    dataset = FolderDataset(pictures)
    assert seen(dataset, "train") == [("a.jpg", 1, 1), ("b.jpg", 1, 0)]
    assert seen(dataset, "query") == [("c.jpg", 2, 0)]
    assert seen(dataset, "gallery") == [("d.jpg", 2, -1), ("e.jpg", 3, 1)]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("root", ["folder", "file", "named"])
def test_numbers_stay_as_they_are(pictures: Path, suffix: str, root: str) -> None:
    frame = table(pid=[7, 7, 12, 12, 40], camid=[1, 2, 1, None, 3])
    path = pictures / f"people.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    if suffix == "csv":
        path.write_text(path.read_text().replace("1.0", "1").replace("2.0", "2").replace("3.0", "3"))
    if root == "named":
        (pictures / "other.csv").touch()
    dataset = {
        "folder": lambda: FolderDataset(pictures),
        "file": lambda: FolderDataset(path),
        "named": lambda: FolderDataset(pictures, table=path.name),
    }[root]()
    assert seen(dataset, "train") == [("a.jpg", 7, 2), ("b.jpg", 7, 1)]
    assert seen(dataset, "gallery") == [("d.jpg", 12, -1), ("e.jpg", 40, 3)]


def test_the_camera_is_optional(pictures: Path) -> None:
    table().drop(columns="camid").to_csv(pictures / "people.csv", index=False)
    assert {r.camid for r in [*FolderDataset(pictures).train, *FolderDataset(pictures).gallery]} == {-1}
    table(camid="-1").to_csv(pictures / "people.csv", index=False)
    assert {r.camid for r in FolderDataset(pictures).gallery} == {-1}


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (table().drop(columns=["pid", "split"]), "has no column pid, split, but path, camid"),
        (table(split="test"), "row 1 .* split 'test'"),
        (table(pid=["bob", None, "eve", "eve", "kim"]), "row 2 .* pid ''"),
        (table(path="img/x.jpg"), "5 of 5 listed images do not exist: .*x.jpg"),
        (table(path="nowhere/x.jpg"), "5 of 5 listed images do not exist"),
        (table(split=["train"] * 4 + ["query"]), "has no gallery images, so it cannot be tested on"),
        (pd.DataFrame({"path": ['a"b']}), "has no column pid"),
    ],
)
def test_wrong_tables(pictures: Path, frame: pd.DataFrame, says: str) -> None:
    frame.to_csv(pictures / "people.csv", index=False)
    with pytest.raises(ProtocolError, match=says):
        FolderDataset(pictures)


def test_a_column_twice_is_refused(pictures: Path) -> None:
    twice = table()
    twice.columns = [column.replace("split", "pid") for column in twice.columns]
    twice.assign(split="train").to_csv(pictures / "people.csv", index=False)
    with pytest.raises(ProtocolError, match="has the column pid more than once"):
        FolderDataset(pictures)


def test_a_hidden_file_is_no_table(pictures: Path) -> None:
    table().to_csv(pictures / "people.csv", index=False)
    (pictures / "._people.csv").write_bytes(b"\0\5\x16\7")  # macOS leaves them on other file systems
    assert FolderDataset(pictures).train


def test_a_table_that_is_none(pictures: Path) -> None:
    for name, content in (("p.csv", b""), ("p.csv", b"a,b\n1,2,3\n1\n"), ("p.parquet", b"hello")):
        (pictures / name).write_bytes(content)
        with pytest.raises(ProtocolError, match=name):
            FolderDataset(pictures, table=name)
    with pytest.raises(DatasetNotFoundError, match=r"data.table=q.csv: there is no file"):
        FolderDataset(pictures, table="q.csv")


def test_folders_of_people(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "train", ["0007/x.jpg", "0007/deep/y.png", "0012/z.jpg", "0012/notes.bmp"])
    (tmp_path / "train" / "0012" / "readme.txt").touch()
    dataset = FolderDataset(tmp_path)
    assert seen(dataset, "train") == [("y.png", 7, -1), ("x.jpg", 7, -1), ("notes.bmp", 12, -1), ("z.jpg", 12, -1)]
    assert (dataset.query, dataset.gallery) == ([], [])


def test_a_pattern_reads_pid_and_camera(tmp_path: Path, write_images: Write, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "query", "gallery"):
        write_images(tmp_path / split, ["bob_door_1.jpg", "eve_yard_2.jpg", "holiday.jpg"])
    write_images(tmp_path / "gallery", ["eve_door_3.jpg"])
    dataset = FolderDataset(tmp_path, pattern=r"(?P<pid>[a-z]+)_(?P<camid>[a-z]+)_\d+\.jpg")
    assert seen(dataset, "gallery") == [("bob_door_1.jpg", 1, 0), ("eve_door_3.jpg", 2, 0), ("eve_yard_2.jpg", 2, 1)]
    assert "left out: 3 images of" in caplog.text
    assert "gallery/holiday.jpg, query/holiday.jpg, train/holiday.jpg" in caplog.text


def test_a_sequence_of_minus_one_is_no_clip(tmp_path: Path, write_images: Write) -> None:
    for split in ("train", "query", "gallery"):
        write_images(tmp_path / split, [f"{pid}_{split}_-1.jpg" for pid in (1, 2)])
    data = FolderDataset(tmp_path, pattern=r"(?P<pid>[0-9]+)_[a-z]+_(?P<sequence>-?[0-9]+)\.jpg")
    assert {r.sequence for r in [*data.train, *data.query, *data.gallery]} == {-1}


def test_a_pattern_may_read_the_camera_alone(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "train", ["bob/c3_1.jpg", "eve/c4_1.jpg"])
    dataset = FolderDataset(tmp_path, pattern=r"c(?P<camid>\d)_.*")
    assert seen(dataset, "train") == [("c3_1.jpg", 1, 3), ("c4_1.jpg", 2, 4)]


def test_images_of_nobody(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "train", ["a.jpg"])
    with pytest.raises(
        ProtocolError, match=r"1 image of .* not following a folder per person, or data.pattern: train/a.jpg"
    ):
        FolderDataset(tmp_path)


@pytest.mark.parametrize("pattern", ["(", "no groups"])
def test_wrong_patterns(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"data.pattern="):
        FolderDataset(tmp_path, pattern=pattern)


def test_crops_side_by_side_are_told_of_the_pattern(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path, ["0001_c1.jpg", "0002_c1.jpg"])
    with pytest.raises(
        DatasetNotFoundError, match=r"train/, query/ and gallery/ alone where file names say .*data\.pattern="
    ):
        FolderDataset(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="is empty"):
        FolderDataset(tmp_path)
    for name in ("a.csv", "b.parquet"):
        (tmp_path / name).touch()
    with pytest.raises(DatasetNotFoundError, match=r"holds 2 tables: a.csv, b.parquet"):
        FolderDataset(tmp_path)


def test_numbered() -> None:
    assert numbered(["10", "9", "9"]) == {"10": 10, "9": 9}
    assert numbered(["10", "9", "b"]) == {"10": 0, "9": 1, "b": 2}
    assert numbered(["²", "1"]) == {"1": 0, "²": 1}
    assert numbered(["10", "b"], first=1) == {"10": 1, "b": 2}
    assert numbered([]) == {}


def test_nobody_by_name_is_taken_for_distractors(tmp_path: Path, write_images: Write) -> None:
    """Anna, first by name, is in the gallery alone: still a person whose distances count."""
    write_images(tmp_path, ["query/ben/a.jpg", "gallery/anna/b.jpg", "gallery/anna/c.jpg", "gallery/ben/d.jpg"])
    dataset = FolderDataset(tmp_path)
    assert nobody(dataset.query).isdisjoint(record.pid for record in dataset.gallery)


def test_training_alone(tmp_path: Path, write_images: Write) -> None:
    """No query and gallery: nothing to test, but to train on."""
    write_images(tmp_path / "train", [f"{pid}/{n}.jpg" for pid in "abc" for n in range(3)])
    data = FolderDataModule(tmp_path, ids_per_batch=2, images_per_id=2, num_workers=0, image_size=(16, 8))
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["image"].shape == (4, 3, 16, 8)
    assert data.test_sets == {}
    assert data.test_dataloader() == []
    assert (list(data.query_records), list(data.gallery_records)) == ([], [])
