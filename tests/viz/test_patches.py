import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aaformer_lit.viz.palette import ATTENTION
from aaformer_lit.viz.patches import (
    LIFT,
    OUTSIDE,
    TINT,
    assignment_overlay,
    attended_overlay,
    attention_overlay,
    gray,
    majority,
    patch_maps,
    pixel_patches,
)

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(7, 40), st.integers(7, 40))
def test_every_pixel_belongs_to_the_patch_it_lies_in(rows: int, columns: int, height: int, width: int) -> None:
    patch = pixel_patches((rows, columns), (height, width))
    for y in (0, height // 2, height - 1):
        for x in (0, width // 3, width - 1):
            assert patch[y, x] == int(y / height * rows + 1e-9) * columns + int(x / width * columns + 1e-9)
    assert set(patch.flat) == set(range(rows * columns))


def test_attention_is_colored_by_level_and_black_outside() -> None:
    image = np.full((8, 4, 3), 102, np.uint8)  # luma 0.4
    attention = np.array([0.1, 0.4, 0.2, 0.9], np.float32)
    member = np.array([True, True, False, False])  # the 0.9 outside the subset must not set the scale
    painted = attention_overlay(image, attention, member, (2, 2))
    for place, level in (((0, 0), 0.25), ((0, 3), 1.0)):
        expected = ((1 - TINT) * 0.4 + TINT * np.array(ATTENTION(level)[:3])) * 255
        assert np.abs(painted[place] - expected).max() <= 1.0
    assert not painted[4:].any()


def test_no_attention_at_all_is_blue_and_an_empty_subset_black() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    painted = attention_overlay(image, np.zeros(4, np.float32), np.array([True] * 4), (2, 2))
    assert np.abs(painted - TINT * 255 * np.array(ATTENTION(0.0)[:3])).max() <= 1
    assert not attention_overlay(image, np.ones(4, np.float32), np.zeros(4, bool), (2, 2)).any()


def test_assignment_tints_the_gray_image_and_darkens_the_rest() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[...] = (200, 100, 50)
    luma = (0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255
    member = np.array([[True, False, False, False], [False, True, False, False]])
    painted = assignment_overlay(image, member, [RED, BLUE], (2, 2)) / 255
    lifted = LIFT + (1 - LIFT) * luma
    assert painted[1, 1] == pytest.approx((1 - TINT) * lifted + TINT * np.array(RED), abs=0.003)
    assert painted[2, 6] == pytest.approx((1 - TINT) * lifted + TINT * np.array(BLUE), abs=0.003)
    assert painted[6, 6] == pytest.approx([OUTSIDE * luma] * 3, abs=0.003)
    assert gray(image)[0, 0] == pytest.approx([luma] * 3)


def test_light_lines_run_between_subsets_only() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    member = np.array([[True, True, False, False], [False, False, True, True]])
    painted = assignment_overlay(image, member, [RED, BLUE], (2, 2)).astype(int)
    line = painted.min(axis=-1) > 150
    assert line[4].all()
    assert line.sum() == 8


def test_a_shared_patch_is_striped_in_both_colors() -> None:
    image = np.zeros((64, 32, 3), np.uint8)
    painted = assignment_overlay(image, np.array([[True], [True]]), [RED, BLUE], (1, 1)).astype(int)
    red, blue = painted[..., 0] > painted[..., 2], painted[..., 2] > painted[..., 0]
    assert (red | blue).all()
    assert 0.4 < red.mean() < 0.6


def test_majority_of_votes() -> None:
    votes = np.array([[3, 2, 0, 1], [1, 2, 0, 5]], np.float32)
    assert majority(votes).tolist() == [[True, True, False, False], [False, True, False, True]]


def test_single_images_and_missing_heads_get_their_axes() -> None:
    image, batch = np.zeros((8, 4, 3), np.uint8), np.zeros((2, 8, 4, 3), np.uint8)
    for images, maps, shape in (
        (image, torch.rand(3, 8), (1, 1, 3, 8)),
        (image, torch.rand(5, 3, 8), (1, 5, 3, 8)),
        (batch, torch.rand(2, 3, 8), (2, 1, 3, 8)),
        (batch, torch.rand(2, 5, 3, 8) > 0.5, (2, 5, 3, 8)),
    ):
        found = patch_maps(images, maps, (4, 2), [1, 2], "attention")
        assert found.maps.shape == shape
        assert np.array_equal(found.maps.reshape(maps.shape), maps.float().numpy())


@pytest.mark.parametrize(
    ("shape", "parts", "grid"),
    [((2, 4, 8), [3], (4, 2)), ((2, 3, 8), [3], (4, 4)), ((1, 3, 8), [3], (4, 2)), ((8,), [3], (4, 2))],
)
def test_sizes_that_do_not_fit_are_named(shape: tuple[int, ...], parts: list[int], grid: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"attention must be \(images, heads, parts, patches\) with 2 images, 3 part"):
        patch_maps(np.zeros((2, 8, 4, 3), np.uint8), np.zeros(shape), grid, parts, "attention")


def test_attended_places_take_the_color_of_the_part_that_looks_most_and_fade_with_the_attention() -> None:
    image = np.full((90, 10, 3), 102, np.uint8)  # luma 0.4; three patches, one below the other
    lifted = LIFT + (1 - LIFT) * 0.4
    full, dark = ((1 - TINT) * lifted + TINT * np.array(RED)) * 255, np.full(3, OUTSIDE * 0.4 * 255)
    attention = np.array(
        [[0.8, 0.15, 0.05], [0.4, 0.2, 0.4]], np.float32
    )  # in shares: 1.8, 0.525, 0.675 of an equal one
    painted = attended_overlay(image, attention, [RED, BLUE], (3, 1))
    for row, share, color in ((15, 1.8, RED), (45, 0.525, BLUE), (75, 0.675, BLUE)):
        level = (share - 0.5) / 1.5
        tinted = ((1 - TINT) * lifted + TINT * np.array(color)) * 255
        assert painted[row, 5] == pytest.approx(level * tinted + (1 - level) * dark, abs=4)
    # a cell that gets three shares is fully colored, and what gets nothing is dark
    painted = attended_overlay(image, np.array([[1, 0, 0], [1, 0, 0]], np.float32), [RED, BLUE], (3, 1))
    assert painted[15, 5] == pytest.approx(full, abs=2)
    assert painted[75, 5] == pytest.approx(dark, abs=2)
