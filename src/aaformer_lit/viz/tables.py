"""A table as dots: one panel per metric, one line per row, ours with its deviation over seeds beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from aaformer_lit.viz.curves import plots
from aaformer_lit.viz.figure import styled
from aaformer_lit.viz.palette import BASE_COLORS, UNKNOWN


@dataclass(frozen=True, slots=True)
class Dot:
    """One row in one metric, in percent; None for what there is not, and `absent` in its place."""

    mean: float | None = None
    std: float | None = None
    paper: float | None = None
    absent: str = "not run"


@styled
def table_plot(
    rows: Sequence[str],
    panels: Mapping[str, Sequence[Dot]],
    *,
    title: str | None = None,
) -> Figure:
    """Rows from top to bottom as in the table; `panels` holds one dot per row for each metric."""
    width = 4.8 if len(panels) <= 2 else 2.8  # seven metrics side by side are still a page
    figure, all_axes = plots(len(panels), title=title, size=(width, 1.1 + 0.3 * len(rows)))
    for axes, (metric, dots) in zip(all_axes, panels.items(), strict=True):
        for place, dot in enumerate(dots):
            if dot.mean is not None:
                axes.errorbar(dot.mean, place, xerr=dot.std, fmt="o", color=BASE_COLORS[0], capsize=3)
            else:
                label = axes.annotate(
                    dot.absent, (1, place), xycoords=("axes fraction", "data"), ha="right", va="center"
                )
                label.set(color=UNKNOWN, backgroundcolor="white", fontsize=7)
            if dot.paper is not None:
                axes.plot(dot.paper, place, "D", color=BASE_COLORS[6], markerfacecolor="none")
        shown = [v for d in dots for v in (d.mean, d.paper) if v is not None]
        if not shown:
            axes.set_xticks([])
        axes.set(xlabel=f"{metric} (%)", ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), rows if axes is all_axes[0] else [""] * len(rows))
    axes = all_axes[-1]
    marks = [axes.plot([], [], "o", color=BASE_COLORS[0])[0]]
    labels = ["ours, mean and deviation over seeds"]
    if any(dot.paper is not None for dots in panels.values() for dot in dots):
        marks.append(axes.plot([], [], "D", color=BASE_COLORS[6], markerfacecolor="none")[0])
        labels.append("paper")
    figure.legend(marks, labels, loc="outside lower right", ncols=2)
    return figure
