"""What stands in front of synthetic people: posts, bins, parked cars, bushes and passers-by.

An occluder is drawn last and labeled background: the masks hold what can be seen of the person, nothing more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aaformer_lit.data.synthetic.canvas import BASE, DEEP, LIGHT, SHADE, TONES, Canvas, Part
from aaformer_lit.data.synthetic.person import draw_person
from aaformer_lit.data.synthetic.pose import Pose
from aaformer_lit.data.synthetic.scene import stranger
from aaformer_lit.data.synthetic.spec import SyntheticSpec


def _paint(canvas: Canvas, rng: np.random.Generator, low: float = 40, high: float = 200) -> int:
    color = rng.uniform(low, high) * rng.uniform(0.8, 1.2, 3)
    return canvas.material([min(255, int(c)) for c in color], Part.BACKGROUND)


def _slab(canvas: Canvas, left: float, right: float, top: float, bottom: float, material: int) -> None:
    """An upright body, lit in the middle."""
    for share, tone in ((0.0, SHADE), (0.15, BASE), (0.4, LIGHT)):
        inset = share * (right - left)
        far = right - 0.6 * inset
        canvas.polygon([(left + inset, top), (far, top), (far, bottom), (left + inset, bottom)], material + tone)


def _post(canvas: Canvas, spec: SyntheticSpec, center: float, rng: np.random.Generator) -> None:
    half = float(rng.uniform(0.06, 0.12)) * spec.width
    x = center + float(rng.uniform(-0.14, 0.14)) * spec.width
    _slab(canvas, x - half, x + half, -1, spec.height + 1, _paint(canvas, rng))


def _bin(canvas: Canvas, spec: SyntheticSpec, center: float, rng: np.random.Generator) -> None:
    half = float(rng.uniform(0.25, 0.42)) * spec.width
    x = center + float(rng.uniform(-0.15, 0.15)) * spec.width
    top = float(rng.uniform(0.5, 0.72)) * spec.height
    paint = _paint(canvas, rng)
    _slab(canvas, x - half, x + half, top, spec.height + 1, paint)
    _slab(canvas, x - 1.1 * half, x + 1.1 * half, top - 0.03 * spec.height, top + 0.01 * spec.height, paint)


def _car(canvas: Canvas, spec: SyntheticSpec, center: float, rng: np.random.Generator) -> None:
    paint = _paint(canvas, rng, 60, 220)
    glass = canvas.material((70, 84, 94), Part.BACKGROUND)
    unit, top = spec.height, float(rng.uniform(0.6, 0.75)) * spec.height
    middle = float(rng.choice((-0.2, 1.2))) * spec.width
    canvas.capsule((middle - 0.28 * unit, top), (middle + 0.28 * unit, top), 0.1 * unit, 0.1 * unit, glass + BASE)
    for drop, tone in ((0.1, LIGHT), (0.13, BASE), (0.2, SHADE)):
        left, right = (middle - 0.5 * unit, top + drop * unit), (middle + 0.5 * unit, top + drop * unit)
        canvas.capsule(left, right, 0.1 * unit, 0.1 * unit, paint + tone)
    _slab(canvas, middle - 0.6 * unit, middle + 0.6 * unit, top + 0.25 * unit, unit + 1, paint)
    for wheel in (-0.3, 0.3):
        canvas.ellipse((middle + wheel * unit, top + 0.3 * unit), (0.08 * unit, 0.08 * unit), glass + DEEP)


def _bush(canvas: Canvas, spec: SyntheticSpec, center: float, rng: np.random.Generator) -> None:
    green = rng.uniform(70, 130)
    leaf = canvas.material([int(green * 0.6), int(green), int(green * 0.4)], Part.BACKGROUND)
    x = center + float(rng.uniform(-0.2, 0.2)) * spec.width
    top = float(rng.uniform(0.55, 0.75)) * spec.height
    for _ in range(28):
        place = (x + float(rng.normal(0, 0.24)) * spec.width, top + abs(float(rng.normal(0, 0.2))) * spec.height)
        canvas.ellipse(place, (0.09 * spec.height, 0.06 * spec.height), leaf + int(rng.integers(TONES)))


def _passer_by(canvas: Canvas, spec: SyntheticSpec, center: float, rng: np.random.Generator) -> None:
    who = stranger(spec, rng)
    size = float(rng.uniform(0.95, 1.2)) * spec.height
    x = center + float(rng.choice((-1, 1)) * rng.uniform(0.26, 0.42)) * spec.width
    spot = (x, spec.height * float(rng.uniform(1.02, 1.12)))
    draw_person(canvas, who, Pose.draw(rng), size, spot, as_background=True)


# each draws one on (canvas, spec, the column of the person it hides, rng)
OCCLUDERS: dict[str, Callable[[Canvas, SyntheticSpec, float, np.random.Generator], None]] = {
    "post": _post,
    "bin": _bin,
    "car": _car,
    "bush": _bush,
    "passer-by": _passer_by,
}
