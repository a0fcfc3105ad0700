"""The head of a synthetic person: a ball whose every pixel is skin, hair or an eye by the direction it faces.

Working with directions makes all viewpoints one formula: from behind only hair is left, from a side half of the face.
"""

from __future__ import annotations

import math

import numpy as np

from aaformer_lit.data.synthetic.canvas import BASE, DEEP, LIGHT, SHADE, Part
from aaformer_lit.data.synthetic.figure import Figure, Layer
from aaformer_lit.data.synthetic.pose import Vec

WIDTH, DEPTH, HEIGHT = 0.055, 0.066, 0.077  # half sizes in body heights


def head_layers(figure: Figure) -> list[Layer]:
    """Neck and head, and what falls down behind it."""
    who, view, bones = figure.who, figure.view, figure.bones
    skin = figure.material(who.skin, Part.HEAD)
    hair = figure.material(who.hair_color, Part.HAIR)
    pixels = view.pixels
    from_behind = figure.facing < 0

    def neck() -> None:
        figure.canvas.capsule(view(bones.neck), view(bones.head), 0.031 * pixels, 0.03 * pixels, skin + SHADE)

    def mane() -> None:
        x, y, z = bones.head
        top, end = view((x, y, z - 0.02)), view((x, y - 0.15, z - 0.055))
        figure.canvas.capsule(top, end, 0.058 * pixels, 0.05 * pixels, hair + SHADE)
        figure.canvas.capsule(top, end, 0.036 * pixels, 0.03 * pixels, hair + BASE)

    def knot() -> None:
        x, y, z = bones.head
        place = view((x, y + 0.045, z - 0.062))
        figure.canvas.ellipse(place, (0.032 * pixels, 0.03 * pixels), hair + SHADE)
        figure.canvas.ellipse(place, (0.02 * pixels, 0.018 * pixels), hair + BASE)

    layers: list[Layer] = [(0.45, neck), (0.5, lambda: _ball(figure, bones.head, skin, hair))]
    if who.hair_style == "long":
        layers.append((0.55 if from_behind else -0.1, mane))
    if who.hair_style == "bun":
        layers.append((0.55 if from_behind else 0.47, knot))
    if who.hair_style == "cap":
        layers.append((0.52, lambda: _brim(figure, bones.head, hair)))
    return layers


def _brim(figure: Figure, center: Vec, cap: int) -> None:
    facing = figure.pose.yaw + figure.pose.head_turn
    if math.cos(facing) < -0.3:
        return
    x, y, z = center
    turn = figure.pose.head_turn
    place = figure.view((x + 0.055 * math.sin(turn), y + 0.02, z + 0.055 * math.cos(turn)))
    width = math.hypot(0.045 * math.cos(facing), 0.035 * math.sin(facing))
    figure.canvas.ellipse(place, (width * figure.view.pixels, 0.011 * figure.view.pixels), cap + DEEP)


def _ball(figure: Figure, center: Vec, skin: int, hair: int) -> None:
    canvas, view, style = figure.canvas, figure.view, figure.who.hair_style
    facing = figure.pose.yaw + figure.pose.head_turn
    x, y = (canvas.scale * value for value in view(center))
    radius_x = canvas.scale * view.pixels * math.hypot(WIDTH * math.cos(facing), DEPTH * math.sin(facing))
    radius_y = canvas.scale * view.pixels * HEIGHT
    top, left = max(0, int(y - radius_y)), max(0, int(x - radius_x))
    region = canvas.indices[top : max(0, int(y + radius_y + 2)), left : max(0, int(x + radius_x + 2))]
    if region.size == 0:
        return
    across = ((np.arange(region.shape[1], dtype=np.float32) + (left - x)) / radius_x)[None, :]
    up = (-(np.arange(region.shape[0], dtype=np.float32) + (top - y)) / radius_y)[:, None]
    # the jaw is narrower than the skull
    across = across * (1 + 0.22 * np.clip(-up, 0, 1))
    off_axis = across**2 + up**2
    toward = np.sqrt(np.clip(1 - off_axis, 0, 1))
    front = across * math.sin(facing) + toward * math.cos(facing)
    beside = across * math.cos(facing) - toward * math.sin(facing)

    lit = across * figure.light * 0.7 + up * 0.5 + toward * 0.3
    tone = np.where(lit > 0.62, LIGHT, np.where(lit > -0.12, BASE, SHADE)).astype(np.uint8)
    index = (tone + skin).astype(np.uint8)
    eyes = (np.abs(up - 0.08) < 0.09) & (np.abs(np.abs(beside) - 0.4) < 0.16) & (front > 0.45)
    mouth = (np.abs(up + 0.5) < 0.06) & (np.abs(beside) < 0.26) & (front > 0.6)
    index[eyes] = skin + DEEP
    index[mouth] = skin + SHADE
    if style == "cap":
        hairy = up + 0.12 * front > 0.3
    elif style == "bald":
        hairy = np.zeros_like(eyes)
    else:
        hairline = 0.8 * up - 0.75 * front > -0.08
        hairy = hairline | ((front < 0.12) & (style == "long"))
    index = np.where(hairy, tone + np.uint8(hair), index)
    region[:] = np.where(off_axis <= 1, index, region)
