"""Where the cameras look: one street per camera, drawn once, wider than a picture, so that every shot cuts out another piece.

The background tells which camera took a picture and nothing about who is in it: a network that looks at it loses.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float

from aaformer_lit.data.synthetic.attributes import Identity, identity
from aaformer_lit.data.synthetic.camera import Picture
from aaformer_lit.data.synthetic.canvas import BASE, LIGHT, SHADE, Canvas, Part, over
from aaformer_lit.data.synthetic.person import MATERIALS, draw_person
from aaformer_lit.data.synthetic.pose import Pose
from aaformer_lit.data.synthetic.spec import SyntheticSpec

_STRANGERS = range(10_000_000, 10_000_064)  # pids far beyond those of any data set


def stranger(spec: SyntheticSpec, rng: np.random.Generator) -> Identity:
    """A passer-by, who is in neither the training nor the test set."""
    return identity(spec, _STRANGERS[rng.integers(len(_STRANGERS))])


@lru_cache(maxsize=64)
def street(spec: SyntheticSpec, camid: int) -> Picture:
    """The place that a camera looks at: 1.3 pictures high and 8 wide."""
    rng = spec.rng(4, camid)
    height, width = round(1.3 * spec.height), 8 * spec.width
    horizon = int(rng.uniform(0.2, 0.45) * height)
    wall, ground = rng.uniform(70, 205, 3), rng.uniform(85, 185) * rng.uniform(0.9, 1.1, 3)
    # streets are grayish, whatever the hue
    wall = 0.6 * wall.mean() + 0.4 * wall
    picture = np.empty((height, width, 3), np.float32)
    picture[:horizon] = wall
    picture[horizon:] = ground * np.linspace(0.8, 1.1, height - horizon)[:, None, None]
    _tiles(picture, horizon, rng)
    picture *= 1 + 0.1 * clouds(rng, (height, width), 5)[..., None] + 0.07 * clouds(rng, (height, width), 40)[..., None]

    canvas = Canvas(height, width)
    for _ in range(rng.integers(11, 17)):
        _furniture(canvas, horizon, rng)
    for _ in range(min(int(rng.integers(2, 5)), canvas.room // MATERIALS)):
        spot = (float(rng.uniform(0, width)), horizon + float(rng.uniform(0.2, 0.45)) * height)
        size = float(rng.uniform(0.35, 0.7)) * height
        draw_person(canvas, stranger(spec, rng), Pose.draw(rng), size, spot, as_background=True)
    far = cv2.GaussianBlur(over(canvas.rgba(), picture), (0, 0), 0.008 * spec.height)
    far.setflags(write=False)
    return np.asarray(far)


def clouds(rng: np.random.Generator, size: tuple[int, int], cells: int) -> Float[np.ndarray, "height width"]:
    """Smooth noise of zero mean and unit variance on a grid of about `cells` bumps per height."""
    height, width = size
    grid = rng.standard_normal((cells, max(2, round(cells * width / height)))).astype(np.float32)
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC))


def _tiles(picture: Picture, horizon: int, rng: np.random.Generator) -> None:
    """Courses of a wall and the perspective of a paving."""
    height, width = picture.shape[:2]
    tone = float(rng.uniform(0.75, 0.95))
    step = int(rng.uniform(0.05, 0.12) * height) + 1
    picture[:horizon:step] *= tone
    for x in range(0, width, 2 * step):
        picture[:horizon, x : x + 1] *= tone
    shade = np.ones((height, width), np.float32)
    vanishing = (width // 2, horizon - height // 2)
    for x in range(-2 * width, 3 * width, int(0.16 * height)):
        cv2.line(shade, vanishing, (x, height), tone, 1, cv2.LINE_AA)
    for row in np.cumsum(np.geomspace(0.02, 0.1, 14)) * height + horizon:
        cv2.line(shade, (0, int(row)), (width, int(row)), tone, 1, cv2.LINE_AA)
    shade[:horizon] = 1
    picture *= shade[..., None]


def _furniture(canvas: Canvas, horizon: int, rng: np.random.Generator) -> None:
    """A window, a door, a trunk with its crown, a post or a parked car."""
    height, width = canvas.size
    material = canvas.material([int(c) for c in rng.uniform(30, 200) * rng.uniform(0.82, 1.18, 3)], Part.BACKGROUND)
    x, w = float(rng.uniform(0, width)), float(rng.uniform(0.06, 0.3)) * height
    kind = rng.integers(4)
    if kind == 0:
        top, bottom = sorted(rng.uniform(-0.1, 1.0, 2) * horizon)
        _rectangle(canvas, x, top, w, max(bottom - top, 4), material + BASE)
        _rectangle(canvas, x + 0.1 * w, top + 2, 0.35 * w, max(bottom - top - 4, 2), material + LIGHT)
    elif kind == 1:
        trunk = 0.03 * height
        _rectangle(canvas, x, -1, trunk, horizon + 0.12 * height, material + SHADE)
        leaf = canvas.material([int(c) for c in (rng.uniform(40, 90), rng.uniform(80, 130), 50)], Part.BACKGROUND)
        for _ in range(9):
            place = (x + float(rng.normal(0, 0.12)) * height, 0.4 * horizon + float(rng.normal(0, 0.3)) * horizon)
            canvas.ellipse(place, (0.07 * height, 0.05 * height), leaf + int(rng.integers(4)))
    elif kind == 2:
        _rectangle(canvas, x, horizon * float(rng.uniform(0, 0.7)), 0.025 * height, 0.5 * height, material + BASE)
    else:
        long, top = 0.75 * height, horizon + float(rng.uniform(-0.12, 0.04)) * height
        canvas.capsule(
            (x, top + 0.1 * height), (x + long, top + 0.1 * height), 0.1 * height, 0.1 * height, material + BASE
        )
        canvas.capsule((x + 0.2 * long, top), (x + 0.7 * long, top), 0.07 * height, 0.07 * height, material + SHADE)
        for wheel in (0.15, 0.85):
            canvas.ellipse((x + wheel * long, top + 0.19 * height), (0.055 * height, 0.055 * height), material)


def _rectangle(canvas: Canvas, x: float, y: float, width: float, height: float, index: int) -> None:
    canvas.polygon([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], index)
