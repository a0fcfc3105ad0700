"""A canvas of materials: what is drawn decides color and body-part label of a pixel in one stroke, so the two cannot disagree.

Shapes write a material's index (with one of four tones of shading) into an oversampled 8-bit map. At the end two look-up
tables turn the map into colors, averaged down to the image, and into part labels, sampled at the center of each pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

Point = tuple[float, float]

DEEP, SHADE, BASE, LIGHT = range(4)
TONES = 4
_TONE_GAIN = np.array((0.55, 0.78, 1.0, 1.06), np.float32)
_SHIFT = 4  # cv2 takes coordinates in 1/16 pixel
# half circles about the end and the start of a capsule that points along +x, as complex numbers
_END_CAP = np.exp(1j * np.linspace(-math.pi / 2, math.pi / 2, 7))
_START_CAP = -_END_CAP
# shading of a limb: width and shift towards the light of its bands, as shares of its radius
_BANDS = ((SHADE, 1.0, 0.0), (BASE, 0.74, 0.28), (LIGHT, 0.3, 0.42))


class Part(IntEnum):
    """The body-part label of a pixel, as the mask files hold it."""

    BACKGROUND = 0
    HEAD = 1
    HAIR = 2
    TORSO = 3
    ARMS = 4
    LEGS = 5
    SHOES = 6
    CARRIED = 7


# background black, then a color for each part: to look at label maps
PART_COLORS = np.array(
    [
        (0, 0, 0),
        (240, 200, 170),
        (120, 70, 30),
        (220, 60, 60),
        (240, 160, 60),
        (60, 90, 220),
        (60, 200, 90),
        (200, 60, 200),
    ],
    np.uint8,
)


class Canvas:
    """An image under construction: `scale` x `scale` samples per pixel; coordinates are in pixels of the finished image."""

    def __init__(self, height: int, width: int) -> None:
        # about 256 samples high, whatever the image: at 128 three times as many cost a fifth more and look the same
        self.scale = max(1, round(256 / height))
        self.size = (height, width)
        self._indices = np.zeros((height * self.scale, width * self.scale), np.uint8)
        self._unit = self.scale * (1 << _SHIFT)
        self._materials: list[tuple[int, ...]] = []
        self._capsules: list[tuple[complex, complex, float, float, int]] = []

    @property
    def room(self) -> int:
        """How many materials can still be registered."""
        return 63 - len(self._materials)

    def material(self, color: Sequence[int], part: Part) -> int:
        """Register a material; returns the index of its darkest tone."""
        if not self.room:
            raise ValueError("a canvas holds 63 materials; draw fewer figures on one canvas.")
        self._materials.append((*color, part))
        return 1 + TONES * (len(self._materials) - 1)

    @property
    def indices(self) -> UInt8[np.ndarray, "rows columns"]:
        """The map of materials as drawn so far; what is written to it is drawn."""
        self._draw_capsules()
        return self._indices

    def polygon(self, points: Sequence[Point], index: int) -> None:
        fixed = np.rint(np.array(points) * self._unit).astype(np.int32)
        cv2.fillPoly(self.indices, [fixed], index, cv2.LINE_8, _SHIFT)

    def ellipse(self, center: Point, radii: Point, index: int) -> None:
        fixed = (round(center[0] * self._unit), round(center[1] * self._unit))
        axes = (max(0, round(radii[0] * self._unit)), max(0, round(radii[1] * self._unit)))
        cv2.ellipse(self.indices, fixed, axes, 0, 0, 360, index, -1, cv2.LINE_8, _SHIFT)

    def capsule(self, a: Point, b: Point, radius_a: float, radius_b: float, index: int) -> None:
        """A tapered capsule from `a` to `b`."""
        self._capsules.append((complex(*a), complex(*b), radius_a, radius_b, index))

    def limb(
        self, a: Point, b: Point, radius_a: float, radius_b: float, material: int, light: float, far: bool
    ) -> None:
        """A shaded tapered capsule; `light` is the side (-1 left, 1 right) it is lit from, `far` limbs are darker."""
        start, end = complex(*a), complex(*b)
        darker = material - 1 if far else material
        for tone, width, shift in _BANDS:
            aside = light * shift
            self._capsules.append(
                (start + aside * radius_a, end + aside * radius_b, width * radius_a, width * radius_b, darker + tone)
            )

    def _draw_capsules(self) -> None:
        """Draw the capsules collected since the last other shape: numpy takes as long for the outline of one as of twenty."""
        if not self._capsules:
            return
        start, end, radius_start, radius_end, index = (
            np.array(column)[:, None] for column in zip(*self._capsules, strict=True)
        )
        self._capsules.clear()
        along = (end - start) / np.maximum(np.abs(end - start), 1e-6)
        outlines = np.concatenate(
            (end + radius_end * along * _END_CAP, start + radius_start * along * _START_CAP), axis=1
        )
        fixed = np.rint(outlines * self._unit).view(np.float64).astype(np.int32).reshape(*outlines.shape, 2)
        for outline, value in zip(fixed, index[:, 0].tolist(), strict=True):
            cv2.fillConvexPoly(self._indices, outline, value, cv2.LINE_8, _SHIFT)

    def recolor(
        self, first: int, other: int, where: Bool[np.ndarray, "rows columns"], box: tuple[slice, slice]
    ) -> None:
        """Inside `box`, pixels of material `first` that are `where` become material `other` in the same tone."""
        region = self.indices[box]
        hit = where & (region >= first) & (region < first + TONES)
        region[hit] += np.uint8(other - first)  # both are registered, so the sum stays below 256

    def rgba(self) -> UInt8[np.ndarray, "height width 4"]:
        """Colors averaged down to the image, premultiplied by the coverage (0 to 255) in the fourth channel."""
        palette = np.zeros((256, 4), np.uint8)
        colors = np.array(self._materials, np.float32).reshape(-1, 4)[:, None, :3] * _TONE_GAIN[:, None]
        used = 1 + TONES * len(self._materials)
        palette[1:used, :3] = np.minimum(colors.reshape(-1, 3), 255)
        palette[1:used, 3] = 255
        samples = np.take(palette.view(np.uint32)[:, 0], self.indices).view(np.uint8)
        samples = samples.reshape(*self.indices.shape, 4)
        return np.asarray(cv2.resize(samples, self.size[::-1], interpolation=cv2.INTER_AREA))

    def part_labels(self, coverage: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
        """The part of each pixel that is at least half covered; `BACKGROUND` elsewhere."""
        step, middle = self.scale, self.scale // 2
        drawn = self.indices[middle::step, middle::step]
        # a pixel that is mostly covered but bare at its very center takes the part of a neighboring sample
        nearby = cv2.dilate(self.indices, np.ones((step, step), np.uint8))[middle::step, middle::step]
        labels = np.zeros(256, np.uint8)
        labels[1 : 1 + TONES * len(self._materials)] = np.repeat([part for *_, part in self._materials], TONES)
        labels = np.take(labels, np.where(drawn > 0, drawn, nearby))
        return np.where(coverage >= 128, labels, np.uint8(Part.BACKGROUND))


def spread(values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width 3"]:
    """One value per pixel for all channels; several times faster than to broadcast over a last axis of three."""
    return np.asarray(cv2.cvtColor(values, cv2.COLOR_GRAY2RGB))


def over(
    rgba: UInt8[np.ndarray, "height width 4"], background: Float[np.ndarray, "height width 3"]
) -> Float[np.ndarray, "height width 3"]:
    """The drawing in front of a background, both 0 to 255."""
    picture = spread(1 - rgba[..., 3] * np.float32(1 / 255))
    picture *= background
    picture += rgba[..., :3]
    return picture
