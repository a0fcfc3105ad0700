"""From any picture of a person to a network's input: what the test loader does with a file, for a single image.

Two programs that prepare images differently get different descriptors from the same weights, and say nothing. So a loaded
network carries its own preparation, and this is the only one there is: galleries, trackers and `embed_images` share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from aaformer_lit.data.images import read_image, rgb_pixels
from aaformer_lit.data.preparation import Normalization, resize
from aaformer_lit.errors import ImageError
from aaformer_lit.structures import Picture, Pictures, Pixels


class ImageTransform:
    """RGB pixels to a normalized float image of the network's size, by the functions of the test loader.

    Args:
        image_size: (height, width) that the network takes.
        mean, std: per channel (RGB), in [0, 1].

    Raises:
        ConfigError: a mean or std that is not three numbers, a mean that is not in [0, 1], or a std of 0.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self._normalize = Normalization(self.mean, self.std)

    @classmethod
    def from_description(cls, data: Mapping[str, Any]) -> ImageTransform:
        """The preparation that a checkpoint names (`description(path)["data"]`)."""
        return cls(data["image_size"], data["mean"], data["std"])

    def __call__(self, picture: Picture) -> Float[Tensor, "3 height width"]:
        """The network's input. Raises `ImageError` for what is no picture."""
        values = self._normalize(resize(pixels_of(picture), self.image_size))
        return torch.from_numpy(values).permute(2, 0, 1).contiguous()

    def listed(self, pictures: Pictures) -> list[Picture]:
        """The pictures that are meant: one alone is a list of one, a uint8 array of four dimensions a batch."""
        if isinstance(pictures, Tensor):
            raise ImageError(_not_pixels(pictures))
        alone = isinstance(pictures, str | Path | Image.Image) or (
            isinstance(pictures, np.ndarray) and pictures.ndim != 4
        )
        return [pictures] if alone else list(pictures)  # type: ignore[list-item, arg-type]

    def batch(self, pictures: Sequence[Picture]) -> Float[Tensor, "images 3 height width"]:
        """Several at once, of any sizes; also none."""
        return torch.stack([self(picture) for picture in pictures]) if pictures else torch.zeros(0, 3, *self.image_size)

    def __repr__(self) -> str:
        return f"ImageTransform(image_size={self.image_size}, mean={self.mean}, std={self.std})  # RGB"


def pixels_of(picture: Picture) -> Pixels:
    """RGB pixels of a file, a Pillow image, or an array that must hold them already."""
    if isinstance(picture, str | Path):
        return read_image(Path(picture))
    if isinstance(picture, Image.Image):
        try:
            return rgb_pixels(picture)
        except OSError as cause:  # Pillow decodes when the pixels are asked for
            raise ImageError(f"the image cannot be decoded: {cause}.") from cause
    good = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3
    if not good or picture.shape[2] != 3 or 0 in picture.shape:
        raise ImageError(_not_pixels(picture))
    return picture


def _not_pixels(got: object) -> str:
    shape, dtype = getattr(got, "shape", None), getattr(got, "dtype", None)
    found = type(got).__name__ if shape is None else f"{type(got).__name__} {dtype} of shape {tuple(shape)}"
    return (
        "a picture is a path, a Pillow image, or a uint8 array (height, width, 3) of RGB values from 0 to 255; got "
        f"{found}. OpenCV's BGR is turned by pixels[..., ::-1], torchvision's (3, height, width) tensor by "
        "image.permute(1, 2, 0).numpy(). Images that are normalized already go to embed."
    )
