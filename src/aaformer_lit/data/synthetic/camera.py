"""The cameras of the synthetic data set: each looks at a place of its own and distorts what it sees in a way of its own.

A camera multiplies the channels (color cast), bends brightness (gamma), washes out colors (saturation), is out of focus,
sees less detail than it stores, and adds noise. How far it strays from a perfect camera grows with the difficulty.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from aaformer_lit.data.synthetic.spec import SyntheticSpec
from aaformer_lit.structures import Pixels

Picture = Float[np.ndarray, "height width 3"]


@dataclass(frozen=True, slots=True)
class Camera:
    """What a camera does to a picture.

    `blur` is a standard deviation in pixels of a 128-pixel-high image, `noise` one in gray levels; `detail` is the share of
    the stored pixels, along each side, that the camera resolves.
    """

    gain: tuple[float, float, float]
    gamma: float
    saturation: float
    blur: float
    detail: float
    noise: float

    @staticmethod
    def draw(spec: SyntheticSpec, camid: int) -> Camera:
        rng = spec.rng(2, camid)
        strength = 0.15 + 0.85 * spec.difficulty
        cast = rng.uniform(-0.2, 0.2, 3) * strength
        red, green, blue = np.exp(cast - cast.mean())
        return Camera(
            gain=(float(red), float(green), float(blue)),
            gamma=float(np.exp(rng.uniform(-0.45, 0.45) * strength)),
            saturation=1 - float(rng.uniform(0, 0.5)) * strength,
            blur=0.25 + float(rng.uniform(0, 0.75)) * strength,
            detail=1 - float(rng.uniform(0, 0.45)) * strength,
            noise=1.0 + float(rng.uniform(0, 7)) * strength,
        )

    def take(self, scene: Picture, rng: np.random.Generator) -> Pixels:
        """The picture (values 0 to 255) as this camera stores it."""
        height, width = scene.shape[:2]
        small = (max(8, round(width * self.detail)), max(16, round(height * self.detail)))
        picture = cv2.resize(scene, small, interpolation=cv2.INTER_AREA)
        sigma = self.blur * height / 128 * self.detail
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
        picture = cv2.transform(picture, self._color_matrix())
        top, left = int(rng.integers(height)), int(rng.integers(width))
        noise = np.float32(self.noise) * _grain(height, width)[top : top + height, left : left + width]
        levels = np.clip(picture + noise, 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(levels, _gamma_curve(self.gamma)))

    def _color_matrix(self) -> Float[np.ndarray, "3 3"]:
        luma = np.array([[0.299, 0.587, 0.114]], np.float32)
        washed = self.saturation * np.eye(3, dtype=np.float32) + (1 - self.saturation) * luma
        return np.array(self.gain, np.float32)[:, None] * washed


@lru_cache(maxsize=256)
def _gamma_curve(gamma: float) -> UInt8[np.ndarray, " 256"]:
    return np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)


@lru_cache(maxsize=4)
def _grain(height: int, width: int) -> Picture:
    """A field of noise to cut from, which is several times faster than to draw anew."""
    return np.random.default_rng(6).standard_normal((2 * height, 2 * width, 3), np.float32)
