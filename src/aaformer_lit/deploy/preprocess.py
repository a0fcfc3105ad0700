"""The loader's preprocessing as a graph: pictures as other programs have them in, the loader's own pixels out, normalized.

`data.preparation.resize` shrinks a side by area, grows one by bicubic interpolation, and rounds to whole gray levels after each
of the two. The graph repeats its arithmetic, the order of additions and the roundings included: a pixel that is a gray level
off can give a patch to another part. Shrinking adds up covered pixels one after the other, which in a graph is a loop.

Shapes are those of the network throughout. Where a side does not shrink, the first step leaves it alone and what lies behind
its end is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop

from aaformer_lit.data.image_transform import ImageTransform

_A = -0.75  # of the bicubic kernel, as in OpenCV
_SLIVER = 1e-3  # OpenCV passes over a pixel of which less is covered


class Preprocess(nn.Module):
    """uint8 NHWC (RGB) -> float NCHW of the network's size, normalized.

    Args:
        image_size: (height, width) that the network takes.
        mean, std: per channel, in [0, 1].
    """

    takes: ClassVar[str] = "uint8 NHWC, 0 to 255, any size"
    input_size: ClassVar[tuple[int, int] | None] = None  # any
    input_mean: ClassVar[tuple[float, ...]] = ()
    input_std: ClassVar[tuple[float, ...]] = ()
    mean: Tensor
    std: Tensor

    def __init__(self, image_size: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.height, self.width = image_size
        self.register_buffer("mean", torch.tensor(list(mean))[:, None, None])
        self.register_buffer("std", torch.tensor(list(std))[:, None, None])
        self.loader = ImageTransform(image_size, mean, std)

    def inputs(self, image: UInt8[Tensor, "rows columns 3"]) -> Tensor:
        """A picture as it goes into the graph."""
        return image

    def gray_levels(self, images: Tensor) -> UInt8[Tensor, "batch rows columns 3"]:
        """The pictures behind the inputs."""
        return images

    def by_loader(self, images: Tensor) -> Float[Tensor, "batch 3 height width"]:
        """What the test loader makes of these images, which the graph must equal."""
        return self.loader.batch(list(self.gray_levels(images).numpy()))

    def forward(self, images: Tensor) -> Float[Tensor, "batch 3 height width"]:
        return (self.resize(self.gray_levels(images)) / 255 - self.mean) / self.std

    def resize(self, images: UInt8[Tensor, "batch rows columns 3"]) -> Float[Tensor, "batch 3 height width"]:
        """Whole gray levels from 0 to 255: those of `data.preparation.resize`."""
        pixels = images.permute(0, 3, 1, 2)
        rows, columns = _count(images.shape[1]), _count(images.shape[2])
        shrunk = shrink(pixels, (rows, columns), (self.height, self.width))
        grown = grow(grow(shrunk.double(), rows, self.height, dim=2), columns, self.width, dim=3)
        return grown.round().clamp(0, 255).float()


class BoxmotCrops(Preprocess):
    """What the tracking package boxmot feeds its ReID models: float NCHW (RGB), 256x128, normalized as ImageNet.

    Gray levels are brought back to the bit; a network of another size gets them resized by the loader's arithmetic.
    """

    takes = "float32 NCHW, normalized"
    input_size = (256, 128)
    input_mean = (0.485, 0.456, 0.406)
    input_std = (0.229, 0.224, 0.225)

    _their_mean: Tensor
    _their_std: Tensor

    def __init__(self, image_size: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(image_size, mean, std)
        self.register_buffer("_their_mean", torch.tensor(self.input_mean)[:, None, None])
        self.register_buffer("_their_std", torch.tensor(self.input_std)[:, None, None])

    def inputs(self, image: UInt8[Tensor, "256 128 3"]) -> Float[Tensor, "3 256 128"]:
        return (image.permute(2, 0, 1) / 255 - self._their_mean) / self._their_std

    def gray_levels(self, images: Float[Tensor, "batch 3 256 128"]) -> UInt8[Tensor, "batch 256 128 3"]:
        levels = (images * self._their_std + self._their_mean) * 255
        return levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    def resize(self, images: UInt8[Tensor, "batch 256 128 3"]) -> Float[Tensor, "batch 3 height width"]:
        if (self.height, self.width) == self.input_size:
            return images.permute(0, 3, 1, 2).float()
        return super().resize(images)


def shrink(
    pixels: UInt8[Tensor, "batch 3 rows columns"], old: tuple[Tensor, Tensor], new: tuple[int, int]
) -> Float[Tensor, "batch 3 height width"]:
    """OpenCV's INTER_AREA for the sides that shrink, in whole gray levels."""
    down, across = (_scale(size, end).clamp(min=1) for size, end in zip(old, new, strict=True))
    # whole numbers of pixels become one: sums without weights, then one product
    whole = (_is_whole(down) & _is_whole(across)).reshape(())
    within_rows = _weighted_sum(pixels, old[1], across, whole, new[1], dim=3)
    sums = _weighted_sum(within_rows, old[0], down, whole, new[0], dim=2)
    area = down.round() * across.round()
    mean = torch.where(whole, sums * (1 / area).float(), sums)
    by_four = whole & (down.round() == 2).reshape(()) & (across.round() == 2).reshape(())
    return torch.where(by_four, ((sums + 2) / 4).floor(), mean.round().clamp(0, 255))


def grow(
    pixels: Float[Tensor, "batch 3 height width"], old: Tensor, new: int, dim: int
) -> Float[Tensor, "batch 3 height width"]:
    """Bicubic along one side, in float64 with OpenCV's float32 weights; the pixels as they are where it does not grow."""
    size = old.clamp(max=new)
    center = ((torch.arange(new, dtype=torch.float64) + 0.5) * _scale(size, new) - 0.5).float()
    first = center.floor()
    x = center - first
    near, far = x + 1, 1 - x
    weights = [
        ((_A * near - 5 * _A) * near + 8 * _A) * near - 4 * _A,
        ((_A + 2) * x - (_A + 3)) * x * x + 1,
        ((_A + 2) * far - (_A + 3)) * far * far + 1,
    ]
    weights.append(1 - weights[0] - weights[1] - weights[2])
    shape = [-1 if axis == dim else 1 for axis in range(4)]
    out = torch.zeros_like(pixels)
    for tap, weight in enumerate(weights):
        # beyond the border stands the pixel at the border
        index = torch.minimum((first.long() + tap - 1).clamp(min=0), size.long() - 1)
        out = out + pixels.index_select(dim, index) * weight.double().reshape(shape)
    return out


def _weighted_sum(
    pixels: Shaped[Tensor, "batch 3 rows columns"], old: Tensor, scale: Tensor, whole: Tensor, new: int, dim: int
) -> Float[Tensor, "batch 3 _ _"]:
    """For each of `new` pixels along a side, the sum of the pixels it covers times the share it covers of each."""
    place = torch.arange(new, dtype=torch.float64)
    start, end = place * scale, place * scale + scale
    width = torch.minimum(scale, (old - start).clamp(min=0.5))  # at least the half only behind the end of a side
    last = torch.minimum(end.floor(), old - 1)
    first = torch.minimum(start.ceil(), last)
    before, after = first - start, end - last
    lead = (before > _SLIVER).double()
    last_share = torch.where(after > _SLIVER, torch.minimum(after.clamp(max=1), width) / width, 0.0)
    index_of_first = torch.where(whole, place * scale.round(), first - lead)
    shape = [-1 if axis == dim else 1 for axis in range(4)]

    def add(tap: Int[Tensor, ""], total: Tensor) -> Tensor:
        index = index_of_first + tap
        share = torch.where(index < first, before / width, torch.where(index < last, 1 / width, 0.0))
        share = torch.where(index == last, last_share, share)
        share = torch.where(whole, (tap < scale.round()).double(), share)
        chosen = torch.minimum(index.clamp(min=0), old - 1).long()
        return total + pixels.index_select(dim, chosen).float() * share.float().reshape(shape)

    zeros = torch.zeros_like(pixels.index_select(dim, torch.zeros(new, dtype=torch.long)), dtype=torch.float32)
    return _repeat((scale.floor() + 2).long().reshape(()), add, zeros)


def _repeat(times: Int[Tensor, ""], step: Callable[[Tensor, Tensor], Tensor], start: Tensor) -> Tensor:
    """`step` of the number of the round and what came out of the last one, as often as a tensor says."""
    if not torch.compiler.is_compiling():
        for number in range(int(times)):
            start = step(torch.tensor(number), start)
        return start
    zero = torch.zeros((), dtype=torch.long)
    _, result = while_loop(
        lambda number, _: number < times, lambda number, total: (number + 1, step(number, total)), (zero, start)
    )
    done: Tensor = result
    return done


def _count(size: int) -> Float[Tensor, " 1"]:
    """A size as a tensor: a traced graph must not take today's size for a constant."""
    return torch.arange(size, dtype=torch.float64).amax(dim=0, keepdim=True) + 1


def _scale(old: Tensor, new: int) -> Float[Tensor, " 1"]:
    """Old pixels in a new one: the reciprocal of a quotient, as OpenCV has it."""
    return 1 / (torch.full_like(old, new) / old)  # torch divides a number by a tensor less exactly


def _is_whole(scale: Tensor) -> Tensor:
    return (scale - scale.round()).abs() < torch.finfo(torch.float64).eps
