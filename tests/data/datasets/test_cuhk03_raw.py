"""CUHK03's raw archive: the right pixels under the right names, cut once; and a whole protocol, read row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from aaformer_lit.data.datasets.cuhk03 import CUHK03
from aaformer_lit.data.datasets.cuhk03_raw import read_protocol
from aaformer_lit.data.images import read_image
from aaformer_lit.errors import ConfigError, DatasetNotFoundError, ProtocolError
from official_lists import official_lists

RNG = np.random.default_rng(0)
NAMES = [f"{pair}_{person:03d}_{1 + (n > 5)}_{n:02d}.png" for pair in (1, 2) for person in (1, 2) for n in (1, 2, 6)]
LABELS = np.repeat([1, 2, 844, 845], 3)
ROWS = {"train_idx": [1, 2, 3, 4, 5, 6], "query_idx": [7, 10], "gallery_idx": [8, 9, 11, 12]}


@pytest.fixture
def pixels() -> dict[str, np.ndarray]:
    """A picture of its own size for each name."""
    return {name: RNG.integers(0, 256, (9 + n, 4 + n % 3, 3), np.uint8) for n, name in enumerate(NAMES)}


def protocol(**changes: Any) -> dict[str, Any]:
    filelist = np.empty((len(NAMES), 1), object)
    filelist[:, 0] = changes.pop("names", NAMES)
    columns = {key: np.array(rows)[:, None] for key, rows in ROWS.items()}
    cameras = np.array([int(name[6]) for name in NAMES])[:, None]
    return {"filelist": filelist, "labels": LABELS[:, None], "camId": cameras, **columns} | changes


@pytest.fixture
def raw(tmp_path: Path, pixels: dict[str, np.ndarray]) -> Path:
    folder = tmp_path / "cuhk03"
    folder.mkdir()
    with h5py.File(folder / "cuhk-03.mat", "w") as mat:
        empty = mat.create_dataset("#refs#/empty", data=np.zeros(2, np.uint64))
        for kind in ("labeled", "detected"):
            cells = []
            for pair in range(1, 6):
                cell = np.full((10, 2), empty.ref, h5py.ref_dtype)
                for name, picture in pixels.items():
                    if int(name[0]) == pair:
                        data = mat.create_dataset(f"#refs#/{kind}{name}", data=picture.transpose(2, 1, 0))
                        cell[int(name[8:10]) - 1, int(name[2:5]) - 1] = data.ref
                cells.append(mat.create_dataset(f"#refs#/{kind}{pair}", data=cell, dtype=h5py.ref_dtype).ref)
            mat.create_dataset(kind, data=np.array([cells], h5py.ref_dtype), dtype=h5py.ref_dtype)
    scipy.io.savemat(folder / "cuhk03_new_protocol_config_labeled.mat", protocol())
    return folder


def test_the_images_are_those_of_the_archive(raw: Path, pixels: dict[str, np.ndarray]) -> None:
    dataset = CUHK03(raw.parent)
    found = {}
    for split, rows in zip((dataset.train, dataset.query, dataset.gallery), ROWS.values(), strict=True):
        assert len(split) == len(rows)
        found.update({(r.pid, r.camid, int(r.path.stem.split("_")[-1])): read_image(r.path) for r in split})
    for name, label in zip(NAMES, LABELS.tolist(), strict=True):
        np.testing.assert_array_equal(found[label, int(name[6]), int(name[8:10])], pixels[name])
    assert {r.pid for r in dataset.gallery} == {844, 845}


def test_it_is_cut_once(raw: Path) -> None:
    first = CUHK03(raw.parent)
    assert first.folder == raw / "cuhk03-np-extracted"
    times = {r.path: r.path.stat().st_mtime_ns for r in first.train}
    again = CUHK03(raw.parent)
    assert {r.path: r.path.stat().st_mtime_ns for r in again.train} == times
    (raw / "cuhk-03.mat").unlink()
    assert CUHK03(raw.parent).train == first.train, "the archive is no longer needed"
    assert not [p for p in first.folder.iterdir() if p.name.startswith(".")], "no temporary folder is left"


def test_an_interrupted_cut_leaves_nothing(raw: Path) -> None:
    with h5py.File(raw / "cuhk-03.mat", "a") as mat:
        del mat["#refs#/labeled1_002_2_06.png"]
        mat["#refs#/labeled1_002_2_06.png"] = np.zeros(2, np.uint64)
    with pytest.raises(ProtocolError, match=r"cuhk-03.mat cannot be cut"):
        CUHK03(raw.parent)
    assert not list((raw / "cuhk03-np-extracted").iterdir())


def test_broken_archives(raw: Path) -> None:
    whole = (raw / "cuhk-03.mat").read_bytes()
    (raw / "cuhk-03.mat").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ProtocolError, match="download may be incomplete"):
        CUHK03(raw.parent)


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": ["holiday.png", *NAMES[1:]]},
        {"train_idx": np.array([[99]])},
        {"labels": np.zeros((2, 1), int)},
        {"names": ["../1_001_1_01.png", *NAMES[1:]]},
    ],
)
def test_broken_protocols(raw: Path, wrong: dict[str, Any]) -> None:
    scipy.io.savemat(raw / "cuhk03_new_protocol_config_labeled.mat", protocol(**wrong))
    with pytest.raises(ProtocolError, match="is no protocol file of CUHK03-NP"):
        CUHK03(raw.parent)


def test_a_protocol_file_that_is_none(raw: Path) -> None:
    (raw / "cuhk03_new_protocol_config_labeled.mat").write_bytes(b"<html>")
    with pytest.raises(ProtocolError, match="is no protocol file"):
        CUHK03(raw.parent)


def test_what_is_missing_is_named(raw: Path) -> None:
    with pytest.raises(
        DatasetNotFoundError, match=r"lacks cuhk03_new_protocol_config_detected.mat \(beside cuhk-03.mat\)"
    ):
        CUHK03(raw.parent, protocol="detected")
    with pytest.raises(ConfigError, match=r"protocol must be one of labeled, detected; got 'drawn'"):
        CUHK03(raw.parent, protocol="drawn")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["labeled", "detected"])
def test_a_whole_protocol(kind: str, tmp_path: Path) -> None:
    path = official_lists(tmp_path) / "cuhk03_np" / f"cuhk03_new_protocol_config_{kind}.mat"
    mat = scipy.io.loadmat(path)
    crops = iter(read_protocol(path))
    for split, key in (
        ("bounding_box_train", "train_idx"),
        ("query", "query_idx"),
        ("bounding_box_test", "gallery_idx"),
    ):
        for row in mat[key][:, 0].astype(int) - 1:
            crop = next(crops)
            name = mat["filelist"][row, 0][0]
            assert name == f"{crop.pair}_{crop.person:03d}_{mat['camId'][row, 0]}_{crop.number:02d}.png"
            assert crop.split == split
            assert (crop.pid, crop.camid) == (mat["labels"][row, 0], mat["camId"][row, 0])
            assert CUHK03.parse(name) == (crop.pid, crop.camid)
    assert next(crops, None) is None
