"""CUHK03 as its authors hand it out: `cuhk-03.mat` (MATLAB 7.3, which is HDF5), with the two new-protocol files beside it.

    labeled, detected   1 x 5 cell: for each pair of cameras a (people x 10) cell of images, columns 1-5 from the first
                        camera, 6-10 from the second, empty where there are fewer
    testsets            20 x 1 cell of (people x 2) arrays: pair and person, the old protocol's random splits

HDF5 stores MATLAB's arrays transposed: an image lies there as (3, width, height).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import scipy.io

from aaformer_lit.data.synthetic.layouts import CUHK03Cut
from aaformer_lit.data.synthetic.render import render
from aaformer_lit.data.synthetic.spec import SyntheticSpec
from aaformer_lit.errors import ConfigError

PAIRS = 5
PER_CAMERA = 5
BOXES = ("labeled", "detected")


@dataclass(frozen=True, slots=True)
class Person:
    """One row of a pair's cell; `label` numbers the people of all pairs from 1, in order."""

    pid: int
    pair: int
    row: int
    label: int
    test: bool


class CUHK03Raw(CUHK03Cut):
    name: ClassVar[str] = "cuhk03"
    folder: ClassVar[str] = "cuhk03"
    max_pid: ClassVar[int] = PAIRS * 999

    def adapt(self, spec: SyntheticSpec) -> SyntheticSpec:
        if spec.images_per_camera > PER_CAMERA:
            raise ConfigError(
                f"the cuhk03 layout holds at most {PER_CAMERA} images of a person and camera; "
                f"got images_per_camera={spec.images_per_camera}."
            )
        return super().adapt(spec)

    def count(self, spec: SyntheticSpec) -> int:
        return len(BOXES) * sum(1 for _ in spec.shots())

    def write(self, folder: Path, spec: SyntheticSpec, advance: Callable[[], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "cuhk-03.mat"
        with h5py.File(path, "w", userblock_size=512) as mat:
            for boxes, how in zip(BOXES, (replace(spec, misalignment=0.0), spec), strict=True):
                _write_boxes(mat, boxes, how, advance)
            _write_testsets(mat, spec)
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, synthetic people in the structure of CUHK03".ljust(124) + b"\x00\x02IM")
        for boxes in BOXES:
            scipy.io.savemat(folder / f"cuhk03_new_protocol_config_{boxes}.mat", _protocol(spec))


def people(spec: SyntheticSpec) -> list[Person]:
    """Everyone in the order of the pairs; training and test identities are in all pairs."""
    pids = [*spec.train_pids, *spec.test_pids]
    places = [(pair, row, pid) for pair in range(PAIRS) for row, pid in enumerate(pids[pair::PAIRS])]
    return [
        Person(pid, pair, row, label, pid in spec.test_pids) for label, (pair, row, pid) in enumerate(places, start=1)
    ]


def _write_boxes(mat: h5py.File, boxes: str, spec: SyntheticSpec, advance: Callable[[], None]) -> None:
    empty = _put(mat, np.zeros(2, np.uint64), "uint8")
    empty.attrs["MATLAB_empty"] = np.uint8(1)
    people_of = Counter(person.pair for person in people(spec))
    cells = [np.full((2 * PER_CAMERA, people_of[pair]), empty.ref, h5py.ref_dtype) for pair in range(PAIRS)]
    for person, camera, number in _images(spec):
        image, _ = render(spec, person.pid, camera, (number - 1) % PER_CAMERA)
        cells[person.pair][number - 1, person.row] = _put(mat, image.transpose(2, 1, 0), "uint8").ref
        advance()
    pairs = [_put(mat, cell, "cell").ref for cell in cells]
    _put(mat, np.array([pairs], h5py.ref_dtype), "cell", name=boxes)


def _write_testsets(mat: h5py.File, spec: SyntheticSpec) -> None:
    everyone, rng = people(spec), spec.rng(7)
    sets = []
    for _ in range(20):
        chosen = sorted(rng.choice(len(everyone), min(100, spec.num_test_ids), replace=False))
        table = np.array([(everyone[i].pair + 1, everyone[i].row + 1) for i in chosen], np.float64)
        sets.append(_put(mat, table.T, "double").ref)
    _put(mat, np.array([sets], h5py.ref_dtype), "cell", name="testsets")


def _put(mat: h5py.File, value: np.ndarray, matlab_class: str, name: str | None = None) -> h5py.Dataset:
    """Store an array; without a name it goes to `#refs#`, where MATLAB keeps what cells point to."""
    group = mat.require_group("#refs#")
    dataset = mat.create_dataset(name or f"#refs#/{len(group)}", data=value)
    dataset.attrs["MATLAB_class"] = np.bytes_(matlab_class)
    return dataset


def _images(spec: SyntheticSpec) -> Iterator[tuple[Person, int, int]]:
    """(person, camera, number) of every image, in the order of the protocol's list; camera 1's numbers are 1-5, 2's 6-10."""
    for person in people(spec):
        for camera in (1, 2):
            for index in range(spec.images_per_camera):
                yield person, camera, (camera - 1) * PER_CAMERA + index + 1


def _protocol(spec: SyntheticSpec) -> dict[str, Any]:
    """The new protocol: one query per test identity and camera; indices count from 1, as MATLAB does."""
    names, labels, cameras = [], [], []
    rows: dict[str, list[int]] = {"train": [], "query": [], "gallery": []}
    for position, (person, camera, number) in enumerate(_images(spec), start=1):
        names.append(f"{person.pair + 1}_{person.row + 1:03d}_{camera}_{number:02d}.png")
        labels.append(person.label)
        cameras.append(camera)
        rows["train" if not person.test else "query" if number in (1, 1 + PER_CAMERA) else "gallery"].append(position)
    filelist = np.empty((len(names), 1), object)
    filelist[:, 0] = names
    columns = {f"{split}_idx": np.array(index, np.uint16)[:, None] for split, index in rows.items()}
    return {
        "filelist": filelist,
        "labels": np.array(labels, np.uint16)[:, None],
        "camId": np.array(cameras, np.uint8)[:, None],
        **columns,
    }
