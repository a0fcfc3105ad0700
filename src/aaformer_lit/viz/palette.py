"""Colors that stay the same from picture to picture and can be told apart with a color-vision deficiency.

Part p of granularity g has one color wherever it is drawn, so the attention maps, the assignment and its way through
the layers can be read side by side, and PCB's three stripes share their colors with AAformer's three parts. The base
colors are Okabe and Ito's set (jfly.uni-koeln.de/color) and three darker or lighter ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb

BASE_COLORS = (
    "#0072B2",  # blue
    "#E69F00",  # orange
    "#56B4E9",  # sky blue
    "#009E73",  # bluish green
    "#F0E442",  # yellow
    "#CC79A7",  # reddish purple
    "#D55E00",  # vermilion
    "#332288",  # indigo
    "#88CC66",  # light green
    "#882255",  # wine
)
RIGHT = "#009E73"  # bluish green and a red of another lightness: told apart by any eye
WRONG = "#CC3311"
UNKNOWN = "#8C8C8C"
VERDICTS = {None: (UNKNOWN, ""), True: (RIGHT, " ✓"), False: (WRONG, " ✗")}  # of an answer to a query
# of an answer by its distance; green and red are for those who know who it is
DECISIONS = {"accepted": BASE_COLORS[0], "unsure": BASE_COLORS[1], "rejected": UNKNOWN}
INK = "#222222"

# Blue to yellow in steps that are equal for the eye, in gray too, which Figure 5's blue to red are not. The darkest tenth
# is left out: black means "not in the subset".
ATTENTION: Colormap = LinearSegmentedColormap.from_list("attention", colormaps["plasma"](np.linspace(0.1, 1, 256)))


class Part(NamedTuple):
    """One part token: which granularity it belongs to, its number in there, and its place among all part tokens."""

    granularity: int
    number: int
    token: int

    @property
    def color(self) -> tuple[float, float, float]:
        return part_color(self.granularity, self.number)

    @property
    def name(self) -> str:
        return f"part {self.number + 1} of {self.granularity}"


def part_tokens(parts: Sequence[int]) -> list[Part]:
    """The part tokens of granularities `parts` in the order of the sequence: [2, 3] gives five."""
    pairs = [(granularity, number) for granularity in parts for number in range(granularity)]
    return [Part(granularity, number, token) for token, (granularity, number) in enumerate(pairs)]


def part_color(granularity: int, number: int) -> tuple[float, float, float]:
    """RGB in [0, 1] of part `number` (from 0) of `granularity`: distinct within a granularity (up to 30 parts).

    Granularities up to 4 do not share colors either, so the five parts of [2, 3] are five colors.
    """
    if not 0 <= number < granularity:
        raise ValueError(f"granularity {granularity} has parts 0..{granularity - 1}; got part {number}.")
    size = len(BASE_COLORS)
    if granularity <= size:
        return to_rgb(BASE_COLORS[(granularity * (granularity - 1) // 2 + number) % size])
    red, green, blue = to_rgb(BASE_COLORS[number % size])
    towards = (None, 1.0, 0.0)[number // size % 3]  # the second ten are lighter, the third darker
    if towards is None:
        return red, green, blue
    return (red + towards) / 2, (green + towards) / 2, (blue + towards) / 2
