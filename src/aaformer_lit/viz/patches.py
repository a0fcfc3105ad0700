"""From patches to pixels: attention and assignments painted onto the image, as arrays, before any figure is made.

Patch (i, j) of a (rows, columns) grid covers the pixels whose relative position falls into cell (i, j). For a patch
stride below the patch size, where patches overlap, that is the cell about the patch's center, not its whole field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from PIL import Image

from aaformer_lit.viz.images import Array, Picture, Pictures, as_array, as_pictures
from aaformer_lit.viz.palette import ATTENTION

TINT = 0.55  # the color's share in a painted pixel; the rest is the gray image
LIFT = 0.2  # the least brightness under an assignment's colors
OUTSIDE = 0.35  # brightness of pixels that no part takes
ATTENDED = 0.5, 2.0  # shares of attention, 1 is equal, from which and up to which places get their color
STRIPE = 1 / 32  # stripe width of shared patches, in image heights


@dataclass(frozen=True, slots=True)
class PatchMaps:
    """Images with one map per head and part over their patches."""

    images: Pictures
    maps: Float[NDArray[np.float32], "images heads parts patches"]
    grid: tuple[int, int]


def patch_maps(
    images: Array | Sequence[Array], maps: Array, grid: Sequence[int], parts: Sequence[int], what: str
) -> PatchMaps:
    """Bring images and maps to (images, ...) and (images, heads, parts, patches), and check that they fit one another.

    One image may come as (height, width, 3) with maps (parts, patches) or (heads, parts, patches); several images with
    (images, parts, patches) or (images, heads, parts, patches). Raises ValueError saying which size is off.
    """
    single = hasattr(images, "ndim") and images.ndim == 3
    pictures = as_pictures(images)
    array = as_array(maps).astype(np.float32)
    array = array[None] if single and array.ndim < 4 else array
    array = array[:, None] if array.ndim == 3 else array
    rows, columns = grid
    wanted = (len(pictures), sum(parts), rows * columns)
    if array.ndim != 4 or (len(array), *array.shape[2:]) != wanted:
        raise ValueError(
            f"{what} must be (images, heads, parts, patches) with {wanted[0]} images, {wanted[1]} part tokens (parts="
            f"{list(parts)}) and {rows}x{columns} = {wanted[2]} patches; got shape {tuple(as_array(maps).shape)}."
        )
    return PatchMaps(pictures, array, (rows, columns))


def pixel_patches(grid: tuple[int, int], size: tuple[int, ...]) -> Int[NDArray[np.intp], "height width"]:
    """The patch index of every pixel of an image of `size` (height, width, ...)."""
    rows = np.arange(size[0]) * grid[0] // size[0]
    columns = np.arange(size[1]) * grid[1] // size[1]
    return rows[:, None] * grid[1] + columns[None, :]


def gray(image: Picture) -> Float[NDArray[np.float64], "height width 3"]:
    """The image's luma (Rec. 601) in [0, 1], in three equal channels."""
    luma = image @ np.array([0.299, 0.587, 0.114]) / 255.0
    return np.repeat(luma[..., None], 3, axis=-1)


def attention_overlay(
    image: Picture,
    attention: Float[NDArray[np.float32], " patches"],
    member: Bool[NDArray[np.bool_], " patches"],
    grid: tuple[int, int],
) -> Picture:
    """The attention of one part over its subset, blue (none) to yellow (the map's largest), black outside (Figure 5)."""
    peak = attention[member].max(initial=0.0)
    level = attention / peak if peak > 0 else np.zeros_like(attention)
    colors = ATTENTION(level)[:, :3]
    patch = pixel_patches(grid, image.shape)
    painted = (1 - TINT) * gray(image) + TINT * colors[patch]
    return _uint8(np.where(member[patch][..., None], painted, 0.0))


def majority(votes: Float[NDArray[np.float32], "parts patches"]) -> Bool[NDArray[np.bool_], "parts patches"]:
    """The part or parts with most votes for a patch; none where nobody votes. Ties stay ties."""
    most: Bool[NDArray[np.bool_], "parts patches"] = (votes == votes.max(axis=0)) & (votes > 0)
    return most


def assignment_overlay(
    image: Picture,
    member: Bool[NDArray[np.bool_], "parts patches"],
    colors: Sequence[tuple[float, float, float]],
    grid: tuple[int, int],
) -> Picture:
    """The image tinted by the part of each patch, light lines between different subsets; patches of no part are dark.

    A patch of several parts (overlapping masks, a tie of the heads) is striped in their colors.
    """
    patch = pixel_patches(grid, image.shape)
    height, width = patch.shape
    stripe = np.add.outer(np.arange(height), np.arange(width)) // max(2, round(height * STRIPE))
    inside = member[:, patch]
    owners = inside.sum(axis=0)
    turn = stripe % np.maximum(owners, 1)
    chosen = inside & (np.cumsum(inside, axis=0) - 1 == turn)
    tint = np.tensordot(chosen.astype(np.float64), np.asarray(colors, np.float64), axes=(0, 0))
    base = gray(image)
    painted = np.where(owners[..., None] > 0, _tinted(base, tint), OUTSIDE * base)
    painted[_edges(inside)] = 0.25 * painted[_edges(inside)] + 0.75
    return _uint8(painted)


def attended_overlay(
    image: Picture,
    attention: Float[NDArray[np.float32], "parts patches"],
    colors: Sequence[tuple[float, float, float]],
    grid: tuple[int, int],
) -> Picture:
    """The image in the color of the part that attends most to each place, dark where no part looks.

    Smooth between the patches' centers; in full color where all parts together give twice an equal share of their
    attention, dark where they give half of it.
    """
    height, width = image.shape[:2]
    shares = attention.reshape(-1, *grid) * (attention.shape[-1] / len(attention))
    enlarged = [Image.fromarray(share).resize((width, height), Image.Resampling.BICUBIC) for share in shares]
    smooth = np.stack([np.asarray(one) for one in enlarged])
    low, high = ATTENDED
    level = np.clip((smooth.sum(axis=0) - low) / (high - low), 0, 1)[..., None]
    tint = np.asarray(colors, np.float64)[smooth.argmax(axis=0)]
    base = gray(image)
    return _uint8((1 - level) * OUTSIDE * base + level * _tinted(base, tint))


def _tinted(
    base: Float[NDArray[np.float64], "height width 3"], tint: Float[NDArray[np.float64], "height width 3"]
) -> Float[NDArray[np.float64], "height width 3"]:
    """The gray image in color, lifted: black clothes would make every color look alike."""
    return (1 - TINT) * (LIFT + (1 - LIFT) * base) + TINT * tint


def _edges(inside: Bool[NDArray[np.bool_], "parts height width"]) -> Bool[NDArray[np.bool_], "height width"]:
    """Pixels whose upper or left neighbor belongs to other parts."""
    edges = np.zeros(inside.shape[1:], dtype=np.bool_)
    edges[1:] |= (inside[:, 1:] != inside[:, :-1]).any(axis=0)
    edges[:, 1:] |= (inside[:, :, 1:] != inside[:, :, :-1]).any(axis=0)
    return edges


def _uint8(image: Float[NDArray[np.float64], "height width 3"]) -> Picture:
    return np.clip(np.rint(image * 255.0), 0, 255).astype(np.uint8)
