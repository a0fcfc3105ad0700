"""A grid of images: what is in a batch, a folder, one identity's crops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from aaformer_lit.viz.figure import TITLE_HEIGHT, best_columns, cell_size, fit, heading, panels, styled
from aaformer_lit.viz.images import Array, as_picture

PAGE_ASPECT = 1.5  # width over height of the whole sheet when the number of columns is left open


@styled
def contact_sheet(
    images: UInt8[Array, "images height width 3"] | Sequence[Array],
    *,
    labels: Sequence[object] | None = None,
    columns: int | None = None,
    title: str | None = None,
) -> Figure:
    """All images in reading order, each whole and in its own aspect, with an optional label above it.

    Images may differ in size; the cells have the median aspect. Raises ValueError for no images or too few labels,
    TypeError for images that are not uint8.
    """
    pictures = [as_picture(image) for image in images]
    if not pictures:
        raise ValueError("a contact sheet needs at least one image; got none.")
    if labels is not None and len(labels) != len(pictures):
        raise ValueError(
            f"a contact sheet needs one label per image; got {len(labels)} labels for {len(pictures)} images."
        )
    aspect = float(np.median([picture.shape[0] / picture.shape[1] for picture in pictures]))
    cell = cell_size((round(1000 * aspect), 1000), area=1.6 if len(pictures) <= 24 else 0.9)
    columns = columns or best_columns(len(pictures), cell, PAGE_ASPECT)
    rows = math.ceil(len(pictures) / columns)
    lines = max((str(label).count("\n") + 1 for label in labels or ()), default=0)
    above = 0.06 + 0.14 * lines
    figure, axes = panels(
        rows,
        columns,
        cell,
        gap=(0.06, above),
        margin=(0.1, 0.1, 0.1, 0.04 + above + TITLE_HEIGHT * bool(title)),
    )
    heading(figure, title)
    for index, panel in enumerate(itertools.chain(*axes)):
        if index >= len(pictures):
            panel.remove()
            continue
        panel.imshow(pictures[index])
        if labels is not None:
            fit(figure, panel.set_title(str(labels[index]), fontsize=7, pad=2), cell[0] + 0.04)
    return figure
