"""Legs, torso and arms of a synthetic person as shaded shapes on the skeleton, in the clothes of their identity."""

from __future__ import annotations

import math

from aaformer_lit.data.synthetic.canvas import BASE, LIGHT, SHADE, Part
from aaformer_lit.data.synthetic.clothes import apply_pattern
from aaformer_lit.data.synthetic.figure import Figure, Layer
from aaformer_lit.data.synthetic.pose import HAND, LEFT, RIGHT

# rows of (height above the hips as a share of the torso, half width, half depth in body heights)
_BODY = ((0.1, 0.095, 0.086), (0.42, 0.085, 0.076), (0.75, 0.104, 0.086), (0.9, 0.11, 0.07))
_SHOULDERS = ((1.0, 0.086, 0.056), (1.09, 0.048, 0.04))
_SHIRT_HEM = ((-0.1, 0.097, 0.086),)
_COAT_HEM = ((-0.75, 0.116, 0.122), (-0.35, 0.108, 0.104))
# radii at hip, knee and ankle
_LEGS = {"trousers": (0.066, 0.05, 0.043), "slim trousers": (0.06, 0.04, 0.029)}
_BARE_LEGS = (0.056, 0.037, 0.024)
_SLEEVES = {"tshirt": 0.038, "shirt": 0.034, "jacket": 0.041, "coat": 0.042}
_INNER_SHIRT = (214, 212, 206)
# how far down an open front reaches, in shares of the torso
_OPEN_FRONT = {"jacket": 0.05, "coat": 0.55}


def leg_layers(figure: Figure) -> list[Layer]:
    """Shoes and legs, and a skirt over them."""
    who, view, bones = figure.who, figure.view, figure.bones
    cloth = figure.material(who.lower_color, Part.LEGS)
    skin = figure.material(who.skin, Part.LEGS)
    shoe = figure.material(who.shoes_color, Part.SHOES)
    girth = (0.5 + 0.5 * figure.girth) * view.pixels  # legs vary less than the trunk
    in_front = LEFT if view.depth(bones.knee[LEFT]) > view.depth(bones.knee[RIGHT]) else RIGHT

    def leg(side: int) -> None:
        far = side != in_front and figure.sideways
        hip, knee, ankle = view(bones.hip[side]), view(bones.knee[side]), view(bones.ankle[side])
        thigh, calf, shin = (girth * radius for radius in _LEGS.get(who.lower, _BARE_LEGS))
        material = cloth if who.lower in _LEGS else skin
        _shoe(figure, side, shoe, far)
        if who.lower in _LEGS:
            # the hem leaves the shoe free, which is all that shows of it from behind
            ankle = (knee[0] + 0.86 * (ankle[0] - knee[0]), knee[1] + 0.86 * (ankle[1] - knee[1]))
        figure.canvas.limb(knee, ankle, calf, shin, material, figure.light, far)
        figure.canvas.limb(hip, knee, thigh, calf * 1.02, material, figure.light, far)
        if who.lower == "shorts":
            end = (hip[0] + 0.9 * (knee[0] - hip[0]), hip[1] + 0.9 * (knee[1] - hip[1]))
            figure.canvas.limb(hip, end, 0.067 * girth, 0.056 * girth, cloth, figure.light, far)

    layers: list[Layer] = [(-1.0, lambda: leg(in_front)), (-1.1, lambda: leg(-in_front))]
    if who.lower == "skirt":
        layers.append((-0.5, lambda: _skirt(figure, cloth)))
    return layers


def torso_layers(figure: Figure) -> list[Layer]:
    """The upper garment without its sleeves."""
    who, view = figure.who, figure.view
    cloth = figure.material(who.upper_color, Part.TORSO)
    pattern = figure.material(who.pattern_color, Part.TORSO)
    inner = figure.material(_INNER_SHIRT, Part.TORSO)
    open_to = _OPEN_FRONT.get(who.upper)
    girth = figure.girth * (1.0 if open_to is None else 1.08)
    hem = _COAT_HEM if who.upper == "coat" else _SHIRT_HEM

    def torso() -> None:
        rows = []
        for t, width, depth in (*hem, *_BODY, *_SHOULDERS):
            x, y = figure.torso_point(0, t, 0)
            half = view.radius(width * girth, depth * girth)
            rows.append((y, x - half, x + half))
        _volume(figure, rows, cloth)
        if open_to is not None and figure.facing > 0.25:
            wedge = ((0.034, 1.05), (0.02, open_to), (-0.02, open_to), (-0.034, 1.05))
            figure.canvas.polygon([figure.torso_point(x, t, 0.075) for x, t in wedge], inner + BASE)
        apply_pattern(figure, cloth, pattern, sleeve=False)

    return [(0.0, torso)]


def arm_layers(figure: Figure) -> list[Layer]:
    """Arms with sleeves and hands."""
    who, view, bones = figure.who, figure.view, figure.bones
    cloth = figure.material(who.upper_color, Part.ARMS)
    pattern = figure.material(who.pattern_color, Part.ARMS)
    skin = figure.material(who.skin, Part.ARMS)
    pixels = view.pixels
    sleeve = _SLEEVES[who.upper] * (0.5 + 0.5 * figure.girth) * pixels

    def arm(side: int) -> None:
        far = figure.sideways and not figure.near(bones.elbow[side])
        shoulder, elbow, hand = view(bones.shoulder[side]), view(bones.elbow[side]), view(bones.hand[side])
        reach = (hand[0] - elbow[0], hand[1] - elbow[1])
        length = math.hypot(*reach) or 1.0
        tip = (hand[0] + HAND * pixels * reach[0] / length, hand[1] + HAND * pixels * reach[1] / length)
        figure.canvas.limb(hand, tip, 0.021 * pixels, 0.017 * pixels, skin, figure.light, far)
        if who.upper == "tshirt":
            figure.canvas.limb(elbow, hand, 0.027 * pixels, 0.02 * pixels, skin, figure.light, far)
            figure.canvas.limb(shoulder, elbow, 0.031 * pixels, 0.027 * pixels, skin, figure.light, far)
            cuff = (shoulder[0] + 0.62 * (elbow[0] - shoulder[0]), shoulder[1] + 0.62 * (elbow[1] - shoulder[1]))
            figure.canvas.limb(shoulder, cuff, sleeve, sleeve, cloth, figure.light, far)
        else:
            figure.canvas.limb(elbow, hand, sleeve * 0.88, sleeve * 0.72, cloth, figure.light, far)
            figure.canvas.limb(shoulder, elbow, sleeve * 0.96, sleeve * 0.9, cloth, figure.light, far)
        apply_pattern(figure, cloth, pattern, sleeve=True)

    return [(figure.arm_order(LEFT), lambda: arm(LEFT)), (figure.arm_order(RIGHT), lambda: arm(RIGHT))]


def _shoe(figure: Figure, side: int, material: int, far: bool) -> None:
    pixels = figure.view.pixels
    ankle, toe = figure.view(figure.bones.ankle[side]), figure.view(figure.bones.toe[side])
    heel = (ankle[0], ankle[1] + 0.014 * pixels)
    darker = material - 1 if far else material
    rise = 0.008 * pixels  # the sole stays in the shade
    figure.canvas.capsule(heel, toe, 0.03 * pixels, 0.024 * pixels, darker + SHADE)
    upper = (heel[0], heel[1] - rise), (toe[0], toe[1] - rise)
    figure.canvas.capsule(*upper, 0.025 * pixels, 0.018 * pixels, darker + BASE)


def _skirt(figure: Figure, cloth: int) -> None:
    view, girth = figure.view, figure.girth
    knees = [view(figure.bones.knee[side]) for side in (LEFT, RIGHT)]
    x, top = figure.torso_point(0, 0.12, 0)
    hem = 0.25 * (knees[0][1] + knees[1][1]) + 0.5 * max(knees[0][1], knees[1][1]) - 0.02 * view.pixels
    waist, hips = view.radius(0.088 * girth, 0.08 * girth), view.radius(0.1 * girth, 0.09 * girth)
    flare, margin = view.radius(0.118 * girth, 0.1 * girth), 0.03 * view.pixels
    # a long step stretches it
    left, right = min(x - flare, *(k[0] - margin for k in knees)), max(x + flare, *(k[0] + margin for k in knees))
    _volume(
        figure, [(top, x - waist, x + waist), (0.4 * hem + 0.6 * top, x - hips, x + hips), (hem, left, right)], cloth
    )


def _volume(figure: Figure, rows: list[tuple[float, float, float]], material: int) -> None:
    """A shaded body of rows (y, left, right), lit from one side."""
    for width, tone in ((1.0, SHADE), (0.78, BASE), (0.26, LIGHT)):
        left_edge, right_edge = [], []
        for y, left, right in rows:
            half = (right - left) / 2
            middle = left + half + figure.light * (1 - width) * 0.45 * half
            left_edge.append((middle - width * half, y))
            right_edge.append((middle + width * half, y))
        figure.canvas.polygon([*left_edge, *reversed(right_edge)], material + tone)
