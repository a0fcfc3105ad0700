"""Takes the pictures: person, place and camera put together by a pure function of (spec, pid, camid, shot).

Every random number of a picture comes from a generator keyed by those four, and is drawn whether it is used or not. So
pictures do not depend on the order or the process they are made in, and a spec that differs in its occlusion alone shows
the same people in the same poses, with other things in front of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from aaformer_lit.data.synthetic.attributes import identity
from aaformer_lit.data.synthetic.camera import Camera, Picture
from aaformer_lit.data.synthetic.canvas import PART_COLORS, Canvas, over, spread
from aaformer_lit.data.synthetic.occluders import OCCLUDERS
from aaformer_lit.data.synthetic.person import draw_person
from aaformer_lit.data.synthetic.pose import Pose
from aaformer_lit.data.synthetic.scene import clouds, street
from aaformer_lit.data.synthetic.spec import SyntheticSpec
from aaformer_lit.structures import Pixels

Labels = UInt8[np.ndarray, "height width"]
_FOLDS = 4  # pieces of cloth are cut from a field so many pictures high and wide


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that is particular to one picture. Lengths are shares of the picture's height and width."""

    pose: Pose
    misaligned: bool
    size: float
    ground: tuple[float, float]
    occluder: str | None
    light: float
    brightness: float
    piece: tuple[float, float]
    folds: tuple[float, float]
    rng: np.random.Generator


def circumstances(spec: SyntheticSpec, pid: int, camid: int, shot: int) -> Circumstances:
    """Draw how a picture is taken; its `rng` is left for occluder and noise."""
    rng = spec.rng(3, pid, camid, shot)
    pose = Pose.draw(rng)
    u = rng.random(16).tolist()
    misaligned = bool(u[0] < spec.misalignment)
    # a detector's usual box: the person fills nine tenths of the height
    size = 0.87 + 0.05 * u[1]
    x, y = 0.5 + 0.08 * (u[2] - 0.5), 0.955 + 0.02 * (u[3] - 0.5)
    if misaligned:
        size *= 0.72 + 0.7 * u[4]
        x += 0.36 * (u[5] - 0.5)
        # too large for the box: either the head or the feet stay inside; too small: anywhere
        low, high = sorted((0.96, size + 0.04))
        y = low + (high - low) * u[6] + 0.1 * (u[7] - 0.5)
    kind = tuple(OCCLUDERS)[int(u[8] * len(OCCLUDERS))]
    dim = 0.08 + 0.17 * spec.difficulty
    return Circumstances(
        pose=pose,
        misaligned=misaligned,
        size=size,
        ground=(x, y),
        occluder=kind if u[9] < spec.occlusion else None,
        light=1.0 if u[10] < 0.5 else -1.0,
        brightness=1 + dim * (2 * u[11] - 1),
        piece=(u[12], u[13]),
        folds=(u[14], u[15]),
        rng=rng,
    )


def render(spec: SyntheticSpec, pid: int, camid: int, shot: int) -> tuple[Pixels, Labels]:
    """One picture (RGB) and the true part label of each of its pixels (`Part`)."""
    how = circumstances(spec, pid, camid, shot)
    scene, labels = compose(spec, pid, how, _cut(street(spec, camid), spec, how.piece))
    if spec.box_width < 1:
        scene, labels = (
            _stretch(scene, spec.box_width, cv2.INTER_LINEAR),
            _stretch(labels, spec.box_width, cv2.INTER_NEAREST),
        )
    return _camera(spec, camid).take(scene, how.rng), labels


def compose(spec: SyntheticSpec, pid: int, how: Circumstances, background: Picture) -> tuple[Picture, Labels]:
    """The person, and what occludes them, in front of a background, as no camera has yet seen it."""
    canvas = Canvas(spec.height, spec.width)
    ground = (how.ground[0] * spec.width, how.ground[1] * spec.height)
    draw_person(canvas, identity(spec, pid), how.pose, how.size * spec.height, ground, how.light)
    if how.occluder is not None:
        OCCLUDERS[how.occluder](canvas, spec, ground[0], how.rng)
    rgba = canvas.rgba()
    lit = over(rgba, _with_shadow(background, ground, how.size * spec.height))
    creases = _cut(_creases(spec.seed, spec.height, spec.width), spec, how.folds)
    # folds are seen on what is drawn and leave the background alone
    shade = how.brightness * (1 + creases * (rgba[..., 3] * np.float32(1 / 255)))
    lit *= spread(shade)
    return lit, canvas.part_labels(rgba[..., 3])


def contact_sheet(spec: SyntheticSpec, pids: Iterable[int], columns: int = 12, masks: bool = False) -> Pixels:
    """One row per pid, cameras and shots from left to right; with `masks`, a row of colored part labels under each."""
    rows = []
    for pid in pids:
        views = [render(spec, pid, i % spec.num_cameras + 1, i // spec.num_cameras) for i in range(columns)]
        rows.append(np.hstack([image for image, _ in views]))
        if masks:
            rows.append(np.hstack([PART_COLORS[labels] for _, labels in views]))
    return np.vstack(rows)


def _cut(field: np.ndarray, spec: SyntheticSpec, place: tuple[float, float]) -> np.ndarray:
    """A piece of the picture's size out of a larger field; `place` is 0 to 1 from left and from top."""
    x = int(place[0] * (field.shape[1] - spec.width))
    y = int(place[1] * (field.shape[0] - spec.height))
    return field[y : y + spec.height, x : x + spec.width]


def _stretch(picture: np.ndarray, box_width: float, interpolation: int) -> np.ndarray:
    """The middle of a picture, a box of the given share of its width, stretched to the whole width."""
    height, width = picture.shape[:2]
    margin = round((1 - box_width) / 2 * width)
    return cv2.resize(picture[:, margin : width - margin], (width, height), interpolation=interpolation)


def _with_shadow(background: Picture, ground: tuple[float, float], size: float) -> Picture:
    """A soft shadow on the ground under the feet."""
    height, width = background.shape[:2]
    first, last = (int(np.clip(ground[1] + d * size, 0, height)) for d in (-0.06, 0.06))
    x = (np.arange(width, dtype=np.float32) - ground[0]) / (0.17 * size)
    y = (np.arange(first, last, dtype=np.float32) - ground[1]) / (0.025 * size)
    shaded = background.copy()
    if first < last:
        shaded[first:last] *= spread(1 - 0.5 * np.exp(-(y**2))[:, None] * np.exp(-(x**4))[None, :])
    return shaded


@lru_cache(maxsize=256)
def _camera(spec: SyntheticSpec, camid: int) -> Camera:
    return Camera.draw(spec, camid)


@lru_cache(maxsize=4)
def _creases(seed: int, height: int, width: int) -> Float[np.ndarray, "rows columns"]:
    rng, size = np.random.default_rng((seed, 5)), (_FOLDS * height, _FOLDS * width)
    return 0.05 * clouds(rng, size, 10 * _FOLDS) + 0.05 * clouds(rng, size, 25 * _FOLDS)
