"""Embedder: a box of a BGR frame has the descriptor of its pixels, and boxes without pixels are masked."""

import cv2
import numpy as np
import pytest
import torch

from aaformer_lit import AAformer, load_model
from aaformer_lit.errors import ConfigError, ImageError
from aaformer_lit.tracking import Embedder


@pytest.fixture(scope="module")
def network():
    return load_model("synthetic-small")


@pytest.fixture(scope="module")
def frame():
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)


def test_a_feature_is_that_of_the_boxs_rgb_pixels(network, frame):
    boxes = [[10, 20, 60, 140], [100.4, 0.6, 171.5, 200.5], [-30, 100, 25, 300], [300, -20, 400, 90]]
    # rows and columns by hand: corners to the nearest pixel (of two the even one), edges of the frame
    pixels = [frame[20:140, 10:60], frame[1:200, 100:172], frame[100:, :25], frame[:90, 300:]]
    wanted = network.embed_images([crop[..., ::-1] for crop in pixels])
    found = Embedder(network, batch_size=3)(frame, boxes)
    torch.testing.assert_close(found.features, wanted, atol=1e-5, rtol=0)
    assert found.mask.tolist() == [True] * 4
    inside = [1, 1, 25 / 55 * 140 / 200, 20 / 100 * 90 / 110]
    torch.testing.assert_close(found.quality, torch.tensor(inside))
    as_rgb = Embedder(network)(frame[..., ::-1], boxes)
    assert (as_rgb.features - wanted).norm(dim=1).min() > 0.1, "the order of the channels would not matter"


@pytest.mark.parametrize(
    "nothing",
    [[50, 50, 50, 90], [60, 50, 50, 90], [320, 0, 350, 90], [-40, 0, -1, 90], [0, 240, 9, 250], [10, 10, 10.2, 90],
     [float("nan"), 0, 20, 20], [0, 0, float("inf"), 20]],
)  # fmt: skip
def test_a_box_without_pixels_is_masked_and_the_others_stay_in_place(network, frame, nothing):
    good = [10, 20, 60, 140]
    found = Embedder(network)(frame, torch.tensor([nothing, good, nothing]))
    assert found.mask.tolist() == [False, True, False]
    assert found.quality.tolist() == [0, 1, 0]
    assert not found.features[[0, 2]].any()
    torch.testing.assert_close(found.features[1], network.embed_images(frame[20:140, 10:60, ::-1])[0])
    alone = Embedder(network)(frame, [nothing])
    assert alone.features.shape == (1, 6 * 128)
    assert not alone.mask.any()


def test_no_boxes_and_further_columns(network, frame):
    for none in ([], np.zeros((0, 6)), torch.zeros(0, 4)):
        found = Embedder(network)(frame, none)
        assert [len(part) for part in found] == [0, 0, 0]
        assert found.features.shape == (0, 6 * 128)
    box = [10, 20, 60, 140]
    with_score = Embedder(network)(frame, np.array([[*box, 0.9, 0]], np.float32))
    assert torch.equal(with_score.features, Embedder(network)(frame, [box]).features)


def test_mistakes_are_told_in_words(network, frame):
    with pytest.raises(ConfigError, match=r"shape \(4,\)\. A single box is boxes\[None\]"):
        Embedder(network)(frame, [0, 0, 5, 5])
    with pytest.raises(ImageError, match=r"got ndarray float32 of shape \(240, 320, 3\)"):
        Embedder(network)(frame.astype(np.float32), [[0, 0, 5, 5]])
    with pytest.raises(ConfigError, match="batch_size=0"):
        Embedder(network, batch_size=0)
    with pytest.raises(ConfigError, match="does not know how its images are prepared"):
        Embedder(AAformer("vit_tiny_patch16_224", parts=[2], image_size=(64, 32)))
