"""Tiny person images under whatever names a data set asks for."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aaformer_lit.structures import Record

WriteImages = Callable[..., list[Path]]


def tiny_image(name: str, size: tuple[int, int] = (12, 6)) -> Image.Image:
    """A smooth (height, width) picture that depends on the name, so that no two names share one."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return Image.fromarray(rng.integers(0, 256, (3, 2, 3), np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)


@pytest.fixture
def write_images() -> WriteImages:
    def write(folder: Path, names: Iterable[str], size: tuple[int, int] = (12, 6)) -> list[Path]:
        paths = [folder / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            tiny_image(path.name, size).save(path)
        return paths

    return write


@pytest.fixture
def records(tmp_path: Path, write_images: WriteImages) -> list[Record]:
    """12 images of 4 people, 3 cameras."""
    names = [f"{pid}_{camid}.png" for pid in (3, 5, 8, 13) for camid in (1, 2, 3)]
    return [
        Record(path, *(int(x) for x in path.stem.split("_")))
        for path in write_images(tmp_path / "people", names, size=(64, 32))
    ]
