"""Cameras: each effect is what its number says, and all grow with the difficulty."""

from __future__ import annotations

import numpy as np
import pytest

from aaformer_lit.data.synthetic import SyntheticSpec
from aaformer_lit.data.synthetic.camera import Camera

PERFECT = {"gain": (1.0, 1.0, 1.0), "gamma": 1.0, "saturation": 1.0, "blur": 0.01, "detail": 1.0, "noise": 0.0}


def shot(scene: np.ndarray, **effects: object) -> np.ndarray:
    camera = Camera(**{**PERFECT, **effects})  # type: ignore[arg-type]
    return camera.take(scene.astype(np.float32), np.random.default_rng(0)).astype(float)


def flat(*color: float) -> np.ndarray:
    return np.broadcast_to(np.array(color, np.float32), (128, 64, 3)).copy()


@pytest.fixture
def checks() -> np.ndarray:
    board = 255.0 * ((np.arange(128)[:, None] // 3 + np.arange(64)[None, :] // 3) % 2)
    return np.repeat(board[..., None], 3, axis=2)


def test_a_perfect_camera_changes_nothing(checks: np.ndarray) -> None:
    assert (shot(checks) == checks).all()


def test_gain_is_a_color_cast() -> None:
    assert shot(flat(100, 100, 100), gain=(1.2, 1.0, 0.8))[5, 5].tolist() == pytest.approx([120, 100, 80], abs=1)


def test_gamma_bends_brightness() -> None:
    assert shot(flat(64, 64, 64), gamma=2.0)[5, 5, 0] == pytest.approx(255 * (64 / 255) ** 2, abs=1)


def test_no_saturation_leaves_gray() -> None:
    # the luma of ITU-R BT.601
    assert shot(flat(200, 50, 100), saturation=0.0)[5, 5].tolist() == pytest.approx([100.55] * 3, abs=1)


def test_noise_has_its_standard_deviation() -> None:
    assert shot(flat(128, 128, 128), noise=6.0).std() == pytest.approx(6.0, rel=0.05)


@pytest.mark.parametrize("effect", [{"blur": 2.0}, {"detail": 0.5}])
def test_blur_and_low_detail_lose_edges(checks: np.ndarray, effect: dict[str, float]) -> None:
    def edges(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image, axis=1)).mean())

    assert edges(shot(checks, **effect)) < 0.75 * edges(checks)


def test_blur_is_relative_to_the_size_of_the_picture() -> None:
    """A step spreads over twice as many pixels in a picture of twice the height."""

    def spread(scale: int) -> float:
        step = np.zeros((128 * scale, 64 * scale, 3))
        step[:, 32 * scale :] = 255
        profile = shot(step, blur=3.0)[64 * scale, :, 0]
        return float(((profile > 20) & (profile < 235)).sum())

    assert spread(2) == pytest.approx(2 * spread(1), abs=2)


def test_the_effects_of_a_camera_grow_with_the_difficulty() -> None:
    for camid in range(1, 7):
        easy, hard = (Camera.draw(SyntheticSpec(difficulty=d), camid) for d in (0.0, 1.0))
        # the same camera, 0.15 and 1 times as far from a perfect one
        assert np.log(easy.gain) == pytest.approx(0.15 * np.log(hard.gain), abs=1e-9)
        assert np.log(easy.gamma) == pytest.approx(0.15 * np.log(hard.gamma))
        assert 1 - easy.detail == pytest.approx(0.15 * (1 - hard.detail))
        assert easy.noise < hard.noise


def test_cameras_differ() -> None:
    assert len({Camera.draw(SyntheticSpec(), camid) for camid in range(1, 9)}) == 8
    assert Camera.draw(SyntheticSpec(), 1) != Camera.draw(SyntheticSpec(seed=1), 1)
