"""Which patch belongs to which part (Figure 1d), beside fixed partitions (Figure 1b-c) and from layer to layer.

Each granularity is a picture of its own, because it groups all patches anew. A patch takes the color of its part;
light lines run between subsets; a patch of no part is dark, one shared by several parts is striped. A legend names the
colors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aaformer_lit.viz.figure import TITLE_HEIGHT, best_columns, cell_size, frame, heading, panels, styled
from aaformer_lit.viz.images import Array, Picture, as_array
from aaformer_lit.viz.legend import LEGEND_WIDTH, part_legend
from aaformer_lit.viz.palette import INK, Part, part_tokens
from aaformer_lit.viz.patches import PatchMaps, assignment_overlay, attended_overlay, majority, patch_maps
from aaformer_lit.viz.strips import PAGE_ASPECT, name_columns, of_head, strips

Votes = Float[NDArray[np.float32], "images parts patches"]
BLOCK_GAP = 0.3  # inches between images, with the names of the granularities


@styled
def assignment_maps(
    images: UInt8[Array, "*images height width 3"] | Sequence[Array],
    assignment: Bool[Array, "*images heads parts patches"],
    grid: Sequence[int],
    parts: Sequence[int],
    *,
    head: int | None = None,
    others: Mapping[str, Array] | None = None,
    attention: Float[Array, "*images heads parts patches"] | None = None,
    title: str | None = None,
) -> Figure:
    """The assignment of one layer as colored patches: one strip per image, one panel per granularity.

    With `attention`, a second panel per granularity shows what becomes of the subsets, see `attended_overlay`.
    `head=None` gives a patch to the part that most heads gave it to. `others` are partitions to compare with, by name:
    each the membership of a single granularity, (parts, patches) for all images alike (PCB's stripes), (images, parts,
    patches) (SPReID's masks) or with the heads' axis; they stand between the image and the assignment.
    Raises ValueError for sizes that do not fit, TypeError for images that are not uint8.
    """
    own = patch_maps(images, assignment, grid, parts, "assignment")
    columns = [(name, *_fixed(own, membership, name)) for name, membership in (others or {}).items()]
    votes = _votes(own, head)
    columns += [(_count(group), group, votes) for group in _granularities(parts)]
    weights = None
    if attention is not None:
        weights = of_head(patch_maps(images, attention, grid, parts, "attention").maps, head).mean(axis=1)
    names = ["image", *(name for name, _, _ in columns)]
    if weights is not None:
        names += [f"{_count(group)}, attended" for group in _granularities(parts)]
    figure, axes = strips(own.images, names, title=title, right=LEGEND_WIDTH)
    shown = {part for _, group, _ in columns for part in group}
    part_legend(figure, sorted(shown))
    for index, (image, row) in enumerate(zip(own.images, axes, strict=True)):
        row[0].imshow(image)
        for (_, group, votes), panel in zip(columns, row[1 : 1 + len(columns)], strict=True):
            panel.imshow(_paint(image, votes[index], group, own.grid))
        if weights is not None:
            for group, panel in zip(_granularities(parts), row[1 + len(columns) :], strict=True):
                own_weights = weights[index][[part.token for part in group]]
                panel.imshow(attended_overlay(image, own_weights, [part.color for part in group], own.grid))
    return figure


@styled
def assignment_through_layers(
    images: UInt8[Array, "*images height width 3"] | Sequence[Array],
    assignments: Sequence[Bool[Array, "*images heads parts patches"]],
    grid: Sequence[int],
    parts: Sequence[int],
    *,
    head: int | None = None,
    tokens: Sequence[int] | None = None,
    title: str | None = None,
) -> Figure:
    """How the subsets move through the layers: one column per layer, as `ReIDOutput.assignments` holds them.

    Images of few layers stand side by side.

    One row per image and granularity with all its parts, or, with `tokens`, one row per image and chosen part token
    (numbered through all granularities), everything else dark. `head` as in `assignment_maps`.
    Raises ValueError for sizes that do not fit or an empty list of layers, TypeError for images that are not uint8.
    """
    if not len(assignments):
        raise ValueError("no layers to draw: `assignments` is empty. Ask the network for its assignments.")
    layers = [patch_maps(images, layer, grid, parts, "an assignment") for layer in assignments]
    votes = [_votes(layer, head) for layer in layers]
    groups = _granularities(parts) if tokens is None else [[part_tokens(parts)[token]] for token in tokens]
    pictures = layers[0].images
    cell = cell_size(pictures.shape[1:], area=1.3)
    width = 1 + len(layers)
    block = (cell[0] + 0.08) * width + BLOCK_GAP, (cell[1] + 0.08) * len(groups) + BLOCK_GAP
    blocks = best_columns(len(pictures), block, PAGE_ASPECT)
    rows = math.ceil(len(pictures) / blocks)  # of images
    figure, cells = panels(
        rows * len(groups),
        blocks * width,
        cell,
        margin=(0.3, LEGEND_WIDTH, 0.1, 0.27 + TITLE_HEIGHT * bool(title)),
        wider_before=range(width, blocks * width, width),
        taller_before=range(len(groups), rows * len(groups), len(groups)),
        extra=BLOCK_GAP,
    )
    heading(figure, title)
    part_legend(figure, [part for group in groups for part in group])
    name_columns(figure, cells[0], ["image", *(f"layer {number}" for number in range(1, len(layers) + 1))] * blocks)
    # down the first block, then down the next
    axes = [row[start : start + width] for start in range(0, blocks * width, width) for row in cells]
    for unused in itertools.chain(*axes[len(pictures) * len(groups) :]):
        unused.remove()
    for index, image in enumerate(pictures):
        for group, row in zip(groups, axes[index * len(groups) :], strict=False):
            row[0].imshow(image)
            row[0].set_ylabel(_count(group) if tokens is None else group[0].name, fontsize=7.5, labelpad=3, color=INK)
            for layer, panel in zip(votes, row[1:], strict=True):
                panel.imshow(_paint(image, layer[index], group, layers[0].grid))
                if tokens is not None:
                    frame(panel, group[0].color, 1.2)
    return figure


def _granularities(parts: Sequence[int]) -> list[list[Part]]:
    tokens = part_tokens(parts)
    ends = np.cumsum(parts)
    return [tokens[end - count : end] for end, count in zip(ends, parts, strict=True)]


def _count(group: Sequence[Part]) -> str:
    return f"{len(group)} parts" if len(group) > 1 else "1 part"


def _votes(maps: PatchMaps, head: int | None) -> Votes:
    """How many of the chosen heads give each patch to each part."""
    votes: Votes = (of_head(maps.maps, head) > 0).sum(axis=1).astype(np.float32)
    return votes


def _paint(
    image: Picture, votes: Float[NDArray[np.float32], "parts patches"], group: Sequence[Part], grid: tuple[int, int]
) -> Picture:
    rows = [part.token for part in group]
    return assignment_overlay(image, majority(votes[rows]), [part.color for part in group], grid)


def _fixed(own: PatchMaps, membership: Array, name: str) -> tuple[list[Part], Votes]:
    """A partition to compare with: its parts as one granularity, and its votes for every image."""
    array = as_array(membership)
    if array.ndim == 2:
        array = np.broadcast_to(array, (len(own.images), *array.shape))
    granularity = array.shape[-2]
    maps = patch_maps(own.images, array, own.grid, [granularity], f"the partition {name!r}")
    return part_tokens([granularity]), _votes(maps, None)
