"""A person about to be drawn: who, in which pose, seen from where; the geometry that body, head and bags are placed by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from aaformer_lit.data.synthetic.attributes import RGB, Identity
from aaformer_lit.data.synthetic.canvas import Canvas, Part, Point
from aaformer_lit.data.synthetic.pose import HIP, SHOULDER, Pose, Skeleton, Vec, View

GIRTH = {"slim": 0.83, "average": 1.0, "broad": 1.25}

# (place in the order of drawing, what to draw): lower ones are farther away
Layer = tuple[float, Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Figure:
    """Lit from the left (`light` -1) or the right (1). All parts of a figure `as_background` are labeled background."""

    who: Identity
    pose: Pose
    view: View
    light: float
    canvas: Canvas
    bones: Skeleton
    as_background: bool

    @property
    def girth(self) -> float:
        return GIRTH[self.who.build]

    @property
    def facing(self) -> float:
        """1 where the chest faces the camera, -1 where the back does, 0 from the side."""
        return math.cos(self.pose.yaw)

    @property
    def sideways(self) -> bool:
        """Whether one arm and leg are behind the others, in their shade."""
        return abs(math.sin(self.pose.yaw)) > 0.5

    def material(self, color: RGB, part: Part) -> int:
        return self.canvas.material(color, Part.BACKGROUND if self.as_background else part)

    def near(self, point: Vec) -> bool:
        return self.view.depth(point) > -0.025

    def torso_point(self, x: float, t: float, z: float) -> Point:
        """A point of the torso: `t` is 0 at the hips, 1 at the shoulders."""
        rise = SHOULDER - HIP
        waist = self.bones.waist
        lean = self.pose.lean
        return self.view((x, waist[1] + t * rise * math.cos(lean), z + t * rise * math.sin(lean)))

    def arm_order(self, side: int) -> float:
        """Where in the order of layers an arm comes: behind the legs, or before torso (and, raised, head)."""
        if not self.near(self.bones.elbow[side]):
            return -1.5
        return 0.6 if side == self.pose.raised else 0.3
