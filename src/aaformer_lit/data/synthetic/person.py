"""Draws one person onto a canvas: all layers of body, head and carried object, the farthest first."""

from __future__ import annotations

from aaformer_lit.data.synthetic.attributes import Identity
from aaformer_lit.data.synthetic.body import arm_layers, leg_layers, torso_layers
from aaformer_lit.data.synthetic.canvas import Canvas, Point
from aaformer_lit.data.synthetic.carried import carried_layers
from aaformer_lit.data.synthetic.figure import GIRTH, Figure
from aaformer_lit.data.synthetic.head import head_layers
from aaformer_lit.data.synthetic.pose import Pose, View, skeleton

MATERIALS = 12  # that one person registers at most

# an arm that holds these hangs down
_HELD = ("handbag", "suitcase")


def draw_person(
    canvas: Canvas,
    who: Identity,
    pose: Pose,
    pixels: float,
    ground: Point,
    light: float = 1.0,
    as_background: bool = False,
) -> None:
    """Draw a person of `pixels` height standing at `ground`, lit from the left (`light` -1) or the right (1).

    `as_background` labels all of it background, as passers-by are.
    """
    bones = skeleton(pose, GIRTH[who.build], still_arm=who.carried_side if who.carried in _HELD else 0)
    figure = Figure(who, pose, View(pose.yaw, pose.pitch, pixels, ground), light, canvas, bones, as_background)
    layers = [
        layer for part in (leg_layers, torso_layers, arm_layers, head_layers, carried_layers) for layer in part(figure)
    ]
    for _, paint in sorted(layers, key=lambda layer: layer[0]):
        paint()
