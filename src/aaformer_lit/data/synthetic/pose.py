"""How a synthetic person stands in front of a camera: a walking skeleton in 3-D, turned to a viewpoint and projected.

Lengths are in body heights. The person's axes are x to their left hand, y up, z forward, with the origin on the ground below
the hips; a camera sees them turned by `yaw`: 0 faces the camera, pi shows the back, +-pi/2 a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

VIEWPOINTS = {"front": 0.0, "right": math.pi / 2, "back": math.pi, "left": -math.pi / 2}
Vec = tuple[float, float, float]

HIP, SHOULDER, HEAD = 0.515, 0.8, 0.922
THIGH, SHIN, FOOT = 0.24, 0.235, 0.04
UPPER_ARM, FOREARM, HAND = 0.165, 0.14, 0.035
HIP_WIDTH, SHOULDER_WIDTH = 0.054, 0.107  # from the middle to one joint
LEFT, RIGHT = 1, -1


@dataclass(frozen=True, slots=True)
class Pose:
    """Angles of one moment of walking, in radians. `raised` is a side whose hand is at the ear (a telephone), or 0."""

    yaw: float
    phase: float
    stride: float
    swing: float
    spread: float
    lean: float
    pitch: float
    head_turn: float
    raised: int

    @staticmethod
    def draw(rng: np.random.Generator) -> Pose:
        u = rng.random(11).tolist()
        raised = 0 if u[9] > 0.1 else LEFT if u[10] < 0.5 else RIGHT
        return Pose(
            yaw=tuple(VIEWPOINTS.values())[int(4 * u[0])] + 0.7 * (u[1] - 0.5),
            phase=2 * math.pi * u[2],
            stride=0.06 + 0.34 * u[3],
            swing=0.5 + 0.5 * u[4],
            spread=0.06 + 0.11 * u[5],
            lean=-0.02 + 0.1 * u[6],
            pitch=0.02 + 0.2 * u[7],
            head_turn=0.8 * (u[8] - 0.5),
            raised=raised,
        )


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Joints in the person's axes; pairs are keyed by side, `LEFT` or `RIGHT`."""

    head: Vec
    neck: Vec
    waist: Vec
    shoulder: dict[int, Vec]
    elbow: dict[int, Vec]
    hand: dict[int, Vec]
    hip: dict[int, Vec]
    knee: dict[int, Vec]
    ankle: dict[int, Vec]
    toe: dict[int, Vec]


def skeleton(pose: Pose, girth: float = 1.0, still_arm: int = 0) -> Skeleton:
    """The joints of a pose. `girth` is how much wider than average the person is; the arm of side `still_arm` hangs down."""
    breadth = 0.3 + 0.7 * girth
    hip, knee, ankle, toe = {}, {}, {}, {}
    for side in (LEFT, RIGHT):
        phase = pose.phase if side == LEFT else pose.phase + math.pi
        thigh = pose.stride * math.sin(phase)
        # the knee bends while its leg swings forward and is nearly straight while the foot is on the ground
        shin = thigh - 0.06 - 1.5 * pose.stride * max(0.0, math.cos(phase))
        hip[side] = (side * breadth * HIP_WIDTH, 0.0, 0.0)
        knee[side] = (0.95 * hip[side][0], -THIGH * math.cos(thigh), THIGH * math.sin(thigh))
        ankle[side] = _step(knee[side], SHIN, shin)
        tip = 0.5 * min(0.0, shin)
        x, y, z = ankle[side]
        toe[side] = (x + side * 0.012, y - 0.022 + 0.085 * math.sin(tip), z + 0.085 * math.cos(tip))
    # the lower foot stands on the ground
    height = FOOT - min(ankle[LEFT][1], ankle[RIGHT][1])
    hip, knee, ankle, toe = ({k: (v[0], v[1] + height, v[2]) for k, v in d.items()} for d in (hip, knee, ankle, toe))

    def upper(x: float, y: float) -> Vec:
        return (x, height + y * math.cos(pose.lean), y * math.sin(pose.lean))

    shoulder, elbow, hand = {}, {}, {}
    for side in (LEFT, RIGHT):
        phase = pose.phase + (math.pi if side == LEFT else 0.0)
        arm = 0.15 * math.sin(phase) if side == still_arm else 1.1 * pose.stride * pose.swing * math.sin(phase)
        bend = 0.05 if side == still_arm else 0.2 + 0.5 * pose.stride * (1 + math.sin(phase))
        spread = pose.spread
        if side == pose.raised and side != still_arm:
            arm, bend, spread = 0.5, 2.3, 0.3
        shoulder[side] = upper(side * breadth * SHOULDER_WIDTH, 0.94 * (SHOULDER - HIP))
        elbow[side] = _step(shoulder[side], UPPER_ARM, arm, side * spread)
        hand[side] = _step(elbow[side], FOREARM, arm + bend, side * spread * 0.5)
    return Skeleton(
        head=upper(0.0, HEAD - HIP),
        neck=upper(0.0, SHOULDER + 0.035 - HIP),
        waist=upper(0.0, 0.0),
        shoulder=shoulder,
        elbow=elbow,
        hand=hand,
        hip=hip,
        knee=knee,
        ankle=ankle,
        toe=toe,
    )


def _step(start: Vec, length: float, forward: float, sideways: float = 0.0) -> Vec:
    """Where a bone that hangs down from `start` ends, swung forward and sideways."""
    down = length * math.cos(sideways)
    x, y, z = start
    return (x + length * math.sin(sideways), y - down * math.cos(forward), z + down * math.sin(forward))


@dataclass(frozen=True, slots=True)
class View:
    """Where a person is in the picture: pixels per body height, and the pixel of the ground point below the hips."""

    yaw: float
    pitch: float
    pixels: float
    ground: tuple[float, float]

    def depth(self, point: Vec) -> float:
        """Towards the camera is positive."""
        return point[2] * math.cos(self.yaw) - point[0] * math.sin(self.yaw)

    def __call__(self, point: Vec) -> tuple[float, float]:
        across = point[0] * math.cos(self.yaw) + point[2] * math.sin(self.yaw)
        # a camera above eye level sees what is nearer a little lower
        down = -point[1] + self.depth(point) * math.sin(self.pitch)
        return (self.ground[0] + self.pixels * across, self.ground[1] + self.pixels * down)

    def radius(self, width: float, depth: float) -> float:
        """Half the projected width, in pixels, of a body part of elliptic section."""
        return self.pixels * math.hypot(width * math.cos(self.yaw), depth * math.sin(self.yaw))
