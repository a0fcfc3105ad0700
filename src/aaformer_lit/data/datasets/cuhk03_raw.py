"""Cuts CUHK03's `cuhk-03.mat` into the images of the new protocol, once.

`cuhk-03.mat` (MATLAB 7.3, which is HDF5) holds a 1 x 5 cell per kind of box, one entry per camera pair: a cell of
people x 10 images, 1-5 by the pair's first camera, 6-10 by its second. The protocol's .mat file lists `1_001_1_01.png`
(pair, person, camera, number), label and camera of every image, and which are for training, query and gallery. HDF5
stores MATLAB's arrays transposed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import h5py
import numpy as np
import scipy.io
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import track
from scipy.io.matlab import MatReadError

from aaformer_lit.errors import ProtocolError
from aaformer_lit.utils.files import whole_folder

log = logging.getLogger(__name__)

IMAGES = "cuhk-03.mat"
EXTRACTED = "cuhk03-np-extracted"
_NAME = re.compile(r"([1-5])_([0-9]{3})_([12])_([0-9]{2})\.png")


class Crop(NamedTuple):
    """One image of the protocol: where it lies in `cuhk-03.mat`, and whose it is. All numbers count from 1."""

    split: str
    pair: int
    person: int
    number: int
    pid: int
    camid: int


def find_raw(folder: Path, protocol: str) -> tuple[list[Path], list[Path]]:
    """The image and the protocol files in `folder`, one level below or, for the protocol, beside it; the nearest
    first."""
    images = [*folder.glob(IMAGES), *sorted(folder.glob(f"*/{IMAGES}"))]
    name = f"cuhk03_new_protocol_config_{protocol}.mat"
    protocols = [*folder.glob(name), *sorted(folder.glob(f"*/{name}")), *folder.parent.glob(name)]
    return images, protocols


def extract(protocol: str, folder: Path) -> Path:
    """Write the images of one protocol to `folder`/cuhk03-np-extracted/`protocol`, unless they are there; the former.

    The images get the names of the cut data set, `0001_c1_1.png`, with the label and camera of the protocol file.
    """
    target = folder / EXTRACTED
    if (target / protocol).is_dir():
        return target
    images, protocols = find_raw(folder, protocol)
    crops = read_protocol(protocols[0])
    with whole_folder(target / protocol) as temporary:
        for crop, pixels in zip(crops, _pixels(images[0], protocol, crops), strict=True):
            path = temporary / crop.split / f"{crop.pid:04d}_c{crop.camid}_{crop.number}.png"
            path.parent.mkdir(exist_ok=True)
            _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
            path.write_bytes(encoded.tobytes())
    log.info("cut %s images of CUHK03 (%s) into %s", f"{len(crops):,}", protocol, target / protocol)
    return target


def read_protocol(path: Path) -> list[Crop]:
    """All images of the new protocol, in the order of its file list, split by split."""
    try:
        mat = scipy.io.loadmat(path)
        names = [str(entry.item()) for entry in mat["filelist"].ravel()]
        labels, cameras = mat["labels"].ravel().tolist(), mat["camId"].ravel().tolist()
        splits = {
            "bounding_box_train": mat["train_idx"].ravel().tolist(),
            "query": mat["query_idx"].ravel().tolist(),
            "bounding_box_test": mat["gallery_idx"].ravel().tolist(),
        }
        crops = []
        for split, rows in splits.items():
            for row in rows:
                match = _NAME.fullmatch(names[row - 1])
                if match is None:
                    raise ValueError(f"image name {names[row - 1]!r} is not of the form 1_001_1_01.png")
                pair, person, _, number = map(int, match.groups())
                crops.append(Crop(split, pair, person, number, labels[row - 1], cameras[row - 1]))
    except (OSError, KeyError, IndexError, ValueError, TypeError, NotImplementedError, MatReadError) as cause:
        raise ProtocolError(
            f"{path} is no protocol file of CUHK03-NP: {cause}. Take it again from "
            f"https://github.com/zhunzhong07/person-re-ranking (evaluation/data/CUHK03)."
        ) from cause
    return crops


def _pixels(path: Path, protocol: str, crops: list[Crop]) -> Iterator[np.ndarray]:
    """The (height, width, 3) RGB pixels of each crop."""
    is_first = getattr(rank_zero_only, "rank", 0) == 0
    try:
        with h5py.File(path, "r") as mat:
            pairs = [mat[cell][()] for cell in mat[protocol][()].ravel()]
            for crop in track(
                crops, f"Cutting CUHK03 ({protocol})", console=Console(stderr=True), disable=not is_first
            ):
                array = mat[pairs[crop.pair - 1][crop.number - 1, crop.person - 1]][()]
                if array.ndim != 3 or array.shape[0] != 3 or array.dtype != np.uint8:
                    raise ValueError(f"{crop} has no image but an array of {array.dtype} {array.shape}")
                yield np.ascontiguousarray(array.transpose(2, 1, 0))
    except (OSError, KeyError, IndexError, ValueError) as cause:
        raise ProtocolError(
            f"{path} cannot be cut into the images of the new protocol: {cause}. The download may be incomplete."
        ) from cause
