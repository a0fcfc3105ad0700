"""Looks at every file of a data set: does it decode, and is a test image also a training image?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aaformer_lit.data.dataset import ReIDDataset
from aaformer_lit.data.images import complaints, decode, read_bytes, read_image
from aaformer_lit.data.person_images import in_threads
from aaformer_lit.errors import ImageError


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong with the files: messages about those that cannot be used, (train, test) pairs of equal content, and
    messages about JPEGs that decode to damaged pixels."""

    files: int
    unreadable: tuple[str, ...]
    leaks: tuple[tuple[Path, Path], ...]
    damaged: tuple[str, ...] = ()


def inspect(dataset: ReIDDataset, advance: Callable[[], None] = lambda: None) -> Findings:
    """Decode all images and compare their bytes between train and test; `advance` is called after each image."""
    train = {r.path for r in dataset.train}
    test = {r.path for r in [*dataset.query, *dataset.gallery]}
    paths = sorted(train | test)

    def look(path: Path) -> tuple[str | None, bytes]:
        try:
            data = read_bytes(path)
            decode(data, path)
        except ImageError as error:
            return str(error), b""
        return None, hashlib.blake2b(data, digest_size=16).digest()

    unreadable: list[str] = []
    trained_on: dict[bytes, Path] = {}
    tested: list[tuple[bytes, Path]] = []
    with complaints() as heard:
        for path, (problem, digest) in zip(paths, in_threads(look, paths), strict=True):
            advance()
            if problem is not None:
                unreadable.append(problem)
                continue
            if path in train:
                trained_on.setdefault(digest, path)
            if path in test:
                tested.append((digest, path))
    leaks = tuple((trained_on[digest], path) for digest, path in tested if digest in trained_on)
    return Findings(len(paths), tuple(unreadable), leaks, tuple(_damaged(paths)) if heard else ())


def _damaged(paths: Iterable[Path]) -> Iterator[str]:
    """Which of the files libjpeg complains about: its warnings name none, so they are decoded again, one at a time."""
    for path in paths:
        with complaints() as heard, suppress(ImageError):
            read_image(path)
        if heard:
            yield f"{path}: {heard[0]}"
