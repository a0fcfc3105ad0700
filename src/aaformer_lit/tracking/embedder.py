"""From a video frame and a detector's boxes to descriptors: what a tracker compares when people cross or come back.

Frames are as OpenCV reads them (BGR) and boxes as trackers hold them (corners in pixels), for that is what a tracker has.
Crops are turned to RGB, resized and normalized as in the network's training, so a descriptor equals that of `embed_images`
of the same pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Tensor

from aaformer_lit.data.image_transform import pixels_of
from aaformer_lit.errors import ConfigError
from aaformer_lit.models import ReIDViT
from aaformer_lit.structures import Pixels


class Embedded(NamedTuple):
    """The boxes of one frame, in their order, in main memory.

    `features` are zeros where `mask` is False: the box is empty or outside the frame. `quality` is the share of the box
    that lies inside the frame, for `Tracklet`; sharpness and size were tried beside it, and made tracks worse.
    """

    features: Float[Tensor, "boxes dim"]
    mask: Bool[Tensor, " boxes"]
    quality: Float[Tensor, " boxes"]


class Embedder:
    """Descriptors of people in frames.

    Args:
        network: of `load_model`, which knows how its images are prepared; on the device that shall compute.
        batch_size: boxes that pass through the network at once.

    Raises:
        ConfigError: the network has no `transform`, or batch_size is below 1.
    """

    def __init__(self, network: ReIDViT, batch_size: int = 64) -> None:
        network.embed_images([], batch_size)  # says what is missing before the first frame does
        self.network, self.batch_size = network.eval(), batch_size

    def __call__(self, frame_bgr: Pixels, boxes: ArrayLike) -> Embedded:
        """Describe the people in these boxes.

        Args:
            frame_bgr: uint8, as `cv2.imread` and `cv2.VideoCapture` give it.
            boxes: (boxes, 4), x1, y1, x2, y2 in pixels, of any number type; they may reach over the frame's edge, and only
                what lies inside is seen. Columns after the fourth (score, class) are ignored.

        Raises:
            ImageError: the frame is no uint8 array (height, width, 3).
            ConfigError: the boxes are not rows of four numbers.
        """
        frame, corners = pixels_of(frame_bgr), _corners(boxes)
        crops = [cut(frame, box) for box in corners]
        mask = torch.tensor([crop.size > 0 for crop in crops], dtype=torch.bool)
        seen = self.network.embed_images(
            [cv2.cvtColor(crop, cv2.COLOR_BGR2RGB) for crop in crops if crop.size], self.batch_size
        )
        features = seen.new_zeros(len(crops), seen.shape[1])
        features[mask] = seen
        return Embedded(features, mask, torch.where(mask, torch.from_numpy(_share_inside(corners, frame)), 0).float())


def cut(frame: Pixels, box: Float[np.ndarray, 4]) -> Pixels:
    """The part of a box that lies inside the frame, its corners rounded to whole pixels; without pixels where there is none."""
    if not np.isfinite(box).all():  # a Kalman filter may give such
        return frame[:0, :0]
    x1, y1, x2, y2 = (max(0, round(float(corner))) for corner in box)
    return frame[y1:y2, x1:x2]


def _share_inside(corners: Float[np.ndarray, "boxes 4"], frame: Pixels) -> Float[np.ndarray, " boxes"]:
    """Of each box's area; NaN for what has none."""
    height, width = frame.shape[:2]
    low, high = corners[:, :2], corners[:, 2:]
    inside = np.clip(high, 0, (width, height)) - np.clip(low, 0, (width, height))
    with np.errstate(divide="ignore", invalid="ignore"):
        share: np.ndarray = np.prod(inside, axis=1) / np.prod(high - low, axis=1)
    return share


def _corners(boxes: ArrayLike) -> Float[np.ndarray, "boxes 4"]:
    corners = np.asarray(boxes, dtype=np.float64)
    if corners.size == 0:
        return np.zeros((0, 4))
    if corners.ndim != 2 or corners.shape[1] < 4:
        raise ConfigError(
            f"boxes are rows of x1, y1, x2, y2 in pixels; got an array of shape {corners.shape}. A single box is boxes[None]."
        )
    return corners[:, :4]
