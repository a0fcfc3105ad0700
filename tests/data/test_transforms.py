"""Augmentation: what each step does to pixels and part masks, and that its draws are independent and repeatable."""

from __future__ import annotations

import os
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aaformer_lit.data.preparation import Normalization, resize, resize_mask
from aaformer_lit.data.transforms import RandomBox, RandomErasing, Transforms, reseed
from aaformer_lit.errors import ConfigError
from aaformer_lit.structures import NO_PART

SIZE = (64, 32)


@pytest.fixture
def image() -> np.ndarray:
    """Every pixel has its own color, none is black."""
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    return np.stack([rows * 3 + 1, columns * 7 + 1, (rows + columns) + 1], axis=2).astype(np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    return (np.mgrid[0 : SIZE[0], 0 : SIZE[1]][0] // 16).astype(np.uint8)


def only(**changes: Any) -> Transforms:
    """No augmentation but the one named."""
    return Transforms(**({"flip": 0.0, "pad": 0, "erase": 0.0} | changes))


@cache
def pipeline_of(transforms: Transforms) -> Any:
    return transforms.train(SIZE)


def run(transforms: Transforms, key: int, **arrays: np.ndarray) -> dict[str, Any]:
    pipeline = pipeline_of(transforms)
    reseed(pipeline, key)
    result: dict[str, Any] = pipeline(**arrays)
    return result


def pixels(tensor: Any) -> np.ndarray:
    """Back from normalized (3, H, W) to uint8 (H, W, 3)."""
    return np.rint((tensor.numpy().transpose(1, 2, 0) * 0.5 + 0.5) * 255).astype(np.uint8)


def test_normalization(image: np.ndarray) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = ((image / 255 - mean) / std).transpose(2, 0, 1)
    for pipeline in (Transforms(mean=mean, std=std).test(), only(mean=mean, std=std).train(SIZE)):
        result = pipeline(image=image)["image"]
        assert result.dtype.is_floating_point
        assert result.shape == (3, *SIZE)
        np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_normalization_is_that_of_albumentations_to_the_bit_whatever_the_level() -> None:
    import albumentations as A  # after the package, which tells it not to look for updates

    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = A.Normalize(mean, std, max_pixel_value=255.0)(image=levels)["image"]
    np.testing.assert_array_equal(Normalization(mean, std)(levels), expected)


def test_flip(image: np.ndarray, mask: np.ndarray) -> None:
    mask[:, :4] = 9
    result = run(only(flip=1.0), 0, image=image, mask=mask)
    np.testing.assert_array_equal(pixels(result["image"]), image[:, ::-1])
    np.testing.assert_array_equal(result["mask"], mask[:, ::-1])
    np.testing.assert_array_equal(pixels(run(only(), 0, image=image)["image"]), image)


def test_pad_and_crop_shift_image_and_mask_alike(image: np.ndarray, mask: np.ndarray) -> None:
    shifts = set()
    for key in range(300):
        result = run(only(pad=3), key, image=image, mask=mask)
        got, parts = pixels(result["image"]), result["mask"].numpy()
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)))
        padded_mask = np.pad(mask, 3, constant_values=NO_PART)
        where = [
            (top, left)
            for top in range(7)
            for left in range(7)
            if np.array_equal(padded[top : top + SIZE[0], left : left + SIZE[1]], got)
        ]
        assert len(where) == 1
        ((top, left),) = where
        np.testing.assert_array_equal(parts, padded_mask[top : top + SIZE[0], left : left + SIZE[1]])
        shifts.add((top, left))
    assert len(shifts) == 49, "every shift of -3..3 rows and columns occurs"


def test_another_box_moves_both_ends_of_image_and_mask_alike(image: np.ndarray) -> None:
    height = SIZE[0]
    row = np.repeat(np.arange(height, dtype=np.uint8)[:, None], SIZE[1], axis=1)
    every_box = [(top, bottom) for top in range(-11, 17) for bottom in range(height - 16, height + 12)]
    rows_of = np.array([[_row(top, bottom, i) for i in range(height)] for top, bottom in every_box])
    boxes = []
    for key in range(300):
        result = run(only(box=0.25), key, image=image, mask=row, place=row)
        mask = result["mask"].numpy()
        np.testing.assert_array_equal(result["place"].numpy(), mask)
        assert (mask == mask[:, :1]).all()
        fitting = np.flatnonzero((rows_of == mask[:, 0]).all(axis=1))
        assert fitting.size, mask[:, 0]
        top, bottom = every_box[fitting[0]]
        at = np.clip(top + (np.arange(height) + 0.5) * (bottom - top) / height - 0.5, top, bottom - 1).clip(
            0, height - 1
        )
        channels = [np.interp(at, np.arange(height), image[:, 0, channel]) for channel in range(3)]
        assert abs(pixels(result["image"])[:, 0] - np.stack(channels, axis=1)).max() <= 1
        boxes.append((top, bottom))
    tops, bottoms = np.array(boxes).T
    assert 0.15 < np.mean((tops == 0) & (bottoms == height)) < 0.35, "one in four keeps its box"
    for cut in (tops, height - bottoms):  # up to 16 of 64 rows are cut off, up to 11 added
        assert cut.min() < -8
        assert cut.max() > 12


def test_two_cuts_of_nearly_half_leave_a_row() -> None:
    box = RandomBox(0.49, p=1.0)
    box.py_random = SimpleNamespace(uniform=lambda _, most: most)
    assert box.get_params_dependent_on_data({"shape": (16, 8)}, {})["rows"] == (8, 9)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_so_many_boxes_move(image: np.ndarray, share: float) -> None:
    row = np.repeat(np.arange(SIZE[0], dtype=np.uint8)[:, None], SIZE[1], axis=1)
    transforms = only(box=0.4, move_box=share)
    moved = [(run(transforms, key, image=image, mask=row)["mask"].numpy() != row).any() for key in range(300)]
    assert np.mean(moved) == pytest.approx(share, abs=0.06)


def _row(top: int, bottom: int, i: int) -> int:
    """Which row of the image the nearest pixel of row i of the box is from."""
    row = top + int((i + 0.5) * (bottom - top) / SIZE[0])
    return row if 0 <= row < SIZE[0] else NO_PART


def test_erasing_fills_one_rectangle_with_noise(image: np.ndarray, mask: np.ndarray) -> None:
    areas, aspects = [], []
    for key in range(300):
        result = run(only(erase=1.0), key, image=image, mask=mask)
        erased = result["mask"].numpy() == NO_PART
        rows, columns = np.flatnonzero(erased.any(1)), np.flatnonzero(erased.any(0))
        assert erased[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "a rectangle"
        np.testing.assert_array_equal(pixels(result["image"])[~erased], image[~erased])
        np.testing.assert_array_equal(result["mask"].numpy()[~erased], mask[~erased])
        areas.append(erased.mean())
        aspects.append(len(rows) / len(columns))
    assert 0.015 < min(areas) < 0.05
    assert 0.3 < max(areas) < 0.45, "large rectangles occur on a 2:1 image too"
    assert min(aspects) < 0.5
    assert max(aspects) > 2.5
    values = pixels(result["image"])[erased]
    assert len(np.unique(values)) > 50, "per-pixel noise"


def test_erasing_with_the_mean(image: np.ndarray, mask: np.ndarray) -> None:
    mean = (0.485, 0.456, 0.406)
    result = run(only(erase=1.0, erase_fill="mean", mean=mean), 3, image=image, mask=mask)
    erased = result["mask"].numpy() == NO_PART
    assert abs(result["image"].numpy()[:, erased]).max() < 0.005 * 2, (
        "the mean normalizes to 0, up to rounding to uint8"
    )


def test_erasing_leaves_its_input_alone(image: np.ndarray) -> None:
    before = image.copy()
    run(only(erase=1.0), 1, image=image)
    np.testing.assert_array_equal(image, before)


def test_erasing_gives_up_where_nothing_fits() -> None:
    tall = np.full((40, 4, 3), 9, np.uint8)  # all of it would need an aspect of 10, and 3.3 is the most
    np.testing.assert_array_equal(RandomErasing("random", (1.0, 1.0), p=1.0)(image=tall)["image"], tall)


def test_steps_are_independent_of_each_other(image: np.ndarray, mask: np.ndarray) -> None:
    """Seeding all steps alike would always flip and erase the same images together."""
    mask[:, 0] = 77
    mask[:, -1] = 78
    both = np.zeros((2, 2), int)
    for key in range(800):
        result = run(Transforms(pad=0), key, image=image, mask=mask)["mask"].numpy()
        flipped = int(78 in result[:, 0] or 77 in result[:, -1])
        both[flipped, int((result == NO_PART).any())] += 1
    assert (abs(both - 200) < 60).all(), both


def test_the_key_decides_the_draw(image: np.ndarray) -> None:
    pipeline = Transforms().train(SIZE)

    def draw(*key: int) -> bytes:
        reseed(pipeline, *key)
        return bytes(pipeline(image=image)["image"].numpy().tobytes())

    first = draw(1, 2, 3)
    assert draw(1, 2, 4) != first
    assert draw(1, 3, 3) != first
    assert draw(2, 2, 3) != first
    assert draw(1, 2, 3) == first


@pytest.mark.parametrize("size", [(40, 20), (256, 128), (64, 33), (20, 90), (64, 32)])
def test_resize_is_close_to_pillows_bicubic(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 5, 3), np.uint8)).resize((32, 64), Image.Resampling.BICUBIC)
    noisy = np.clip(np.asarray(smooth).astype(int) + rng.integers(-25, 26, (64, 32, 3)), 0, 255).astype(np.uint8)
    reference = np.asarray(Image.fromarray(noisy).resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
    got = resize(noisy, size)
    assert got.shape == (*size, 3)
    assert abs(got.astype(int) - reference).mean() < 3


def test_resize_mask_keeps_labels() -> None:
    mask = np.array([[0, 200], [7, NO_PART]], np.uint8)
    np.testing.assert_array_equal(resize_mask(mask, (6, 4)), mask.repeat(3, 0).repeat(2, 1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 1.5},
        {"erase": -0.1},
        {"box": 0.5},
        {"move_box": 1.5},
        {"pad": -1},
        {"erase_fill": "black"},
        {"erase_area": (0.4, 0.02)},
        {"erase_area": (0.02,)},
        {"erase_area": (0.02, 0.3, 0.4)},
        {"std": (0.5, 0.5, 0.0)},
        {"mean": (0.5,)},
        {"mean": (123.7, 116.3, 103.5)},
        {"mean": (float("nan"),) * 3},
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Transforms(**wrong)


def test_no_look_for_updates() -> None:
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
