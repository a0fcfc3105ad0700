import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from aaformer_lit.viz import attention_maps, part_color
from aaformer_lit.viz.palette import ATTENTION
from aaformer_lit.viz.patches import TINT

GRID, PARTS = (4, 2), [1, 2]


def example(images: int = 1, heads: int = 2) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Gray images; part 0 owns all patches, parts 1 and 2 the upper and lower half, in head 1 the other way round."""
    upper = torch.arange(8) < 4
    first = torch.stack([torch.ones(8, dtype=torch.bool), upper, ~upper])
    second = torch.stack([torch.ones(8, dtype=torch.bool), ~upper, upper])
    assignment = torch.stack([first, second][:heads]).expand(images, -1, -1, -1)
    attention = torch.linspace(0.1, 0.8, 8).expand(images, heads, 3, 8) * assignment
    return np.full((images, 64, 32, 3), 102, np.uint8), attention, assignment


def expected(level: float) -> np.ndarray:
    return ((1 - TINT) * 0.4 + TINT * np.array(ATTENTION(level)[:3])) * 255


def test_the_rendered_canvas_shows_levels_inside_and_black_outside(pixel) -> None:
    figure = attention_maps(*example(), GRID, PARTS, head=0, title="layer 3, head 1")
    image, whole, upper, lower, scale = figure.axes
    assert [panel.get_title() for panel in (image, whole, upper, lower)] == [
        "image",
        "part 1 of 1",
        "part 1 of 2",
        "part 2 of 2",
    ]
    assert (pixel(figure, image, 0.5, 0.5) == 102).all()
    assert np.abs(pixel(figure, whole, 0.75, 0.9) - expected(1.0)).max() <= 2
    assert np.abs(pixel(figure, whole, 0.25, 0.1) - expected(1 / 8)).max() <= 2
    # each map is scaled by the largest weight of its own subset
    assert np.abs(pixel(figure, upper, 0.75, 0.4) - expected(1.0)).max() <= 2
    assert np.abs(pixel(figure, lower, 0.25, 0.6) - expected(5 / 8)).max() <= 2
    assert (pixel(figure, upper, 0.5, 0.75) == 0).all()
    assert (pixel(figure, lower, 0.5, 0.25) == 0).all()
    low, high = pixel(figure, scale, 0.02, 0.5), pixel(figure, scale, 0.98, 0.5)
    assert np.abs(low - 255 * np.array(ATTENTION(0.02)[:3])).max() <= 4
    assert np.abs(high - 255 * np.array(ATTENTION(0.98)[:3])).max() <= 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["outside the subset"]


def test_soft_parts_are_shown_where_they_look_beyond_their_subsets(pixel) -> None:
    images, attention, assignment = example()
    attention = attention.clone()
    attention[..., 1, 7] = 1.6  # of the upper part, whose subset does not reach there
    figure = attention_maps(images, attention, assignment, GRID, PARTS, head=0)
    upper = figure.axes[2]
    assert np.abs(pixel(figure, upper, 0.75, 0.9) - expected(1.0)).max() <= 2
    assert np.abs(pixel(figure, upper, 0.75, 0.4) - expected(0.4 / 1.6)).max() <= 2
    assert (pixel(figure, upper, 0.25, 0.9) == 0).all()


def test_another_head_has_its_own_subsets(pixel) -> None:
    figure = attention_maps(*example(), GRID, PARTS, head=1)
    assert (pixel(figure, figure.axes[2], 0.5, 0.25) == 0).all()
    assert (pixel(figure, figure.axes[2], 0.5, 0.75) > 0).any()


def test_all_heads_are_averaged_over_the_union_of_their_subsets() -> None:
    images, attention, assignment = example()
    averaged = attention_maps(images, attention, assignment, GRID, PARTS, head=None)
    by_hand = attention_maps(images, attention.mean(1), torch.ones(1, 3, 8), GRID, PARTS)
    for found, wanted in zip(averaged.axes[:4], by_hand.axes[:4], strict=True):
        assert np.array_equal(found.images[0].get_array(), wanted.images[0].get_array())


def test_frames_carry_the_part_colors() -> None:
    figure = attention_maps(*example(), GRID, PARTS)
    colors = [to_rgb(panel.spines["left"].get_edgecolor()) for panel in figure.axes[1:4]]
    assert colors == [part_color(1, 0), part_color(2, 0), part_color(2, 1)]


@pytest.mark.parametrize("images", [1, 2, 5, 16])
def test_one_strip_per_image_in_order(images: int) -> None:
    pictures, attention, assignment = example(images)
    pictures = pictures.copy()
    pictures += np.arange(images, dtype=np.uint8)[:, None, None, None]
    figure = attention_maps(pictures, attention, assignment, GRID, PARTS)
    shown = [panel for panel in figure.axes if panel.images and panel.get_label() != "<colorbar>"]
    assert len(shown) == 4 * images
    plain = [panel for panel in shown if not panel.spines["left"].get_visible()]
    plain.sort(key=lambda panel: (round(panel.get_position().x0, 3), -panel.get_position().y0))  # down, then right
    assert [int(panel.images[0].get_array()[0, 0, 0]) for panel in plain] == [102 + i for i in range(images)]
    width, height = figure.get_size_inches()
    assert 0.3 < width / height < 3.0


def test_one_image_without_head_axis_is_the_same_picture() -> None:
    images, attention, assignment = example(1, heads=1)
    batched = attention_maps(images, attention, assignment, GRID, PARTS)
    single = attention_maps(images[0], attention[0, 0], assignment[0, 0], GRID, PARTS)
    for left, right in zip(batched.axes[:4], single.axes[:4], strict=True):
        assert np.array_equal(left.images[0].get_array(), right.images[0].get_array())


def test_errors_name_what_is_off() -> None:
    images, attention, assignment = example()
    with pytest.raises(ValueError, match="head 2 does not exist: there are 2"):
        attention_maps(images, attention, assignment, GRID, PARTS, head=2)
    with pytest.raises(ValueError, match="assignment must be"):
        attention_maps(images, attention, assignment[:, :, :2], GRID, PARTS)
    with pytest.raises(TypeError, match="denormalize"):
        attention_maps(images / 255.0, attention, assignment, GRID, PARTS)
