"""The resize inside a graph is the loader's own, to the last gray level."""

import numpy as np
import pytest
import torch

from aaformer_lit.data.preparation import resize
from aaformer_lit.data.transforms import Transforms
from aaformer_lit.deploy.preprocess import Preprocess

SIZE = (64, 32)


# equal, whole and broken shares, narrow and tall, flat and wide, tiny, huge, one pixel
ORIGINALS = [
    (64, 32), (128, 64), (192, 64), (192, 128), (256, 128), (128, 32), (129, 50), (200, 33), (128, 90), (30, 15), (32, 16),
    (16, 31), (30, 100), (150, 20), (128, 16), (32, 64), (64, 31), (2, 2), (1, 1), (1, 300), (300, 1),
    (3136, 1568), (1999, 777),
]  # fmt: skip


def graph(size=SIZE):
    return Preprocess(size, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def pictures(shape, seed=0):
    """Noise, and noise of two levels, whose means lie halfway between gray levels more often."""
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    return noise, noise // 128 * 255


@pytest.mark.parametrize("original", ORIGINALS)
@pytest.mark.parametrize("size", [SIZE, (210, 98)])
def test_pixels_are_the_loaders(original, size):
    for image in pictures(original):
        expected = torch.from_numpy(resize(image, size)).permute(2, 0, 1)
        assert torch.equal(graph(size).resize(torch.from_numpy(image)[None])[0], expected.float())


def test_pixels_are_the_loaders_at_random_sizes():
    rng = np.random.default_rng(1)
    for seed in range(60):
        (image, _), size = pictures(rng.integers(1, 400, 2), seed), tuple(rng.integers(8, 200, 2).tolist())
        expected = torch.from_numpy(resize(image, size)).permute(2, 0, 1)
        assert torch.equal(graph(size).resize(torch.from_numpy(image)[None])[0], expected.float()), (image.shape, size)


def test_the_traced_graph_has_them_too():
    """Sizes stay open, and the loop over covered pixels is in the graph."""
    sides = {axis: torch.export.Dim(name, min=2, max=4000) for axis, name in ((1, "rows"), (2, "columns"))}
    example = torch.zeros(2, 67, 37, 3, dtype=torch.uint8)
    traced = torch.export.export(graph(), (example,), dynamic_shapes=(sides,), strict=False).module()
    for original in [(128, 64), (129, 50), (150, 20), (30, 15), (700, 300)]:
        images = torch.from_numpy(np.stack(pictures(original)))
        torch.testing.assert_close(traced(images), graph().by_loader(images), atol=1e-6, rtol=0)


def test_growing_is_bicubic_and_does_not_depend_on_the_library():
    """Against the formula in float64; OpenCV's own uint8 results differ between its builds."""
    image, _ = pictures((50, 21))
    matrices = []
    for old, new in zip(image.shape[:2], SIZE, strict=True):
        center = (np.arange(new) + 0.5) * old / new - 0.5
        taps = np.floor(center)[:, None] + np.arange(-1, 3)
        distance = np.abs(center[:, None] - taps)
        near = (1.25 * distance - 2.25) * distance**2 + 1
        far = -0.75 * (((distance - 5) * distance + 8) * distance - 4)
        matrix = np.zeros((new, old))
        for tap in range(4):
            np.add.at(matrix, (np.arange(new), taps[:, tap].clip(0, old - 1).astype(int)),
                      np.where(distance <= 1, near, far)[:, tap])  # fmt: skip
        matrices.append(matrix)
    exact = np.einsum("yr,rcx,zc->yzx", matrices[0], image, matrices[1])
    assert np.abs(resize(image, SIZE) - exact.clip(0, 255)).max() < 0.5001


def test_normalized_as_the_loader_does():
    image = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
    expected = Transforms(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)).test()(image=image)["image"]
    torch.testing.assert_close(graph()(torch.from_numpy(image)[None])[0], expected, atol=1e-5, rtol=0)
