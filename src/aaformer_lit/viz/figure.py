"""Figures without global state: laid out in inches, styled the same everywhere, written all or nothing.

Nothing here imports `matplotlib.pyplot`: a `Figure` belongs to whoever holds it and is gone with the last reference, so
a training run that draws every epoch does not collect figures, and a server may draw from several threads.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from cycler import cycler
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.files import whole_file
from aaformer_lit.viz.palette import BASE_COLORS, INK

DPI = 150
MAX_BYTES = 1_000_000  # a PNG of many photographs that is larger is written with fewer pixels
TITLE_HEIGHT = 0.22
EMPTY_COST = 1.5  # a page half empty is as bad as one e^0.75, or two times, too wide
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#777777",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.prop_cycle": cycler(color=[BASE_COLORS[i] for i in (0, 6, 3, 5, 1, 2, 7, 9, 8, 4)]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],  # shipped with matplotlib: the same letters on every machine
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "text.color": INK,
    "xtick.color": "#555555",
    "xtick.labelsize": 8,
    "ytick.color": "#555555",
    "ytick.labelsize": 8,
}
_style_lock = threading.RLock()  # rc_context saves and restores a global; two at once would restore each other's
Arguments = ParamSpec("Arguments")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw with this package's style whatever the caller's rcParams, and leave those as they were."""

    @functools.wraps(draw)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with _style_lock, matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            return draw(*args, **kwargs)

    return wrapper


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, with a canvas that can be rasterised."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def panels(
    rows: int,
    columns: int,
    cell: tuple[float, float],
    *,
    gap: tuple[float, float] = (0.08, 0.08),
    margin: tuple[float, float, float, float] = (0.1, 0.1, 0.1, 0.3),
    wider_before: Iterable[int] = (),
    taller_before: Iterable[int] = (),
    extra: float = 0.25,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure that fits `rows` x `columns` bare panels of exactly `cell` = (width, height) inches, and their axes.

    `gap` lies between columns and rows, `margin` is (left, right, bottom, top); `extra` inches more lie before the
    columns `wider_before` and the rows `taller_before`.
    """
    wider, taller = set(wider_before), set(taller_before)
    lefts = margin[0] + _offsets(columns, cell[0] + gap[0], wider, extra)
    tops = margin[3] + _offsets(rows, cell[1] + gap[1], taller, extra)
    width = float(lefts[-1]) + cell[0] + margin[1]
    height = float(tops[-1]) + cell[1] + margin[2]
    figure = new_figure(width, height)
    axes = []
    for top in tops:
        boxes = [(left / width, 1 - (top + cell[1]) / height, cell[0] / width, cell[1] / height) for left in lefts]
        axes.append([bare(figure.add_axes(box)) for box in boxes])
    return figure, axes


def _offsets(count: int, step: float, wider: set[int], extra: float) -> NDArray[np.float64]:
    steps = [step + (extra if index in wider else 0.0) for index in range(1, count)]
    return np.concatenate([[0.0], np.cumsum(steps)])


def bare(axes: Axes) -> Axes:
    """No ticks, grid or frame: a place for an image."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return axes


def frame(axes: Axes, color: str | tuple[float, float, float], width: float = 2.0) -> None:
    """A colored border around the panel."""
    axes.spines[:].set(visible=True, color=color, linewidth=width)


def cell_size(image: tuple[int, ...], area: float = 2.2) -> tuple[float, float]:
    """Width and height in inches of a panel for an image (height, width, ...): the same area whatever the aspect."""
    width = (area * image[1] / image[0]) ** 0.5
    return width, width * image[0] / image[1]


def best_columns(count: int, cell: tuple[float, float], page_aspect: float) -> int:
    """How many columns bring `count` cells closest to a page of that width over height, with few places left empty."""

    def misfit(columns: int) -> float:
        rows = math.ceil(count / columns)
        aspect = columns * cell[0] / (rows * cell[1])
        return abs(math.log(aspect / page_aspect)) + EMPTY_COST * (1 - count / (rows * columns))

    return min(range(1, count + 1), key=misfit)


def heading(figure: Figure, title: str | None) -> None:
    """One line at the top left, above everything, in the `TITLE_HEIGHT` inches that the margin leaves for it."""
    if title:
        width, height = figure.get_size_inches()
        text = figure.text(0.1 / width, 1 - 0.07 / height, title, ha="left", va="top", fontsize=10, weight="bold")
        fit(figure, text, width - 0.2)


def fit(figure: Figure, text: Text, inches: float) -> None:
    """Make the letters smaller where the text is wider than that."""
    for _ in range(4):  # small letters are drawn on whole pixels, and so do not shrink by just as much as is asked for
        size = text.get_window_extent().width / figure.dpi
        if size <= inches:
            return
        text.set_fontsize(float(text.get_fontsize()) * inches / size)


def rasterise(figure: Figure, dpi: int = 100) -> UInt8[NDArray[np.uint8], "height width 3"]:
    """The figure's pixels, for those who take images and not files."""
    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save(figure: Figure, path: str | Path, dpi: int = DPI) -> Path:
    """Write the figure in the format of the path's suffix (png, pdf, svg, ...); the file appears whole or not at all.

    Missing folders are made. A PNG stays below a megabyte or so (`MAX_BYTES`). Raises ConfigError for a suffix that
    matplotlib cannot write.
    """
    path = Path(path)
    known = figure.canvas.get_supported_filetypes()
    if (suffix := path.suffix.lower().lstrip(".")) not in known:
        raise ConfigError(
            f"cannot write a picture as {path.name!r}. Use one of the suffixes {', '.join(sorted(known))}."
        )
    with whole_file(path, shared=True) as temporary:
        figure.savefig(temporary, dpi=dpi, format=suffix, facecolor="white")
        if suffix == "png" and (size := Path(temporary).stat().st_size) > MAX_BYTES:
            fewer = int(dpi * math.sqrt(0.9 * MAX_BYTES / size))
            figure.savefig(temporary, dpi=fewer, format=suffix, facecolor="white")
    return path
