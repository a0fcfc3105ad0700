"""Galleries from the command line: what is printed, what is written, and mistakes that leave nothing behind."""

import shutil

import pytest
import torch

from aaformer_lit.gallery import Gallery
from cli_tools import run_cli

PATTERN = 'data.pattern="(?P<pid>-?[0-9]+)_c(?P<camid>[0-9]+).*"'


@pytest.fixture
def images(people, tmp_path):
    """A copy of the tiny test gallery, to spoil."""
    return shutil.copytree(people / "bounding_box_test", tmp_path / "images")


def extract(trained, images, out, *overrides):
    return run_cli("extract", f"ckpt={trained}/checkpoints/last.ckpt", f"images={images}", f"out={out}",
                   "data.num_workers=0", PATTERN, *overrides)  # fmt: skip


def test_extract_again_and_remove(trained, images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out, count = tmp_path / "gallery", len(list(images.iterdir()))
    late = sorted(images.iterdir())[0]
    shutil.move(late, tmp_path / late.name)
    assert extract(trained, images, out) == 0
    assert f"{count - 1} images ({count - 1} added)" in capsys.readouterr().out
    shutil.move(tmp_path / late.name, late)
    assert extract(trained, images, out) == 0
    assert f"{count} images (1 added, {count - 1} unchanged)" in capsys.readouterr().out
    gallery = Gallery.open(out)
    assert gallery.table["pid"].str.fullmatch(r"\d+").all()
    assert gallery.descriptors.dtype == torch.float32
    pid = gallery.table["pid"].iat[0]
    theirs = int((gallery.table["pid"] == pid).sum())
    assert run_cli("extract", f"out={out}", f"remove_pid={pid}") == 0
    assert f"{theirs} removed, {count - theirs} left" in capsys.readouterr().out
    assert run_cli("extract", f"out={out}", "remove=123") == 2  # a number to Hydra
    assert f"there is no image 123 in {out}" in " ".join(capsys.readouterr().err.split())
    assert run_cli("extract", f"out={out}", f"remove={Gallery.open(out).table['path'].iat[0]}") == 0
    assert extract(trained, images, out) == 0
    assert f"{theirs + 1} removed before" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"gallery", "images"}, "a run directory was made"


def test_frames_with_boxes_in_half_precision(trained, images, tmp_path):
    frame = sorted(images.iterdir())[0]
    (tmp_path / "boxes.csv").write_text(f"path,x,y,w,h,pid\n{frame.name},0,0,20,40,anna\n{frame.name},5,5,20,40,\n")
    out = tmp_path / "gallery"
    assert (
        extract(trained, images, out, f"boxes={tmp_path / 'boxes.csv'}", "dtype=float16", "precision=bf16-mixed") == 0
    )
    gallery = Gallery.open(out)
    assert gallery.table[["x", "w", "pid"]].to_numpy().tolist() == [[0, 20, "anna"], [5, 20, ""]]
    assert gallery.descriptors.dtype == torch.float16


def corrupt(images):
    path = sorted(images.iterdir())[3]
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("spoil", "overrides", "message"),
    [
        (corrupt, [], "or remove the file. Or set data.on_bad_image=skip."),
        (lambda images: [path.unlink() for path in images.iterdir()], [], "no image at"),
        (None, ["ckpt=/nonexistent.ckpt"], "no checkpoint at /nonexistent.ckpt"),
        (None, ["ckpt=null"], "extracting needs a model"),
        (None, ["precision=64-true"], "precision must be one of 32-true, bf16-mixed, 16-mixed; got '64-true'"),
        (None, ["dtype=int8"], "dtype must be one of float32, float16; got 'int8'"),
        (None, ["data.on_bad_image=hide"], "data.on_bad_image must be one of error, skip"),
        (None, ["remove=x.jpg"], "there is no gallery at"),
    ],
)
def test_mistakes_leave_nothing_behind(trained, images, tmp_path, capsys, spoil, overrides, message):
    if spoil is not None:
        spoil(images)
    assert extract(trained, images, tmp_path / "gallery", *overrides) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "gallery").exists()


def test_bad_images_can_be_skipped(trained, images, tmp_path, capsys):
    corrupt(images)
    assert extract(trained, images, tmp_path / "gallery", "data.on_bad_image=skip") == 0
    assert "1 unreadable" in capsys.readouterr().out
