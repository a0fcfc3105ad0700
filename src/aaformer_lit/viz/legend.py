"""Which color is which part: a list in the margin to the right of part maps."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from aaformer_lit.viz.palette import INK, Part

LEGEND_WIDTH = 1.15  # inches of the right margin


def part_legend(figure: Figure, parts: Sequence[Part]) -> None:
    """The parts' colors and names from the top down; a second column of them where the figure is too low for one."""
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
