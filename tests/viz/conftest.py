from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Pixel = Callable[[Figure, Axes, float, float], np.ndarray]


@pytest.fixture
def pixel() -> Pixel:
    """The rendered RGB at a relative place (x right, y down) of a panel; one drawing per figure."""
    drawn: dict[int, np.ndarray] = {}

    def read(figure: Figure, axes: Axes, x: float, y: float) -> np.ndarray:
        if id(figure) not in drawn:
            figure.canvas.draw()
            drawn[id(figure)] = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
        canvas = drawn[id(figure)]
        box = axes.get_window_extent()
        return canvas[round(canvas.shape[0] - box.y1 + y * box.height), round(box.x0 + x * box.width)]

    return read
