"""Files and folders that are whole or not there, whoever writes them: tables, tensors, pictures, folders."""

import errno
import os
import stat

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from aaformer_lit.errors import StorageError
from aaformer_lit.utils.files import scratch_folder, whole_file, whole_folder, write_tensors, write_whole
from aaformer_lit.viz import save

NOISE = np.random.default_rng(0).random((100, 100))


def table(path):
    with whole_file(path) as temporary:
        pd.DataFrame(NOISE).add_prefix("column").to_parquet(temporary)


def picture(path):
    figure = Figure()
    figure.figimage(NOISE)
    save(figure, path)


def folder(path):
    with whole_folder(path) as temporary:
        (temporary / "first").write_text("short")
        (temporary / "second").write_bytes(NOISE.tobytes())


WRITERS = {
    "bytes": lambda path: write_whole(path, NOISE.tobytes()),
    "shared": lambda path: write_whole(path, NOISE.tobytes(), shared=True),
    "tensors": lambda path: write_tensors(path, {"noise": torch.from_numpy(NOISE).T}),
    "table": table,
    "picture.png": picture,
    "folder": folder,
}


@pytest.mark.parametrize("name", WRITERS)
def test_whole(name, tmp_path):
    WRITERS[name](tmp_path / "deep" / "er" / name)
    written = tmp_path / "deep" / "er" / name
    assert [path.name for path in written.parent.iterdir()] == [name]
    assert sum(path.stat().st_size for path in [written, *written.rglob("*")] if path.is_file()) > 1000
    umask = os.umask(0)
    os.umask(umask)
    if written.is_dir():
        assert stat.S_IMODE(written.stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize("name", WRITERS)
def test_or_not_there(name, tmp_path, small_files):
    with pytest.raises(
        StorageError, match=rf"cannot write .*{name}.*File too large; .* MiB are free there\. Free some"
    ):
        WRITERS[name](tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_space_is_no_cause_of_a_name_that_is_taken(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*taken \(0\.0 MiB\): Is a directory\. Give another name: "):
        write_whole(tmp_path / "taken", b"")


def test_tensors_are_what_they_were(tmp_path):
    tensors = {"a": torch.from_numpy(NOISE).T, "b": torch.arange(3)}
    write_tensors(tmp_path / "t", tensors)
    read = load_file(tmp_path / "t")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def interrupted(place):
    with place as temporary:
        (temporary / "x" if temporary.is_dir() else temporary).write_text("new")
        raise KeyboardInterrupt


@pytest.mark.parametrize("writer", [whole_file, scratch_folder])
def test_what_was_there_stays_if_the_writer_fails(writer, tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(writer(tmp_path / "file"))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_another_process_has_made_stays(tmp_path):
    with whole_folder(tmp_path / "people") as temporary:
        (temporary / "ours").touch()
        (tmp_path / "people").mkdir()
        (tmp_path / "people" / "theirs").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["people", "theirs"]


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EROFS, "Make the folder writable"),
        (errno.ENOENT, "Give a drive and a folder that are there"),
    ],
)
def test_the_error_says_what_to_do(number, cure, tmp_path):
    with pytest.raises(StorageError, match=cure), whole_file(tmp_path / "a" / "b"):
        raise OSError(number, os.strerror(number))
