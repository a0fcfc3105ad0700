"""The loader's preprocessing as a graph: uint8 images of any size in, resized and normalized images out.

Resizing is linear, so along each axis it is a matrix: the mean over the covered area where the image shrinks, bicubic
interpolation where it grows, as `data.transforms.resize` does with OpenCV. OpenCV computes in fixed point and rounds
between the two steps; here pixels are rounded once, at most one gray level away from the loader's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

_A = -0.75  # of the bicubic kernel, as in OpenCV


class Preprocess(nn.Module):
    """uint8 NHWC (RGB) -> float NCHW of the network's size, normalized.

    Args:
        image_size: (height, width) that the network takes.
        mean, std: per channel, in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, image_size: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.height, self.width = image_size
        self.register_buffer("mean", torch.tensor(list(mean))[:, None, None])
        self.register_buffer("std", torch.tensor(list(std))[:, None, None])

    def forward(self, images: UInt8[Tensor, "batch rows columns 3"]) -> Float[Tensor, "batch 3 height width"]:
        return (self.resize(images) / 255 - self.mean) / self.std

    def resize(self, images: UInt8[Tensor, "batch rows columns 3"]) -> Float[Tensor, "batch 3 height width"]:
        """Whole gray levels from 0 to 255."""
        pixels = images.permute(0, 3, 1, 2).float()
        down = resize_matrix(images.shape[1], self.height)
        across = resize_matrix(images.shape[2], self.width)
        return (down @ pixels @ across.T).round().clamp(0, 255)


def resize_matrix(old: int, new: int) -> Float[Tensor, "new old"]:
    """The weights of `old` pixels in each of `new` pixels; rows sum to 1."""
    position = torch.arange(old, dtype=torch.float32)
    # the number of pixels as a tensor: a traced graph must not take today's size for a constant
    count = position.amax(dim=0) + 1
    scale = count / new
    index = torch.arange(new, dtype=torch.float32)[:, None]
    start = index * scale
    overlap = torch.minimum(start + scale, position + 1) - torch.maximum(start, position)
    area = overlap.clamp_min(0) / scale

    center = (index + 0.5) * scale - 0.5
    taps = center.floor() + torch.arange(-1, 3)
    weights = _bicubic((center - taps).abs())
    # beyond the border stands the pixel at the border
    inside = torch.minimum(taps.clamp_min(0), count - 1)
    bicubic = (weights[:, :, None] * (inside[:, :, None] == position)).sum(dim=1)
    return torch.where(scale >= 1, area, bicubic)


def _bicubic(distance: Tensor) -> Tensor:
    near = ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
    far = ((_A * distance - 5 * _A) * distance + 8 * _A) * distance - 4 * _A
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
