"""Crops that are cut off: a share of the height is missing, at the top of one half of the images, at the bottom of the other.

That is what a detector's bad boxes look like, in a dose that one can choose: nothing but the place of the body in the image
changes. Which end an image loses follows from its file name, and that of its folder, so that it is the same in every
process and run and at every share.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from jaxtyping import Num
from numpy.typing import NDArray


def cut_off(pixels: Num[NDArray[Any], "height ..."], share: float, path: Path) -> Num[NDArray[Any], "kept ..."]:
    """The pixels, or the mask, of the image `path` without `share` of the rows; one row is kept at least."""
    top, bottom = (share, 0.0) if loses_top(path) else (0.0, share)
    return cut_rows(pixels, top, bottom)


def cut_rows(pixels: Num[NDArray[Any], "height ..."], top: float, bottom: float) -> Num[NDArray[Any], "kept ..."]:
    """The pixels without these shares of the rows; one row is kept at least."""
    first = min(round(len(pixels) * top), len(pixels) - 1)
    return pixels[first : max(len(pixels) - round(len(pixels) * bottom), first + 1)]


def loses_top(path: Path) -> bool:
    """Whether the image loses its top, rather than its bottom."""
    return sha256("/".join(path.parts[-2:]).encode()).digest()[0] % 2 == 0
