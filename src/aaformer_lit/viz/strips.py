"""Strips of panels per image, wrapped into columns so that one image and sixteen both fill a page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aaformer_lit.viz.figure import TITLE_HEIGHT, best_columns, cell_size, fit, heading, panels
from aaformer_lit.viz.palette import INK

PAGE_ASPECT = 1.3  # width over height that the wrapping aims at
GAP = 0.08  # inches between panels
BLOCK_GAP = 0.25  # more of it between blocks


def strips(
    count: int,
    size: tuple[int, ...],
    names: Sequence[str],
    *,
    lines: Sequence[str] = ("",),
    title: str | None = None,
    area: float | None = None,
    footer: float = 0.1,
    right: float = 0.1,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with `count` blocks of strips, and its axes (strips, panels), block after block.

    A block has a strip for each of `lines`, which are named beside it, and a strip a panel for each of `names`, which stand
    above. `size` (height, width, ...) is that of the images, `area` a panel's in square inches; `footer` and `right` are
    inches below and beside the strips for a scale or a legend.
    """
    height, width = len(lines), len(names)
    cell = cell_size(size, area=area or (2.2 if count * height <= 4 else 1.5))
    block = (cell[0] + GAP) * width + BLOCK_GAP, (cell[1] + GAP) * height + BLOCK_GAP * (height > 1)
    across = best_columns(count, block, PAGE_ASPECT)
    down = math.ceil(count / across)
    figure, grid = panels(
        down * height,
        across * width,
        cell,
        gap=(GAP, GAP),
        margin=(0.3 if any(lines) else 0.1, right, footer, 0.27 + TITLE_HEIGHT * bool(title)),
        wider_before=range(width, across * width, width),
        taller_before=range(height, down * height, height) if height > 1 else (),
        extra=BLOCK_GAP,
    )
    heading(figure, title)
    for panel, name in zip(grid[0], [*names] * across, strict=True):
        fit(figure, panel.set_title(name, fontsize=7.5, pad=3, color=INK), cell[0] + 0.04)
    # down the first column of blocks, then down the next
    in_order = [row[start : start + width] for start in range(0, across * width, width) for row in grid]
    shown, unused = in_order[: count * height], in_order[count * height :]
    for panel in itertools.chain(*unused):
        panel.remove()
    for strip, line in zip(shown, itertools.cycle(lines), strict=False):
        strip[0].set_ylabel(line, fontsize=7.5, labelpad=3, color=INK)
    return figure, shown


def of_head(maps: NDArray[np.float32], head: int | None) -> NDArray[np.float32]:
    """(images, heads, parts, patches) of the chosen head alone, or all of them for None. Raises ValueError."""
    if head is None:
        return maps
    if not 0 <= head < maps.shape[1]:
        raise ValueError(f"head {head} does not exist: there are {maps.shape[1]}, counted from 0. Use None for all.")
    return maps[:, head : head + 1]
