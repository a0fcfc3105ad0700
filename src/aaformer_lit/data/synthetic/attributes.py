"""Who the synthetic people are: identities as sets of attributes, in families of siblings that differ in one small clue.

A family shares every attribute but one (its clue), so two siblings can be told apart by local evidence only: the shoes, the
bag, the print on the chest. The global look of an image finds the family, never the identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import numpy as np

from aaformer_lit.data.synthetic.spec import SyntheticSpec

RGB = tuple[int, int, int]

GARMENTS: dict[str, RGB] = {
    "black": (38, 37, 41),
    "charcoal": (72, 72, 77),
    "navy": (38, 48, 88),
    "gray": (128, 129, 131),
    "white": (226, 226, 222),
    "brown": (104, 74, 52),
    "beige": (196, 177, 144),
    "denim": (78, 104, 148),
    "sky": (132, 178, 218),
    "olive": (98, 104, 60),
    "green": (48, 128, 74),
    "red": (188, 44, 44),
    "maroon": (110, 34, 46),
    "pink": (222, 142, 166),
    "orange": (222, 124, 44),
    "yellow": (224, 200, 76),
    "purple": (108, 68, 144),
    "teal": (36, 130, 136),
}
# What people in a street wear, roughly: the harder the data set, the nearer families come to this.
STREET_WEIGHTS = (9, 5, 5, 4, 4, 2, 2, 4, 1, 1, 0.6, 1, 0.6, 0.6, 0.3, 0.3, 0.3, 0.3)
HAIR: tuple[RGB, ...] = ((30, 26, 26), (62, 44, 34), (108, 74, 46), (186, 150, 96), (134, 132, 130), (132, 62, 34))
SKIN: tuple[RGB, ...] = ((230, 192, 166), (216, 174, 144), (198, 150, 116), (148, 104, 76), (98, 68, 52))

BUILDS = ("slim", "average", "broad")
UPPERS = ("tshirt", "shirt", "jacket", "coat")
LOWERS = ("trousers", "slim trousers", "shorts", "skirt")
PATTERNS = ("plain", "stripes", "checks", "print", "yoke")
HAIR_STYLES = ("short", "long", "bun", "cap", "bald")
CARRIED = ("none", "backpack", "handbag", "shoulder bag", "suitcase")


@dataclass(frozen=True, slots=True)
class Identity:
    """All that stays the same when one person is seen again. Colors are RGB."""

    build: str
    skin: RGB
    hair_style: str
    hair_color: RGB
    upper: str
    upper_color: RGB
    pattern: str
    pattern_color: RGB
    lower: str
    lower_color: RGB
    shoes_color: RGB
    carried: str
    carried_color: RGB
    carried_side: int  # 1 left, -1 right


# The clue of a family, and how often: colors that show from every side, and a few that only some viewpoints reveal.
CLUES = {
    "shoes_color": 0.25,
    "carried_color": 0.25,
    "carried": 0.15,
    "pattern": 0.15,
    "pattern_color": 0.1,
    "hair_style": 0.1,
}


def color_distance(a: RGB, b: RGB) -> float:
    """Perceived difference of two RGB colors (the "redmean" weighting of the Euclidean distance), 0 to about 765."""
    mean_red = (a[0] + b[0]) / 2
    red, green, blue = (x - y for x, y in zip(a, b, strict=True))
    return float(((2 + mean_red / 256) * red**2 + 4 * green**2 + (2 + (255 - mean_red) / 256) * blue**2) ** 0.5)


def family_of(spec: SyntheticSpec, pid: int) -> int:
    """Families are runs of `spec.siblings` pids, counted from pid 1."""
    return (pid - 1) // spec.siblings


def identity(spec: SyntheticSpec, pid: int) -> Identity:
    """The person with this pid: the same for every size of data set with this seed, siblings and difficulty."""
    return _family(spec.seed, spec.siblings, spec.difficulty, family_of(spec, pid))[(pid - 1) % spec.siblings]


@lru_cache(maxsize=8192)
def _family(seed: int, siblings: int, difficulty: float, family: int) -> tuple[Identity, ...]:
    rng = np.random.default_rng((seed, 1, family))
    wardrobe = list(GARMENTS.values())
    street = np.array(STREET_WEIGHTS) / sum(STREET_WEIGHTS)
    weights = difficulty * street + (1 - difficulty) / len(wardrobe)

    def pick(values: tuple[Any, ...], p: tuple[float, ...] | None = None) -> Any:
        return values[rng.choice(len(values), p=p)]

    def garment() -> RGB:
        return _jitter(wardrobe[rng.choice(len(wardrobe), p=weights)], rng)

    upper_color = garment()
    base = Identity(
        build=pick(BUILDS, (0.3, 0.45, 0.25)),
        skin=pick(SKIN),
        hair_style=pick(HAIR_STYLES, (0.45, 0.27, 0.12, 0.1, 0.06)),
        hair_color=_jitter(pick(HAIR), rng),
        upper=pick(UPPERS, (0.4, 0.25, 0.2, 0.15)),
        upper_color=upper_color,
        pattern=pick(PATTERNS, (0.48, 0.16, 0.1, 0.16, 0.1)),
        pattern_color=_distinct(rng, 1, 150.0, start=(upper_color,))[0],
        lower=pick(LOWERS, (0.4, 0.25, 0.18, 0.17)),
        lower_color=garment(),
        shoes_color=garment(),
        carried=pick(CARRIED, (0.45, 0.2, 0.13, 0.14, 0.08)),
        carried_color=garment(),
        carried_side=int(rng.choice((1, -1))),
    )
    # a bag that matches the coat would be no more than a bump
    while color_distance(base.carried_color, base.upper_color) < 120:
        base = replace(base, carried_color=garment())
    clue = str(pick(tuple(CLUES), tuple(CLUES.values())))
    # a color can only be a clue on something that is there
    if clue == "carried_color" and base.carried == "none":
        base = replace(base, carried=pick(CARRIED[1:], (0.4, 0.2, 0.25, 0.15)))
    if clue == "pattern_color" and base.pattern == "plain":
        base = replace(base, pattern=pick(PATTERNS[1:]))

    values: list[Any]
    if clue.endswith("_color"):
        start = () if clue == "shoes_color" else (base.upper_color,)
        values = _distinct(rng, siblings, 330.0 - 180.0 * difficulty, start)
    else:
        options = {"carried": CARRIED, "pattern": PATTERNS, "hair_style": HAIR_STYLES}[clue]
        values = [options[i] for i in rng.permutation(len(options))[:siblings]]
    return tuple(replace(base, **cast(dict[str, Any], {clue: value})) for value in values)


def _jitter(color: RGB, rng: np.random.Generator) -> RGB:
    """Two families in "navy" do not wear the very same navy."""
    red, green, blue = (min(240, max(16, c + d)) for c, d in zip(color, rng.integers(-9, 10, 3).tolist(), strict=True))
    return red, green, blue


def _distinct(rng: np.random.Generator, count: int, distance: float, start: tuple[RGB, ...]) -> list[RGB]:
    """`count` garment colors, at least `distance` apart and from `start`; the distance gives way where they cannot be."""
    wardrobe = [_jitter(color, rng) for color in GARMENTS.values()]
    order = rng.permutation(len(wardrobe))
    while True:
        chosen: list[RGB] = []
        for i in order:
            if all(color_distance(wardrobe[i], other) >= distance for other in (*start, *chosen)):
                chosen.append(wardrobe[i])
            if len(chosen) == count:
                return chosen
        distance *= 0.8
