"""Images to compare a network and its exported file on: people, noise, and the extremes that real cameras also produce.

A lens cap (black), glare (white), a wall (one color), a broken sensor (noise, saturated pixels): attention over equal
patches is where programs differ, if they do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aaformer_lit.data.images import read_image
from aaformer_lit.data.preparation import resize
from aaformer_lit.data.synthetic import SyntheticSpec
from aaformer_lit.data.synthetic.render import render
from aaformer_lit.errors import ConfigError

# original sizes as shares of the network's, where the graph resizes: smaller, equal, larger, and of another aspect; people
# far away, as detectors cut them, behind a post, and close by
_SIZES = {
    "black": (0.5, 0.5),
    "white": (3.0, 3.0),
    "constant": (1.0, 1.0),
    "saturated": (0.7, 1.3),
    "noise": (1.9, 2.3),
}
_PEOPLE = ((0.3, 0.25), (1.5, 1.5), (1.3, 0.6), (2.7, 1.9))


def probe_images(
    count: int, image_size: tuple[int, int], seed: int = 0, any_size: bool = False
) -> dict[str, list[Tensor]]:
    """`count` different images by kind: one black, one white, an eighth each of one color, saturated and noise; people.

    Args:
        count: 8 or more.
        image_size: (height, width) of the network.
        any_size: give each kind its own original size, for a graph that resizes.
    """
    if count < 8:
        raise ConfigError(f"a comparison needs 8 images or more, to hold all extremes; got check.images={count}.")
    rng = np.random.default_rng(seed)
    eighth = count // 8

    def scaled(scale: tuple[float, float]) -> tuple[int, int]:
        return round(image_size[0] * scale[0]), round(image_size[1] * scale[1])

    def shape(kind: str) -> tuple[int, int]:
        return scaled(_SIZES[kind] if any_size else (1.0, 1.0))

    def noise(kind: str) -> np.ndarray:
        return rng.integers(0, 256, (eighth, *shape(kind), 3), np.uint8)

    colors = rng.integers(0, 256, (eighth, 1, 1, 3), np.uint8)
    arrays: dict[str, Sequence[np.ndarray] | np.ndarray] = {
        "black": np.zeros((1, *shape("black"), 3), np.uint8),
        "white": np.full((1, *shape("white"), 3), 255, np.uint8),
        "constant": np.broadcast_to(colors, (eighth, *shape("constant"), 3)),
        "saturated": (noise("saturated") // 128 * 255).astype(np.uint8),
        "noise": noise("noise"),
        "people": list(_people(count - 2 - 3 * eighth, [*map(scaled, _PEOPLE if any_size else [(1.0, 1.0)])], seed)),
    }
    return {kind: [torch.from_numpy(np.array(image)) for image in images] for kind, images in arrays.items()}


def own_images(paths: Sequence[Path], image_size: tuple[int, int], any_size: bool = False) -> list[Tensor]:
    """Images from files, resized by the loader unless the graph resizes."""
    pixels = map(read_image, paths)
    return [torch.from_numpy(image if any_size else resize(image, image_size)) for image in pixels]


def _people(count: int, sizes: Sequence[tuple[int, int]], seed: int) -> Iterator[np.ndarray]:
    """Sizes take turns."""
    for i in range(count):
        size = sizes[i % len(sizes)]
        spec = SyntheticSpec(height=max(size[0], 32), width=max(size[1], 16), seed=seed)
        # four pictures of each person, so that ranking lists have something to rank
        image, _ = render(spec, i // 4 + 1, i % 4 + 1, 0)
        yield resize(image, size)
