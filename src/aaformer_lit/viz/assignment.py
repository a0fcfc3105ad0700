"""Which patch belongs to which part (Figure 1d), beside fixed partitions (Figure 1b-c) and from layer to layer.

Each granularity is a picture of its own, because it groups all patches anew. A patch takes the color of its part;
light lines run between subsets; a patch of no part is dark, one shared by several parts is striped. A legend names the
colors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from aaformer_lit.utils.text import plural
from aaformer_lit.viz.figure import styled
from aaformer_lit.viz.images import Array, Picture, as_array
from aaformer_lit.viz.palette import INK, Part, part_tokens
from aaformer_lit.viz.patches import PatchMaps, assignment_overlay, attended_overlay, majority, patch_maps
from aaformer_lit.viz.strips import of_head, strips

Votes = Float[NDArray[np.float32], "images parts patches"]
LEGEND_WIDTH = 1.15  # inches of the right margin


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
    lines: Sequence[str] = ("",),
    title: str | None = None,
) -> Figure:
    """The assignment of one layer as colored patches: one strip per image, one panel per granularity.

    Images that belong together, `len(lines)` in a row, stand below each other with the names `lines`.

    With `attention`, a second panel per granularity shows what becomes of the subsets, see `attended_overlay`.
    `head=None` gives a patch to the part that most heads gave it to. `others` are partitions to compare with, by name:
    each the membership of a single granularity, (parts, patches) for all images alike (PCB's stripes), (images, parts,
    patches) (SPReID's masks) or with the heads' axis; they stand between the image and the assignment.
    Raises ValueError for sizes that do not fit, TypeError for images that are not uint8.
    """
    own = patch_maps(images, assignment, grid, parts, "assignment")
    columns = [(name, *_fixed(own, membership, name)) for name, membership in (others or {}).items()]
    votes = _votes(own, head)
    columns += [(plural(len(group), "part"), group, votes) for group in _granularities(parts)]
    weights = None
    if attention is not None:
        weights = of_head(patch_maps(images, attention, grid, parts, "attention").maps, head).mean(axis=1)
    names = ["image", *(name for name, _, _ in columns)]
    if weights is not None:
        names += [f"{plural(len(group), 'part')}, attended" for group in _granularities(parts)]
    blocks = len(own.images) // len(lines)
    figure, axes = strips(blocks, own.images.shape[1:], names, lines=lines, title=title, right=LEGEND_WIDTH)
    _legend(figure, sorted({part for _, group, _ in columns for part in group}))
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
    title: str | None = None,
) -> Figure:
    """How the subsets move through the layers: one column per layer, as `ReIDOutput.assignments` holds them.

    One row per image and granularity; images of few layers stand side by side. `head` as in `assignment_maps`.
    Raises ValueError for sizes that do not fit or an empty list of layers, TypeError for images that are not uint8.
    """
    if not len(assignments):
        raise ValueError("no layers to draw: `assignments` is empty. Ask the network for its assignments.")
    layers = [patch_maps(images, layer, grid, parts, "an assignment") for layer in assignments]
    votes = [_votes(layer, head) for layer in layers]
    groups, pictures = _granularities(parts), layers[0].images
    names = ["image", *(f"layer {number}" for number in range(1, len(layers) + 1))]
    lines = [plural(len(group), "part") for group in groups]
    figure, axes = strips(
        len(pictures), pictures.shape[1:], names, lines=lines, title=title, area=1.3, right=LEGEND_WIDTH
    )
    _legend(figure, part_tokens(parts))
    for index, image in enumerate(pictures):
        for group, row in zip(groups, axes[index * len(groups) :], strict=False):
            row[0].imshow(image)
            for layer, panel in zip(votes, row[1:], strict=True):
                panel.imshow(_paint(image, layer[index], group, layers[0].grid))
    return figure


def _legend(figure: Figure, parts: Sequence[Part]) -> None:
    """The parts' colors and names in the right margin."""
    width, height = figure.get_size_inches()
    keys = [Patch(facecolor=part.color, label=part.name) for part in parts]
    keys.append(Patch(facecolor="white", edgecolor=INK, hatch="//////", linewidth=0.5, label="shared, or a tie"))
    keys.append(Patch(facecolor="#2b2b2b", label="of no part"))
    figure.legend(
        handles=keys,
        loc="upper left",
        bbox_to_anchor=(1 - (LEGEND_WIDTH - 0.08) / width, 1 - 0.25 / height),
        borderaxespad=0,
        fontsize=7,
        handlelength=1.2,
        handleheight=1.0,
        labelspacing=0.4,
    )


def _granularities(parts: Sequence[int]) -> list[list[Part]]:
    tokens = part_tokens(parts)
    ends = np.cumsum(parts)
    return [tokens[end - count : end] for end, count in zip(ends, parts, strict=True)]


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
