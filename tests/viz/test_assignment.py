import numpy as np
import pytest
import torch

from aaformer_lit.assign import Stripes
from aaformer_lit.viz import assignment_maps, assignment_through_layers, part_color
from aaformer_lit.viz.patches import LIFT, OUTSIDE, TINT

GRID, PARTS = (6, 2), [2, 3]
GRAY = 102  # luma 0.4


def stripes(parts: int) -> torch.Tensor:
    return Stripes()(torch.zeros(1, 1, parts, 12), GRID)[0, 0]


def image(count: int = 1) -> np.ndarray:
    return np.full((count, 96, 32, 3), GRAY, np.uint8)


def tinted(granularity: int, number: int) -> np.ndarray:
    lifted = LIFT + (1 - LIFT) * GRAY / 255
    return ((1 - TINT) * lifted + TINT * np.array(part_color(granularity, number))) * 255


def near(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(found - wanted).max() <= 2)


def test_patches_have_the_color_of_their_part_on_the_canvas(pixel) -> None:
    assignment = torch.cat([stripes(2).flip(0), stripes(3)]).expand(1, 4, 5, 12)
    figure = assignment_maps(image(), assignment, GRID, PARTS)
    original, two, three = figure.axes
    assert [panel.get_title() for panel in figure.axes] == ["image", "2 parts", "3 parts"]
    assert (pixel(figure, original, 0.5, 0.5) == GRAY).all()
    assert near(pixel(figure, two, 0.5, 0.25), tinted(2, 1))
    assert near(pixel(figure, two, 0.5, 0.75), tinted(2, 0))
    for number, place in enumerate((1 / 6, 3 / 6, 5 / 6)):
        assert near(pixel(figure, three, 0.3, place), tinted(3, number))


def test_most_heads_decide_or_the_chosen_head(pixel) -> None:
    up, down = stripes(2), stripes(2).flip(0)
    assignment = torch.stack([down, up, up])[None]
    most = assignment_maps(image(), assignment, GRID, [2])
    first = assignment_maps(image(), assignment, GRID, [2], head=0)
    assert near(pixel(most, most.axes[1], 0.5, 0.25), tinted(2, 0))
    assert near(pixel(first, first.axes[1], 0.5, 0.25), tinted(2, 1))


def test_patches_that_no_part_attends_to_are_dark(pixel) -> None:
    attention = torch.full((1, 1, 2, 12), 0.01)
    attention[0, 0, 0, 0] = attention[0, 0, 1, 11] = 0.89  # the first patch and the last
    figure = assignment_maps(image(), stripes(2).expand(1, 1, 2, 12), GRID, [2], attention=attention)
    panel = figure.axes[2]
    assert panel.get_title() == "2 parts, attended"
    assert near(pixel(figure, panel, 0.25, 1 / 12), tinted(2, 0))
    assert near(pixel(figure, panel, 0.75, 11 / 12), tinted(2, 1))
    assert near(pixel(figure, panel, 0.25, 11 / 12), np.full(3, OUTSIDE * GRAY))


def test_fixed_partitions_stand_beside_it_in_the_same_colors(pixel) -> None:
    head = torch.zeros(2, 1, 12, dtype=torch.bool)
    head[0, 0, :2], head[1, 0, 2:4] = True, True  # a mask of one class, elsewhere in each image
    figure = assignment_maps(
        image(2), stripes(2).expand(2, 1, 2, 12), GRID, [2], others={"PCB": stripes(3), "SPReID": head}
    )
    strips = [figure.axes[:4], figure.axes[4:]]
    assert [panel.get_title() for panel in strips[0]] == ["image", "PCB", "SPReID", "2 parts"]
    for strip in strips:
        assert near(pixel(figure, strip[1], 0.3, 5 / 6), tinted(3, 2))
        assert near(pixel(figure, strip[3], 0.3, 0.9), tinted(2, 1))
    outside = np.full(3, OUTSIDE * GRAY)
    assert near(pixel(figure, strips[0][2], 0.3, 1 / 12), tinted(1, 0))
    assert near(pixel(figure, strips[0][2], 0.3, 3 / 12), outside)
    assert near(pixel(figure, strips[1][2], 0.3, 3 / 12), tinted(1, 0))
    assert near(pixel(figure, strips[1][2], 0.3, 1 / 12), outside)


def test_images_that_belong_together_stand_below_each_other_under_their_names(pixel) -> None:
    pictures = np.repeat(np.array([40, 80, 120, 160], np.uint8), 96 * 32 * 3).reshape(4, 96, 32, 3)
    figure = assignment_maps(pictures, stripes(2).expand(4, 1, 2, 12), GRID, [2], lines=["whole", "without top"])
    rows = [figure.axes[i : i + 2] for i in range(0, 8, 2)]
    by_place = sorted((row[0] for row in rows), key=lambda axes: (axes.get_position().x0, -axes.get_position().y0))
    assert [axes.get_ylabel() for axes in by_place] == ["whole", "without top"] * 2
    assert [int(pixel(figure, axes, 0.5, 0.5)[0]) for axes in by_place] == [40, 80, 120, 160]


def test_layers_are_columns_and_granularities_rows(pixel) -> None:
    layers = [torch.cat([m, stripes(3)]).expand(1, 2, 5, 12) for m in (stripes(2), stripes(2).flip(0))]
    figure = assignment_through_layers(image(), layers, GRID, PARTS, title="majority")
    assert len(figure.axes) == 2 * 3
    assert [panel.get_title() for panel in figure.axes[:3]] == ["image", "layer 1", "layer 2"]
    assert [figure.axes[i].get_ylabel() for i in (0, 3)] == ["2 parts", "3 parts"]
    assert near(pixel(figure, figure.axes[1], 0.5, 0.25), tinted(2, 0))
    assert near(pixel(figure, figure.axes[2], 0.5, 0.25), tinted(2, 1))
    assert near(pixel(figure, figure.axes[5], 0.3, 5 / 6), tinted(3, 2))


def test_images_of_few_layers_stand_side_by_side(pixel) -> None:
    layer = torch.cat([stripes(2), stripes(3)]).expand(2, 1, 5, 12)
    figure = assignment_through_layers(image(2), [layer] * 4, GRID, PARTS)
    rows = [figure.axes[i : i + 5] for i in range(0, 20, 5)]
    assert len(figure.axes) == 20
    assert [row[0].get_ylabel() for row in rows] == ["2 parts", "2 parts", "3 parts", "3 parts"]
    assert rows[1][0].get_position().x0 > rows[0][-1].get_position().x1
    assert near(pixel(figure, rows[1][3], 0.5, 0.75), tinted(2, 1))
    assert near(pixel(figure, rows[3][3], 0.3, 0.95), tinted(3, 2))


def test_errors_name_what_is_off() -> None:
    good = stripes(2).expand(1, 1, 2, 12)
    with pytest.raises(ValueError, match="the partition 'PCB' must be"):
        assignment_maps(image(), good, GRID, [2], others={"PCB": np.ones((3, 8))})
    with pytest.raises(ValueError, match="`assignments` is empty"):
        assignment_through_layers(image(), [], GRID, [2])
    with pytest.raises(ValueError, match="head 1 does not exist"):
        assignment_maps(image(), good, GRID, [2], head=1)
