"""Nothing about people's own data changes a number without a word: what is mended, what is said, and with which count."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aaformer_lit.data.account import account
from aaformer_lit.data.datamodule import TestSet
from aaformer_lit.data.datasets.folder import FolderDataset
from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.metrics import evaluate_retrieval
from aaformer_lit.structures import FeatureSet, Record

Write = Callable[..., list[Path]]
# path, pid, camid, split
ROWS = [
    ("img/a.jpg", "ann", "door", "train"),
    ("img/b.jpg", "ann", "yard", "train"),
    ("img/c.jpg", "bob", "door", "train"),
    ("img/d.jpg", "eve", "door", "query"),
    ("img/e.jpg", "eve", "yard", "gallery"),
    ("img/f.jpg", "kim", "door", "gallery"),
    ("img/g.jpg", "kim", "yard", "query"),
]
COLUMNS = ["path", "pid", "camid", "split"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "img").mkdir()
    for letter in "abcdefgh":
        (folder / "img" / f"{letter}.jpg").touch()
    (folder / "img" / "x.heic").touch()
    return folder


def opened(root: Path, rows: list[tuple[str, ...]], columns: list[str] = COLUMNS) -> FolderDataset:
    pd.DataFrame(rows, columns=columns).to_csv(root / "people.csv", index=False)
    return FolderDataset(root, table="people.csv")


def records(dataset: FolderDataset) -> list[list[Record]]:
    return [dataset.train, dataset.query, dataset.gallery]


def said(dataset: FolderDataset) -> str:
    return "\n".join(map(str, dataset.remarks))


def with_pids(**pids: str) -> list[tuple[str, ...]]:
    """The rows, with the pid of some images (by their letter) changed."""
    return [(path, pids.get(path[4], pid), *rest) for path, pid, *rest in ROWS]


def with_camids(**camids: str) -> list[tuple[str, ...]]:
    return [(path, pid, camids.get(path[4], camid), split) for path, pid, camid, split in ROWS]


def test_good_rows_are_used_without_a_word(root: Path) -> None:
    dataset = opened(root, ROWS)
    assert [len(split) for split in records(dataset)] == [3, 2, 2]
    assert dataset.remarks == []


def test_columns_that_are_not_read_are_said_where_no_camera_is_known(root: Path) -> None:
    dataset = opened(root, ROWS, ["path", "pid", "Camera", "split"])
    assert {r.camid for split in records(dataset) for r in split} == {-1}
    assert said(dataset) == (
        "no column camid, so no camera rule applies; columns that are not read: camera. "
        "If one of them names the camera, call it camid."
    )
    assert opened(root, [(*row, "left") for row in ROWS], [*COLUMNS, "note"]).remarks == []


def test_a_table_beside_the_split_folders_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    for person in ("train/ann", "query/eve", "gallery/eve"):
        (tmp_path / person).mkdir(parents=True)
        (tmp_path / person / "a.jpg").touch()
    assert FolderDataset(tmp_path).remarks == []
    (tmp_path / "people.csv").write_text("path,pid,camid,split\ntrain/ann/a.jpg,ann,door,train\n")
    assert said(FolderDataset(tmp_path)).startswith(
        "1 table beside the folders train, query, gallery, not read: people.csv. "
    )
    assert FolderDataset(tmp_path, table="people.csv").train[0].camid == 0


def test_groups_of_a_pattern_that_nothing_reads_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"has a group cam, .* pid, camid and sequence are"):
        FolderDataset(root, pattern="(?P<pid>[a-z]+)_(?P<cam>[a-z]+)_.*")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    space=st.sampled_from(["", " ", "\t ", "\u00a0"]),
    change=st.sampled_from([str.upper, str.title, str.lower]),
    ending=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
    parquet=st.booleans(),
)
def test_the_same_people_written_in_another_way_are_the_same_records(
    root: Path, seed: int, space: str, change: Callable[[str], str], ending: str, encoding: str, parquet: bool
) -> None:
    expected = records(opened(root, ROWS))
    rows = random.Random(seed).sample(ROWS, len(ROWS))
    frame = pd.DataFrame(
        [[f"{space}{value}{space}" for value in row] for row in rows], columns=list(map(change, COLUMNS))
    )
    if parquet:
        frame.to_parquet(root / "other.parquet")
    else:
        frame.to_csv(root / "other.csv", index=False, lineterminator=ending, encoding=encoding)
    dataset = FolderDataset(root, table="other.parquet" if parquet else "other.csv")
    assert records(dataset) == expected
    assert dataset.remarks == []


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_a_row_twice_counts_once_and_is_said(root: Path, number: int) -> None:
    expected = records(opened(root, ROWS))
    dataset = opened(root, [*ROWS, ROWS[number]])
    assert records(dataset) == expected
    assert "1 row left out, which list an image of their split again: " + ROWS[number][0] in said(dataset)


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_a_row_that_is_gone_is_a_file_that_is_not_used(root: Path, number: int) -> None:
    whole = account(opened(root, ROWS))
    rows = [row for place, row in enumerate(ROWS) if place != number]
    dataset = opened(root, rows)
    assert sum(map(len, records(dataset))) == len(ROWS) - 1
    part = account(dataset)
    assert (part.files, part.used) == (whole.files, whole.used - 1)
    assert Path(ROWS[number][0]) in part.unused["images that no split lists"]


@pytest.mark.parametrize("name", ["NA", "None", "null", "nan"])
def test_people_may_be_called_anything(root: Path, name: str) -> None:
    dataset = opened(root, with_pids(f=name))
    assert len({r.pid for r in dataset.gallery}) == 2
    assert f"1 image with the pid {name}, read as a person of that name" in said(dataset)


def test_spellings_of_one_number_are_one_person_and_that_is_said(root: Path) -> None:
    rows = with_pids(a="7", b="07", c="007", d="8", e="8.0", f="9", g="9")
    dataset = opened(root, rows)
    assert {r.pid for r in dataset.train} == {7}
    assert {r.pid for r in dataset.gallery} == {8, 9}
    assert "1 pid written in several ways, counted as one number each: 007 = 07 = 7" in said(dataset)


def test_the_same_digits_are_different_text_where_there_are_names(root: Path) -> None:
    dataset = opened(root, with_pids(a="7", b="07", c="7"))
    assert len({r.pid for r in dataset.train}) == 2
    assert "one number" not in said(dataset)


def test_names_that_differ_in_their_case_are_said(root: Path) -> None:
    dataset = opened(root, with_pids(b="Ann"))
    assert len({r.pid for r in dataset.train}) == 3
    assert "1 pid written in several ways, counted as different: Ann / ann" in said(dataset)
    assert "1 camid written in several ways, counted as different: Yard / yard" in said(
        opened(root, with_camids(g="Yard"))
    )


def test_accents_have_one_form(root: Path) -> None:
    dataset = opened(root, with_pids(a="Zo\u00eb", b="Zoe\u0308"))
    assert dataset.train[0].pid == dataset.train[1].pid


def test_pid_minus_one_is_junk_and_said(root: Path) -> None:
    dataset = opened(root, [*ROWS, ("img/h.jpg", "-1", "door", "gallery")])
    assert records(dataset) == records(opened(root, ROWS))
    assert "1 image with pid -1, which stands for junk: neither right nor wrong: img/h.jpg" in said(dataset)
    assert account(dataset).unused["junk (pid -1)"] == (Path("img/h.jpg"),)


def test_photos_of_other_formats_are_left_out_and_said(root: Path) -> None:
    dataset = opened(root, [*ROWS, ("img/x.heic", "kim", "door", "gallery")])
    assert records(dataset) == records(opened(root, ROWS))
    assert "1 photo in a format that is not read: img/x.heic" in said(dataset)
    assert account(dataset).unused["a format that is not read"] == (Path("img/x.heic"),)


def test_cameras_that_some_lack_are_said_with_what_follows(root: Path) -> None:
    text = said(opened(root, with_camids(e="")))
    assert "1 of 4 test images without a camid, to which the camera rule does not apply: img/e.jpg" in text
    assert "results come out higher" in text
    assert said(opened(root, with_camids(d="", e="", f="", g=""))) == ""  # none at all is a choice


def test_cameras_named_otherwise_in_the_gallery_are_said(root: Path) -> None:
    text = said(opened(root, with_camids(e="c1", f="c2")))
    assert "no camera of the queries (door, yard) is among those of the gallery (c1, c2)" in text


@pytest.mark.parametrize("other", [("img/a.jpg", "bob", "door", "train"), ("img/a.jpg", "ann", "yard", "query")])
def test_one_image_is_not_two_people_or_cameras(root: Path, other: tuple[str, ...]) -> None:
    with pytest.raises(ProtocolError, match=r"a\.jpg is listed as pid ann, camid door and as pid"):
        opened(root, [*ROWS, other])


def test_one_image_is_of_one_clip(root: Path) -> None:
    rows = [(*row, "s1") for row in ROWS]
    with pytest.raises(
        ProtocolError, match=r"pid eve, camid door, sequence s1 and as pid eve, camid door, sequence s2"
    ):
        opened(root, [*rows, (*ROWS[3], "s2")], [*COLUMNS, "sequence"])


def test_numbers_written_in_two_ways_are_one_person_with_one_clip_and_one_camera(root: Path) -> None:
    rows = [
        ("img/d.jpg", "7", "1", "query", "s1"),
        ("img/e.jpg", "07", "01", "gallery", "s1"),
        ("img/e.jpg", "7", "1", "gallery", "s1"),
        ("img/f.jpg", "8", "1", "gallery", "s2"),
        ("img/g.jpg", "7", "2", "gallery", "s2"),
    ]
    dataset = opened(root, rows, [*COLUMNS, "sequence"])
    (query,), (own, *others) = dataset.query, dataset.gallery
    assert query.sequence == own.sequence
    assert len({query.sequence, *(other.sequence for other in others)}) == 3
    text = said(dataset)
    assert "1 pid written in several ways, counted as one number each: 07 = 7" in text
    assert "1 row left out, which list an image of their split again" in text
    assert "no camera of the queries" not in text


def test_a_test_image_that_was_trained_on_is_said(root: Path) -> None:
    dataset = opened(root, [*ROWS, ("img/a.jpg", "ann", "door", "gallery")])
    assert "1 test image trained on: img/a.jpg" in said(dataset)


def test_a_query_is_never_its_own_answer(root: Path) -> None:
    """No camera is known, and the query's own file lies in the gallery: Rank-1 is that of the other images."""
    rows = [(path, pid, "", split) for path, pid, _, split in ROWS]
    rows.append(("img/d.jpg", "eve", "", "gallery"))
    dataset = opened(root, rows)
    assert "1 query image in the gallery too: img/d.jpg" in said(dataset)
    test_set = TestSet("own", dataset.query, dataset.gallery)
    assert test_set.sequences is not None
    both = [*dataset.query, *dataset.gallery]
    place = {path: float(n) for n, path in enumerate(["d", "f", "e", "g"])}  # a stranger is nearer to d than e is
    features = torch.tensor([[place[r.path.stem]] for r in both])
    pids, camids = (torch.tensor([getattr(r, name) for r in both]) for name in ("pid", "camid"))
    everything = FeatureSet(features, pids, camids, torch.tensor(test_set.sequences))
    split = len(dataset.query)
    found = evaluate_retrieval(everything.select(slice(split)), everything.select(slice(split, None)))
    ranks = dict(zip((q.path.stem for q in dataset.query), found.per_query.first_hit_rank.tolist(), strict=True))
    assert ranks == {"d": 2, "g": 2}


def test_frames_of_the_querys_clip_are_no_answers(root: Path) -> None:
    rows = [(*row, clip) for row, clip in zip(ROWS, ["", "", "", "1", "1", "2", "3"], strict=True)]
    rows.append(("img/h.jpg", "eve", "yard", "gallery", ""))
    dataset = opened(root, rows, [*COLUMNS, "sequence"])
    sequences = TestSet("own", dataset.query, dataset.gallery).sequences
    by_name = dict(zip((r.path.stem for r in [*dataset.query, *dataset.gallery]), sequences or (), strict=True))
    assert by_name["d"] == by_name["e"] != by_name["h"]
    assert len({by_name[name] for name in "dfgh"}) == 4


def test_folders_that_are_links_are_followed(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "pool", ["ann/1.jpg", "ann/2.jpg", "bob/1.jpg"])
    (tmp_path / "own" / "train").mkdir(parents=True)
    for name in ("ann", "bob"):
        (tmp_path / "own" / "train" / name).symlink_to(tmp_path / "pool" / name)
    (tmp_path / "own" / "train" / "round").symlink_to(tmp_path / "own")  # and no further round
    dataset = FolderDataset(tmp_path / "own")
    assert [(r.path.parent.name, r.path.name) for r in dataset.train] == [
        ("ann", "1.jpg"),
        ("ann", "2.jpg"),
        ("bob", "1.jpg"),
    ]
    found = account(dataset)
    assert (found.files, found.used, found.unused) == (3, 3, {})


@pytest.mark.parametrize("spelled", ["absolute", "relative", "behind a link"])
def test_one_file_linked_to_from_two_splits_is_one_image(
    tmp_path: Path, write_images: Write, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    own = tmp_path / "disk" / "own"
    write_images(own / "gallery", ["ann/1.jpg", "ann/2.jpg", "bob/1.jpg"])
    (own / "query" / "ann").mkdir(parents=True)
    (own / "query" / "ann" / "q.jpg").symlink_to("../../gallery/ann/1.jpg")
    (tmp_path / "via").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path)
    folder = {"absolute": own, "relative": Path("disk/own"), "behind a link": tmp_path / "via" / "own"}[spelled]
    dataset = FolderDataset(folder)
    assert "1 query image in the gallery too: gallery/ann/1.jpg" in said(dataset)
    assert dataset.query[0].path == dataset.gallery[0].path
    assert account(dataset).files == 3


@pytest.mark.parametrize(("sign", "name"), [("\t", "tabs"), (";", "semicolons")])
def test_other_separators_are_named(root: Path, sign: str, name: str) -> None:
    pd.DataFrame(ROWS, columns=COLUMNS).to_csv(root / "other.csv", index=False, sep=sign)
    with pytest.raises(ProtocolError, match=f"Its columns are separated by {name}; save it with commas"):
        FolderDataset(root, table="other.csv")


def test_backslashes_are_named(root: Path) -> None:
    with pytest.raises(ProtocolError, match="written with backslashes"):
        opened(root, [(path.replace("/", "\\"), *rest) for path, *rest in ROWS])


def test_a_table_of_the_current_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame(ROWS, columns=COLUMNS).to_csv(root / "mine.csv", index=False)
    monkeypatch.chdir(root)
    dataset = FolderDataset(tmp_path, table="mine.csv")
    assert records(dataset) == records(opened(root, ROWS))


def test_a_link_to_an_image_of_its_split_counts_and_is_said(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "train", ["ann/1.jpg", "ann/2.jpg", "bob/1.jpg"])
    (tmp_path / "train" / "ann" / "again.jpg").symlink_to("1.jpg")
    dataset = FolderDataset(tmp_path)
    assert len(dataset.train) == 4
    assert "1 link to another image of the same split, counted beside it: train/ann/again.jpg" in said(dataset)
