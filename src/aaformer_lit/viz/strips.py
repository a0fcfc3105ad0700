"""One strip of panels per image, strips wrapped into columns so that one image and sixteen both fill a page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aaformer_lit.viz.figure import TITLE_HEIGHT, best_columns, cell_size, fit, heading, panels
from aaformer_lit.viz.images import Pictures
from aaformer_lit.viz.palette import INK

PAGE_ASPECT = 1.3  # width over height that the wrapping aims at
BLOCK_GAP = 0.25


def strips(
    pictures: Pictures, names: Sequence[str], *, title: str | None = None, footer: float = 0.1, right: float = 0.1
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a strip of `len(names)` named panels per image, and its axes (images, panels).

    `footer` and `right` are inches below and beside them for a scale or a legend.
    """
    count, width = len(pictures), len(names)
    cell = cell_size(pictures.shape[1:], area=2.2 if count <= 4 else 1.5)
    blocks = best_columns(count, ((cell[0] + 0.08) * width + BLOCK_GAP, cell[1] + 0.08), PAGE_ASPECT)
    rows = math.ceil(count / blocks)
    figure, grid = panels(
        rows,
        blocks * width,
        cell,
        margin=(0.1, right, footer, 0.27 + TITLE_HEIGHT * bool(title)),
        wider_before=range(width, blocks * width, width),
        extra=BLOCK_GAP,
    )
    heading(figure, title)
    name_columns(figure, grid[0], list(names) * blocks)
    # down the first block, then down the next
    in_order = [row[start : start + width] for start in range(0, blocks * width, width) for row in grid]
    for unused in itertools.chain(*in_order[count:]):
        unused.remove()
    return figure, in_order[:count]


def name_columns(figure: Figure, axes: Sequence[Axes], names: Sequence[str]) -> None:
    """Names above the panels, small enough to stay apart."""
    for panel, name in zip(axes, names, strict=True):
        text = panel.set_title(name, fontsize=7.5, pad=3, color=INK)
        fit(figure, text, panel.bbox.width / figure.dpi + 0.04)


def of_head(maps: NDArray[np.float32], head: int | None) -> NDArray[np.float32]:
    """(images, heads, parts, patches) of the chosen head alone, or all of them for None. Raises ValueError."""
    if head is None:
        return maps
    if not 0 <= head < maps.shape[1]:
        raise ValueError(f"head {head} does not exist: there are {maps.shape[1]}, counted from 0. Use None for all.")
    return maps[:, head : head + 1]
