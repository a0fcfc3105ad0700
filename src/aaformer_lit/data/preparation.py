"""What every image goes through on its way to a network, in training, test and search alike: its size, then its values.

Nothing here is random. The resize comes first, so that its result can be kept in memory. Commands that only describe
images start without albumentations, whose import takes longer than a search.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from aaformer_lit.errors import ConfigError
from aaformer_lit.structures import Pixels

# the loaders' workers, which are forked from here or import this, are the parallelism; OpenCV's own threads would only contend
cv2.setNumThreads(0)

PartMask = UInt8[np.ndarray, "height width"]


def resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    """The image at (height, width) `size`: a side that shrinks does so by area, which does not alias, one that grows
    bicubic.

    Pillow's bicubic widens its kernel to shrink, OpenCV's does not; this is close to Pillow's both ways. What grows does so in
    float64: for uint8 images OpenCV computes in fixed point or with Intel's library, depending on how it was built, and the
    results differ. Twice the size is exact either way.
    """
    shrunk = min(size[0], image.shape[0]), min(size[1], image.shape[1])
    if image.shape[:2] != shrunk:
        image = cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != size:
        exact = all(new in (old, 2 * old) for new, old in zip(size, shrunk, strict=True))
        grown = cv2.resize(image if exact else image.astype(np.float64), size[::-1], interpolation=cv2.INTER_CUBIC)
        image = grown if exact else np.rint(grown, out=grown).clip(0, 255).astype(np.uint8)
    return image


def resize_mask(mask: PartMask, size: tuple[int, int]) -> PartMask:
    """The mask at (height, width) `size`; each pixel keeps one of the old labels."""
    resized: PartMask = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return resized


class Normalization:
    """Gray levels to (level / 255 - mean) / std in float32; `mean` and `std` are per channel (RGB) in [0, 1].

    256 levels have 256 values, so they are looked up; to the bit those of albumentations' `Normalize`.

    Raises:
        ConfigError: not three numbers each, a mean that is not in [0, 1], or a std of 0.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        if len(mean) != 3 or len(std) != 3 or not all(0 <= m <= 1 for m in mean) or not all(s > 0 for s in std):
            raise ConfigError(
                f"data.transforms.mean={list(mean)} and std={list(std)} must hold 3 values each (RGB), of levels from 0 to 1: "
                "mean from 0 to 1, std above 0. Divide those of levels up to 255 by 255."
            )
        levels = np.arange(256, dtype=np.float32)[:, None]
        self._values = (levels - np.array(tuple(mean), np.float32) * 255) * np.reciprocal(
            np.array(tuple(std), np.float32) * 255
        )

    def __call__(self, image: Pixels) -> Float32[np.ndarray, "height width 3"]:
        values: np.ndarray = cv2.LUT(image, self._values[None])
        return values
