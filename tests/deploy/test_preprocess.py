"""The resize inside a graph against the loader's own, and against what bicubic and area resizing must do."""

import numpy as np
import pytest
import torch

from aaformer_lit.data.transforms import Transforms, resize
from aaformer_lit.deploy.preprocess import Preprocess, resize_matrix

SIZE = (64, 32)
PREPROCESS = Preprocess(SIZE, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


@pytest.mark.parametrize(
    "original", [(64, 32), (128, 64), (129, 50), (200, 33), (30, 15), (16, 31), (30, 100), (150, 20), (64, 31), (2, 2)]
)
def test_pixels_are_the_loaders_within_one_gray_level(original):
    image = np.random.default_rng(0).integers(0, 256, (*original, 3), np.uint8)
    expected = torch.from_numpy(resize(image, SIZE)).permute(2, 0, 1)
    found = PREPROCESS.resize(torch.from_numpy(image)[None])[0]
    mixed = (original[0] < SIZE[0]) != (original[1] < SIZE[1])
    difference = (found - expected).abs()
    assert difference.max() <= (2 if mixed else 1)  # the loader rounds twice where one side shrinks and one grows
    assert (difference > 0).float().mean() < 0.3
    if original == SIZE:
        assert difference.max() == 0


def test_normalized_as_the_loader_does():
    image = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
    expected = Transforms(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)).test()(image=image)["image"]
    torch.testing.assert_close(PREPROCESS(torch.from_numpy(image)[None])[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("old", "new"), [(7, 7), (20, 7), (7, 20), (8, 4), (3, 64)])
def test_weights_of_a_pixel(old, new):
    matrix = resize_matrix(old, new)
    assert matrix.shape == (new, old)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(new))
    # mirrored images stay mirrored
    torch.testing.assert_close(matrix, matrix.flip(0, 1), atol=1e-5, rtol=0)
    if old == new:
        torch.testing.assert_close(matrix, torch.eye(old))
    if (old, new) == (8, 4):
        torch.testing.assert_close(matrix, torch.eye(4).repeat_interleave(2, dim=1) / 2)
