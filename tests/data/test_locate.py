"""A data set is found at every place where people put it; where it is not, the message teaches."""

from __future__ import annotations

from pathlib import Path

import pytest

from aaformer_lit.data.datasets.dukemtmc import DukeMTMC
from aaformer_lit.data.datasets.market1501 import Market1501
from aaformer_lit.data.locate import locate
from aaformer_lit.errors import DatasetNotFoundError, ProtocolError


def missing(folder: Path) -> list[str]:
    return [f"{name}/" for name in ("bounding_box_train", "query", "bounding_box_test") if not (folder / name).is_dir()]


def make(folder: Path) -> Path:
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("where", "root"),
    [
        ("Market-1501-v15.09.15", "."),
        ("market1501", "."),
        ("market1501/Market-1501-v15.09.15", "."),  # an archive unpacked inside a folder of ours
        ("market1501/whatever", "."),
        ("Market-1501-v15.09.15", "Market-1501-v15.09.15"),  # the root is the data set
        ("my_market", "my_market"),
        ("Market-1501-v15.09.15", "Market-1501-v15.09.15/bounding_box_train"),  # one level too deep
        ("data/market1501", "."),  # one level too high
    ],
)
def test_it_is_found(where: str, root: str, tmp_path: Path) -> None:
    (tmp_path / "a_folder_of_something_else").mkdir()
    folder = make(tmp_path / where)
    assert locate(tmp_path / root, Market1501, missing).resolve() == folder.resolve()


def test_one_that_is_being_unpacked_is_none_yet(tmp_path: Path) -> None:
    make(tmp_path / ".Market-1501-v15.09.15-1a2b" / "Market-1501-v15.09.15")
    assert "was not found" in message(tmp_path)


def test_a_closed_folder_beside_it_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> bool:  # what `is_dir` does there for users other than root, who may run this
        if "lost+found" in path.parent.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return is_dir(path)

    (tmp_path / "lost+found").mkdir()
    folder = make(tmp_path / "reid" / "market1501")
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", closed)
    assert locate(tmp_path, Market1501, missing) == folder


def test_a_complete_folder_goes_before_an_incomplete_one(tmp_path: Path) -> None:
    (tmp_path / "Market-1501-v15.09.15" / "query").mkdir(parents=True)
    make(tmp_path / "market1501")
    assert locate(tmp_path, Market1501, missing) == tmp_path / "market1501"


def message(root: Path) -> str:
    with pytest.raises(DatasetNotFoundError) as error:
        locate(root, Market1501, missing)
    return str(error.value)


def test_no_such_root(tmp_path: Path) -> None:
    says = message(tmp_path / "nowhere")
    assert f"Market-1501 was not found under paths.data={tmp_path / 'nowhere'}" in says
    assert "nowhere does not exist" in says
    assert "Market-1501-v15.09.15 or market1501" in says
    assert Market1501.source in says
    assert f"python -m aaformer_lit.prepare data=market1501 paths.data={tmp_path / 'nowhere'} action=synthesize" in says


def test_what_is_there_is_listed(tmp_path: Path) -> None:
    assert "is empty" in message(tmp_path)
    for name in "abcdefghijk":
        (tmp_path / name).mkdir()
    assert "holds a, b, c, d, e, f, g, h and 3 more" in message(tmp_path)


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "market1501" / "query").mkdir(parents=True)
    assert f"{tmp_path / 'market1501'} holds query but lacks bounding_box_train/, bounding_box_test/" in message(
        tmp_path
    )


def test_archives_are_pointed_at(tmp_path: Path) -> None:
    archive = tmp_path / "Market-1501-v15.09.15.zip"
    archive.touch()
    assert f"prepare data=market1501 paths.data={tmp_path} action=extract archive={archive}" in message(tmp_path)


def test_a_file_as_the_root(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be listed" in message(tmp_path / "file")


def test_another_data_set_in_the_same_layout_is_recognized(tmp_path: Path) -> None:
    folder = make(tmp_path / "somewhere")
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / split / "0001_c2_f0046182.jpg").touch()
    (folder / "bounding_box_test" / "0001_c3_f0046182.jpg").touch()
    with pytest.raises(ProtocolError, match=r"not named like 0002_c1s1.*names of DukeMTMC-reID .*data=dukemtmc"):
        Market1501(folder)
    assert len(DukeMTMC(folder).train) == 1
