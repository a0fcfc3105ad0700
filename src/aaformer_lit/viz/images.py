"""What a picture starts from: uint8 RGB images as people see them, never the normalized tensors that a network sees.

Every function of this package refuses float images, because a normalized crop drawn as it is looks plausible and wrong.
`denormalize` brings a network's input back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, bfloat16

Array = Tensor | NDArray[Any]
Picture = UInt8[NDArray[np.uint8], "height width 3"]
Pictures = UInt8[NDArray[np.uint8], "images height width 3"]
ImageSource = Callable[[int], Array] | Sequence[Array] | Array
"""Images on demand: a function of the index, a sequence, or an array of all."""


def as_array(values: Array | Sequence[Any]) -> NDArray[Any]:
    """A numpy view of a tensor (from any device, bfloat16 as float32), array or nested sequence."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == bfloat16 else values).numpy()
    return np.asarray(values)


def as_picture(image: Array) -> Picture:
    """The image as a uint8 RGB array. Raises TypeError for other types of numbers, ValueError for other shapes."""
    array = as_array(image)
    if array.dtype != np.uint8:
        raise TypeError(
            f"pictures are drawn from uint8 images; got {array.dtype}. Read a file with "
            "aaformer_lit.data.images.read_image(path); undo the network's normalization with "
            "aaformer_lit.viz.denormalize(image, mean, std)."
        )
    if array.ndim != 3 or array.shape[-1] != 3:
        raise ValueError(f"an image is (height, width, 3); got shape {array.shape}. Move the channels last.")
    return array


def as_pictures(images: Array | Sequence[Array]) -> Pictures:
    """One (height, width, 3) image or several of one size, as (images, height, width, 3)."""
    if isinstance(images, Tensor | np.ndarray):
        images = [images] if images.ndim == 3 else list(images)
    pictures = [as_picture(image) for image in images]
    if len(sizes := {picture.shape for picture in pictures}) != 1:
        raise ValueError(
            f"these pictures need at least one image and all of one size; got {len(pictures)} images of sizes "
            f"{sorted(sizes)}. Resize them to the network's image size."
        )
    return np.stack(pictures)


def denormalize(
    image: Float[Array, "*batch 3 height width"], mean: Sequence[float], std: Sequence[float]
) -> UInt8[NDArray[np.uint8], "*batch height width 3"]:
    """Undo `(x / 255 - mean) / std`: the network's input back as uint8 RGB, channels last, clipped to 0..255."""
    array = np.moveaxis(as_array(image).astype(np.float32), -3, -1)
    if array.shape[-1] != 3:
        raise ValueError(f"denormalize takes (..., 3, height, width); got shape {tuple(image.shape)}.")
    pixels = (array * np.asarray(std, np.float32) + np.asarray(mean, np.float32)) * 255.0
    return np.asarray(np.clip(np.rint(pixels), 0, 255), dtype=np.uint8)
