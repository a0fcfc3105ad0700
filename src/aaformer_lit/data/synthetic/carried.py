"""What synthetic people carry: backpack, handbag, shoulder bag or suitcase, placed in 3-D so that the view decides what shows.

A backpack fills the back and leaves two straps in front; bags hang at one side and are hidden by the body from the other.
"""

from __future__ import annotations

from aaformer_lit.data.synthetic.canvas import BASE, LIGHT, SHADE, Part, Point
from aaformer_lit.data.synthetic.figure import Figure, Layer
from aaformer_lit.data.synthetic.pose import Vec


def carried_layers(figure: Figure) -> list[Layer]:
    """The layers of the carried object, none for "none"."""
    if figure.who.carried == "none":
        return []
    draw = {
        "backpack": _backpack,
        "handbag": _handbag,
        "shoulder bag": _shoulder_bag,
        "suitcase": _suitcase,
    }[figure.who.carried]
    return draw(figure, figure.material(figure.who.carried_color, Part.CARRIED))


def _box(figure: Figure, center: Point, half_width: float, half_height: float, material: int, top: float = 1.0) -> None:
    """A shaded box with cut corners; `top` scales the width of its upper edge."""
    x, y = center
    for width, tone in ((1.0, SHADE), (0.8, BASE), (0.3, LIGHT)):
        middle = x + figure.light * (1 - width) * 0.4 * half_width
        high = half_height * (0.9 + 0.1 * width)
        w, cut = half_width * width, 0.3 * min(half_width * width, high)
        outline = [
            (middle - w * top + cut, y - high),
            (middle + w * top - cut, y - high),
            (middle + w * top, y - high + cut),
            (middle + w, y + high - cut),
            (middle + w - cut, y + high),
            (middle - w + cut, y + high),
            (middle - w, y + high - cut),
            (middle - w * top, y - high + cut),
        ]
        figure.canvas.polygon(outline, material + tone)


def _backpack(figure: Figure, bag: int) -> list[Layer]:
    view, pixels = figure.view, figure.view.pixels
    from_behind = figure.facing < -0.1

    def pack() -> None:
        x, y = figure.torso_point(0, 0.56, -0.115)
        half_width = view.radius(0.088, 0.055)
        _box(figure, (x, y), half_width, 0.118 * pixels, bag)
        low, out = y + 0.055 * pixels, 0.6 * half_width
        figure.canvas.capsule((x - out, low), (x + out, low), 0.012 * pixels, 0.012 * pixels, bag + SHADE)

    def straps() -> None:
        for x in (-0.066, 0.066):
            high, low = figure.torso_point(x, 1.02, 0.03), figure.torso_point(x * 1.12, 0.5, 0.07)
            figure.canvas.capsule(high, low, 0.013 * pixels, 0.011 * pixels, bag + SHADE)

    layers: list[Layer] = [(0.4 if from_behind else -1.8, pack)]
    if not from_behind:
        layers.append((0.05, straps))
    return layers


def _handbag(figure: Figure, bag: int) -> list[Layer]:
    view, pixels = figure.view, figure.view.pixels
    hand = figure.bones.hand[figure.who.carried_side]

    def paint() -> None:
        x, y = view(hand)
        center = (x, y + 0.125 * pixels)
        half_width = view.radius(0.034, 0.078)
        for end in (-0.6, 0.6):
            grip = (x + end * half_width, center[1] - 0.055 * pixels)
            figure.canvas.capsule((x, y + 0.02 * pixels), grip, 0.008 * pixels, 0.008 * pixels, bag + SHADE)
        _box(figure, center, half_width, 0.062 * pixels, bag, top=0.8)

    return [(figure.arm_order(figure.who.carried_side) - 0.01, paint)]


def _shoulder_bag(figure: Figure, bag: int) -> list[Layer]:
    view, pixels, side = figure.view, figure.view.pixels, figure.who.carried_side
    place: Vec = (side * 0.125, figure.bones.waist[1] + 0.005, -0.01)
    strap_end = figure.torso_point(side * 0.1, 0.08, 0.05 if figure.facing > 0 else -0.05)

    def pouch() -> None:
        center = view(place)
        half_width = view.radius(0.04, 0.085)
        _box(figure, center, half_width, 0.06 * pixels, bag)
        flap = (center[0], center[1] - 0.028 * pixels)
        _box(figure, flap, 0.9 * half_width, 0.026 * pixels, bag - 1)

    def strap() -> None:
        start = figure.torso_point(-side * 0.065, 1.03, 0.0)
        figure.canvas.capsule(start, strap_end, 0.012 * pixels, 0.012 * pixels, bag + SHADE)

    return [(0.2 if view.depth(place) > -0.06 else -1.7, pouch), (0.05, strap)]


def _suitcase(figure: Figure, bag: int) -> list[Layer]:
    view, pixels, side = figure.view, figure.view.pixels, figure.who.carried_side
    hand = figure.bones.hand[side]
    place: Vec = (side * 0.17, 0.145, -0.15)

    def paint() -> None:
        center = view(place)
        half_width = view.radius(0.085, 0.055)
        grip = view(hand)
        for edge in (-0.5, 0.5):
            corner = (center[0] + edge * half_width, center[1] - 0.1 * pixels)
            figure.canvas.capsule(corner, grip, 0.007 * pixels, 0.007 * pixels, bag + SHADE)
        _box(figure, center, half_width, 0.12 * pixels, bag)
        for groove in (-0.4, 0.1):
            x = center[0] + groove * half_width
            ends = (x, center[1] - 0.085 * pixels), (x, center[1] + 0.085 * pixels)
            figure.canvas.capsule(*ends, 0.006 * pixels, 0.006 * pixels, bag + SHADE)
        for wheel in (-0.7, 0.7):
            spot = (center[0] + wheel * half_width, center[1] + 0.125 * pixels)
            figure.canvas.ellipse(spot, (0.014 * pixels, 0.014 * pixels), bag)

    return [(0.7 if view.depth(place) > 0.02 else -2.0, paint)]
