"""Files that are whole or not there: full disks, broken checkpoints, and the one before."""

import errno
import os
import shutil

import pytest
import torch

from aaformer_lit.checkpoints.io import BROKEN, LAST, PREVIOUS, WholeCheckpointIO, newest_whole, serialized
from aaformer_lit.checkpoints.load import read_checkpoint
from aaformer_lit.errors import CheckpointError, StorageError
from aaformer_lit.utils import files
from aaformer_lit.utils.files import write_whole


@pytest.fixture
def folder(trained, tmp_path):
    """Two checkpoints, of "epochs" 1 (the one before) and 2."""
    content = read_checkpoint(trained / "checkpoints" / LAST)
    for epoch in (1, 2):
        WholeCheckpointIO().save_checkpoint(content | {"epoch": epoch}, tmp_path / LAST)
    return tmp_path


def test_the_one_before_is_kept(folder):
    assert sorted(path.name for path in folder.iterdir()) == [LAST, PREVIOUS]
    assert [read_checkpoint(folder / name)["epoch"] for name in (PREVIOUS, LAST)] == [1, 2]
    assert newest_whole(folder)[1]["epoch"] == 2


def test_of_others_only_one_is_kept(trained, tmp_path):
    content = read_checkpoint(trained / "checkpoints" / LAST)
    for _ in range(2):
        WholeCheckpointIO().save_checkpoint(content, tmp_path / "best.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, empty, flip_a_bit])
def test_a_broken_checkpoint_gives_way_to_the_one_before(folder, damage, caplog):
    damage(folder / LAST)
    path, content = newest_whole(folder)
    assert (path.name, content["epoch"]) == (PREVIOUS, 1)
    assert f"{LAST} cannot be read" in caplog.text
    # the next save must not put the broken one in the place of the whole one
    assert sorted(path.name for path in folder.iterdir()) == sorted([BROKEN, PREVIOUS])
    WholeCheckpointIO().save_checkpoint(content | {"epoch": 2}, folder / LAST)
    assert [read_checkpoint(folder / name)["epoch"] for name in (PREVIOUS, LAST)] == [1, 2]


def test_nothing_whole_is_an_error_and_nothing_at_all_is_none(folder, tmp_path_factory):
    cut(folder / LAST)
    cut(folder / PREVIOUS)
    with pytest.raises(CheckpointError, match=r"none of last\.ckpt, last\.previous\.ckpt"):
        newest_whole(folder)
    assert newest_whole(tmp_path_factory.mktemp("empty")) is None


def test_killed_between_the_renames(folder):
    (folder / LAST).unlink()
    assert newest_whole(folder)[1]["epoch"] == 1


def test_a_write_that_fails_halfway_leaves_what_was_there(folder, small_files):
    content = torch.zeros(100_000)
    with pytest.raises(
        StorageError, match=r"cannot write .*last\.ckpt \(0\.4 MiB\): File too large; .* MiB are free there"
    ):
        write_whole(folder / LAST, serialized(content), backup=folder / PREVIOUS)
    assert sorted(path.name for path in folder.iterdir()) == [LAST, PREVIOUS]
    assert newest_whole(folder)[1]["epoch"] == 2


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_full_disk_whenever_it_shows(folder, monkeypatch, step):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "write":
        monkeypatch.setattr(files, "open", full, raising=False)
    else:
        monkeypatch.setattr(os, {"fsync": "fsync", "rename": "replace"}[step], full)
    with pytest.raises(StorageError, match=r"No space left on device.*Free some space.*resume=auto"):
        write_whole(folder / LAST, b"new", backup=folder / PREVIOUS)
    monkeypatch.undo()
    assert newest_whole(folder)[1]["epoch"] == 2
    assert not list(folder.glob(".*"))


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="a file is where a folder should be"):
        write_whole(tmp_path / "checkpoints" / LAST, b"new")
    assert shutil.disk_usage(tmp_path).free  # and the message could say how much is free
