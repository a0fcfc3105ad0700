"""Part attention maps (the paper's Figure 5): where in its own subset each part token looks.

One strip per image: the image, then one map per part token. Blue to yellow is increasing attention, from zero to the
map's own largest weight; patches outside the token's subset are black. Frames carry the part colors of the other pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Float, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from aaformer_lit.viz.figure import bare, frame, styled
from aaformer_lit.viz.images import Array
from aaformer_lit.viz.palette import ATTENTION, part_tokens
from aaformer_lit.viz.patches import attention_overlay, patch_maps
from aaformer_lit.viz.strips import of_head, strips

FOOTER = 0.42  # inches below the strips for the color scale
SCALE = 1.6  # its length in inches


@styled
def attention_maps(
    images: UInt8[Array, "*images height width 3"] | Sequence[Array],
    attention: Float[Array, "*images heads parts patches"],
    assignment: Bool[Array, "*images heads parts patches"],
    grid: Sequence[int],
    parts: Sequence[int],
    *,
    head: int | None = 0,
    title: str | None = None,
) -> Figure:
    """Attention of every part token over every image, for one layer.

    `images`: uint8 RGB, one or several of one size; `attention`: the part tokens' weights over the patches;
    `assignment`: their subsets (both may leave out the heads, and for a single image the first axis); `grid`: patch
    rows and columns; `parts`: the granularities. `head=None` averages the heads; black is then what no head assigned.
    Raises ValueError for sizes that do not fit, TypeError for images that are not uint8.
    """
    tokens = part_tokens(parts)
    weights = patch_maps(images, attention, grid, parts, "attention")
    subsets = patch_maps(images, assignment, grid, parts, "assignment")
    levels = of_head(weights.maps, head).mean(axis=1)
    members = (of_head(subsets.maps, head) > 0).max(axis=1) | (levels > 0)  # soft transport looks beyond its subsets
    images, names = weights.images, ["image", *(part.name for part in tokens)]
    figure, axes = strips(len(images), images.shape[1:], names, title=title, footer=FOOTER)
    for image, level, member, row in zip(images, levels, members, axes, strict=True):
        row[0].imshow(image)
        for part, panel in zip(tokens, row[1:], strict=True):
            panel.imshow(attention_overlay(image, level[part.token], member[part.token], weights.grid))
            frame(panel, part.color)
    _scale(figure)
    return figure


def _scale(figure: Figure) -> None:
    """The color scale in inches, and what black is: every map has its own largest weight, so only the order of colors has
    a meaning.
    """
    width, height = figure.get_size_inches()
    axes = bare(figure.add_axes((0.1 / width, 0.24 / height, min(SCALE, width - 0.2) / width, 0.09 / height)))
    bar = figure.colorbar(ScalarMappable(cmap=ATTENTION), cax=axes, orientation="horizontal", ticks=[0, 1])
    bar.outline.set_visible(False)
    bar.ax.set_xticklabels(["no attention", "most"], fontsize=7)
    bar.ax.tick_params(length=0, pad=2)
    low, high = bar.ax.get_xticklabels()
    low.set_horizontalalignment("left")
    high.set_horizontalalignment("right")
    figure.legend(
        handles=[Patch(color="black", label="outside the subset")],
        loc="lower left",
        bbox_to_anchor=((SCALE + 0.25) / width, 0.1 / height),
        borderaxespad=0,
        fontsize=7,
    )
