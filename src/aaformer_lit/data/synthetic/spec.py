"""What a synthetic data set is made from: one frozen value that decides every pixel, and the one place where difficulty acts.

Two specs that are equal draw the same bytes; the short hash of a spec names the folder that holds its pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from aaformer_lit.errors import ConfigError

Split = Literal["train", "query", "gallery"]

# Part of the hash: raise it when the same spec starts to draw other pixels, so that stale folders are not reused.
DRAWING_VERSION = 1


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture to be taken: whose, by which camera, and the how-manieth of this person and camera."""

    split: Split
    pid: int
    camid: int
    index: int


@dataclass(frozen=True, slots=True)
class SyntheticSpec:
    """Size, difficulty and seed of a synthetic data set.

    `siblings` identities make a family: they look the same but for one small clue. `occlusion` and `misalignment` are the
    probabilities that an image has an occluder, or a badly placed crop. `difficulty` in [0, 1] moves everything else at
    once: how strongly cameras distort (color cast, gamma, blur, noise), how many families dress in the same dark colors,
    and how alike the colors of a clue are. `box_width` is how wide a crop is cut out before it is stretched to `width`, as a
    share of that: detectors' boxes are narrower than the pictures that networks are given, and show less background.
    """

    num_train_ids: int = 200
    num_test_ids: int = 100
    num_cameras: int = 6
    images_per_camera: int = 4
    height: int = 128
    width: int = 64
    siblings: int = 2
    difficulty: float = 0.5
    occlusion: float = 0.2
    misalignment: float = 0.3
    box_width: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        at_least = {"num_train_ids": 1, "num_test_ids": 1, "num_cameras": 1, "images_per_camera": 1, "seed": 0}
        at_least |= {"height": 32, "width": 16}
        for name, low in at_least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"synthetic data needs {name} >= {low}; got {getattr(self, name)}.")
        if not 1 <= self.siblings <= 4:
            raise ConfigError(
                f"a family of synthetic people has 1 to 4 siblings, as the smallest clue has 4 values; got {self.siblings}."
            )
        for name in ("difficulty", "occlusion", "misalignment"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"synthetic {name} is a number from 0 to 1; got {getattr(self, name)}.")
        for name in ("difficulty", "occlusion", "misalignment", "box_width"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 1 and 1.0 draw the same: they have one hash
        if not 0.5 <= self.box_width <= 1.0:
            raise ConfigError(f"synthetic box_width is a share of the width from 0.5 to 1; got {self.box_width}.")

    @property
    def short_hash(self) -> str:
        text = json.dumps({"version": DRAWING_VERSION, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def train_pids(self) -> range:
        return range(1, self.num_train_ids + 1)

    @property
    def test_pids(self) -> range:
        # test identities begin with a new family: a sibling of a training identity would leak all but its clue
        first = -(-self.num_train_ids // self.siblings) * self.siblings + 1
        return range(first, first + self.num_test_ids)

    @property
    def camids(self) -> range:
        return range(1, self.num_cameras + 1)

    def shots(self) -> Iterator[Shot]:
        """Every picture of the data set in a fixed order; of a test identity, each camera's first shot is a query."""
        for pids, test in ((self.train_pids, False), (self.test_pids, True)):
            for pid in pids:
                for camid in self.camids:
                    for index in range(self.images_per_camera):
                        split: Split = "train" if not test else "query" if index == 0 else "gallery"
                        yield Shot(split, pid, camid, index)

    def rng(self, *key: int) -> np.random.Generator:
        """A generator that depends on the seed and `key` alone, never on what was drawn before."""
        return np.random.default_rng((self.seed, *key))
