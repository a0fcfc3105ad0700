"""Patterns of the upper garment: cloth that is drawn already changes color where the pattern is.

Rows and columns hang on the neck and are measured in body heights, so they follow the person and not the picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from aaformer_lit.data.synthetic.canvas import BASE, DEEP
from aaformer_lit.data.synthetic.figure import Figure

Rows = Float[np.ndarray, "rows 1"]
Columns = Float[np.ndarray, "1 columns"]

_WOVEN: dict[str, Callable[[Rows, Columns], Bool[np.ndarray, "rows columns"]]] = {
    "stripes": lambda y, x: y % 0.052 < 0.024,
    "checks": lambda y, x: (y % 0.075 < 0.0375) ^ (x % 0.075 < 0.0375),
    "yoke": lambda y, x: y < 0.13,
}


def apply_pattern(figure: Figure, cloth: int, other: int, sleeve: bool) -> None:
    """Give what is drawn in `cloth` the identity's pattern in the material `other`."""
    if figure.who.pattern in _WOVEN:
        _weave(figure, cloth, other)
    elif figure.who.pattern == "print" and not sleeve:
        _print(figure, cloth, other)


def _weave(figure: Figure, cloth: int, other: int) -> None:
    scale, pixels = figure.canvas.scale, figure.view.pixels
    neck_x, neck_y = figure.torso_point(0, 1.1, 0)
    # from just above the neck to below the hem of a coat, an arm's length to both sides
    top, bottom = (max(0, int((neck_y + d * pixels) * scale)) for d in (-0.02, 0.62))
    left, right = (max(0, int((neck_x + d * pixels) * scale)) for d in (-0.36, 0.36))
    box = (slice(top, bottom), slice(left, right))
    rows, columns = figure.canvas.indices[box].shape
    y = ((np.arange(rows) + top) / scale - neck_y)[:, None] / pixels
    x = ((np.arange(columns) + left) / scale - neck_x)[None, :] / pixels
    figure.canvas.recolor(cloth, other, _WOVEN[figure.who.pattern](y, x), box)


def _print(figure: Figure, cloth: int, other: int) -> None:
    """A ring on the chest: it shows from the front and hardly from a side."""
    if figure.facing < 0.2:
        return
    center = figure.torso_point(0, 0.62, 0.08)
    width, height = 0.062 * figure.view.pixels * figure.facing, 0.058 * figure.view.pixels
    figure.canvas.ellipse(center, (width, height), other + BASE)
    figure.canvas.ellipse(center, (width * 0.45, height * 0.4), cloth + DEEP)
