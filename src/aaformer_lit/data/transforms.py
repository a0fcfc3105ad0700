"""What happens to a resized image on its way to the network: flip, another box, pad and crop, random erasing, normalize.

An albumentations pipeline whose generators are set for every single sample (`reseed`): left alone, albumentations 2.0.8
repeats its draws in forked workers and in every epoch. Part masks follow the same geometry; erased and padded pixels
belong to no part. What is not random is `aaformer_lit.data.preparation`.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # the import asks the network for a newer version otherwise

import albumentations as A
import cv2
import numpy as np
from albumentations.pytorch import ToTensorV2

from aaformer_lit.data.preparation import Normalization
from aaformer_lit.errors import ConfigError, check_choice
from aaformer_lit.structures import NO_PART


class RandomBox(A.DualTransform):  # type: ignore[misc]  # albumentations is untyped here
    """Boxes that do not sit on the body: each end moves, inwards by up to `off` of the height, outwards by two thirds of it.

    What lies outside of the image repeats its border's row, and belongs to no part. The result has the image's size.
    """

    def __init__(self, off: float, p: float) -> None:
        super().__init__(p=p)
        self.off = off

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height = params["shape"][0]
        top, bottom = (round(self.py_random.uniform(-self.off * 2 / 3, self.off) * height) for _ in range(2))
        return {"rows": (top, max(height - bottom, top + 1))}  # rounded up, two cuts of nearly half leave no row

    def apply(self, image: np.ndarray, rows: tuple[int, int], **_: object) -> np.ndarray:
        return self._box(image, rows, cv2.BORDER_REPLICATE, cv2.INTER_LINEAR)

    def apply_to_mask(self, mask: np.ndarray, rows: tuple[int, int], **_: object) -> np.ndarray:
        return self._box(mask, rows, cv2.BORDER_CONSTANT, cv2.INTER_NEAREST_EXACT)

    @staticmethod
    def _box(image: np.ndarray, rows: tuple[int, int], border: int, interpolation: int) -> np.ndarray:
        (top, bottom), (height, width) = rows, image.shape[:2]
        inside = image[max(top, 0) : min(bottom, height)]
        box = cv2.copyMakeBorder(inside, max(-top, 0), max(bottom - height, 0), 0, 0, border, value=NO_PART)
        resized: np.ndarray = cv2.resize(box, (width, height), interpolation=interpolation)
        return resized


class RandomErasing(A.DualTransform):  # type: ignore[misc]  # albumentations is untyped here
    """Random erasing (Zhong et al., AAAI 2020): a rectangle of random area and aspect becomes noise or the mean color.

    The rectangle is drawn again until it fits. albumentations' own `Erasing` limits the area instead, to 15 % on a 2:1
    image.
    """

    def __init__(self, fill: Literal["random"] | Sequence[int], area: Sequence[float], p: float) -> None:
        super().__init__(p=p)
        self.fill, self.area = fill, area

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        for _ in range(100):
            area = self.py_random.uniform(*self.area) * height * width
            aspect = math.exp(self.py_random.uniform(math.log(0.3), math.log(1 / 0.3)))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < h <= height and 0 < w <= width:
                top, left = self.py_random.randint(0, height - h), self.py_random.randint(0, width - w)
                return {"box": (slice(top, top + h), slice(left, left + w))}
        return {"box": (slice(0), slice(0))}

    def apply(self, image: np.ndarray, box: tuple[slice, slice], **_: object) -> np.ndarray:
        image = image.copy()  # the input may be the cached image
        noise = self.fill == "random"
        image[box] = self.random_generator.integers(0, 256, image[box].shape, np.uint8) if noise else self.fill
        return image

    def apply_to_mask(self, mask: np.ndarray, box: tuple[slice, slice], **_: object) -> np.ndarray:
        mask = mask.copy()
        mask[box] = NO_PART
        return mask


class Normalize(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations is untyped here
    """The normalization of every image here, as a step of a pipeline."""

    def __init__(self, normalization: Normalization) -> None:
        super().__init__(p=1)
        self.normalization = normalization

    def apply(self, image: np.ndarray, **_: object) -> np.ndarray:
        return self.normalization(image)


@dataclass(frozen=True)
class Transforms:
    """The settings of augmentation and normalization; `train` and `test` build the pipelines from them.

    `flip`, `move_box` and `erase` are probabilities, `box` the share of the height by which a moved box may be off at either
    end (`RandomBox`; below 0.5, 0 for none), `pad` the zero border in pixels before the random crop, `erase_area` the
    smallest and largest share of the image to erase, `erase_fill` noise ("random") or the mean color ("mean"); `mean`
    and `std` are per channel (RGB) in [0, 1].
    """

    flip: float = 0.5
    box: float = 0.0
    move_box: float = 0.75
    pad: int = 10
    erase: float = 0.5
    erase_area: Sequence[float] = (0.02, 0.4)
    erase_fill: Literal["random", "mean"] = "random"
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("flip", "move_box", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"data.transforms.{name}={getattr(self, name)} is a probability. Use a value from 0 to 1."
                )
        if not 0 <= self.box < 0.5:
            raise ConfigError(
                f"data.transforms.box={self.box} is a share of the height that may be cut off at either end. "
                "Use a value from 0 to below 0.5."
            )
        if self.pad < 0:
            raise ConfigError(f"data.transforms.pad={self.pad} is a border in pixels. Use 0 or more.")
        check_choice("data.transforms.erase_fill", self.erase_fill, ("random", "mean"))
        if len(self.erase_area) != 2 or not 0 < self.erase_area[0] <= self.erase_area[1] <= 1:
            raise ConfigError(
                f"data.transforms.erase_area={list(self.erase_area)} must be two shares of the image, smallest first, "
                f"e.g. [0.02, 0.4]."
            )
        Normalization(self.mean, self.std)  # refuses what is no mean or std

    def train(self, size: tuple[int, int]) -> A.Compose:
        """Augments and normalizes an image of (height, width) `size`; call `reseed` before every sample."""
        fill = self.erase_fill if self.erase_fill == "random" else [round(255 * m) for m in self.mean]
        steps: list[A.BasicTransform] = [A.HorizontalFlip(p=self.flip)]
        if self.box:
            steps.append(RandomBox(self.box, self.move_box))
        if self.pad:
            steps += [A.Pad(padding=self.pad, fill=0, fill_mask=NO_PART), A.RandomCrop(*size)]
        steps += [RandomErasing(fill, self.erase_area, p=self.erase), *self._to_tensor()]
        # the place of each pixel is of interest only where boxes move
        return A.Compose(steps, additional_targets={"place": "mask"} if self.box else None)

    def test(self) -> A.Compose:
        """Normalizes; nothing is random."""
        return A.Compose(self._to_tensor())

    def _to_tensor(self) -> list[A.BasicTransform]:
        return [Normalize(Normalization(self.mean, self.std)), ToTensorV2()]


def reseed(pipeline: A.Compose, *key: int) -> None:
    """Make the pipeline's next draws a function of `key` alone, such as (seed, epoch, index)."""
    rng = np.random.default_rng(key)
    pipeline.set_random_state(rng, random.Random(int(rng.integers(1 << 62))))
