"""Looks at every file of a data set: does it decode, and which images are there twice?"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aaformer_lit.data.counts import is_match
from aaformer_lit.data.dataset import ReIDDataset
from aaformer_lit.data.images import complaints, decode, read_bytes, read_image
from aaformer_lit.errors import ImageError
from aaformer_lit.structures import Record
from aaformer_lit.utils.threads import in_threads


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong with the files.

    `unreadable`: messages about those that cannot be used; `leaks`: (train, test) pairs of equal content; `damaged`: messages
    about JPEGs that decode to wrong pixels; `echoes`: (query, gallery) pairs of equal content that count as hits; `copies`:
    (gallery, gallery) pairs of equal content.
    """

    files: int
    unreadable: tuple[str, ...]
    leaks: tuple[tuple[Path, Path], ...]
    damaged: tuple[str, ...] = ()
    echoes: tuple[tuple[Path, Path], ...] = ()
    copies: tuple[tuple[Path, Path], ...] = ()


def inspect(dataset: ReIDDataset, advance: Callable[[], None] = lambda: None) -> Findings:
    """Decode all images and compare their bytes between the splits; `advance` is called after each image."""
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
    digest_of: dict[Path, bytes] = {}
    with complaints() as heard:
        for path, (problem, digest) in zip(paths, in_threads(look, paths), strict=True):
            advance()
            if problem is None:
                digest_of[path] = digest
            else:
                unreadable.append(problem)
    trained_on = {digest_of[path]: path for path in reversed(paths) if path in train and path in digest_of}
    return Findings(
        len(paths),
        tuple(unreadable),
        leaks=tuple((trained_on[d], path) for path, d in digest_of.items() if path in test and d in trained_on),
        damaged=tuple(_damaged(paths)) if heard else (),
        echoes=_echoes(dataset, digest_of),
        copies=_copies(dataset, digest_of),
    )


def _echoes(dataset: ReIDDataset, digest_of: Mapping[Path, bytes]) -> tuple[tuple[Path, Path], ...]:
    """Gallery images that a query finds because they are the query, and that no rule hides from it."""
    by_digest: dict[bytes, list[Record]] = defaultdict(list)
    for r in dataset.gallery:
        if r.path in digest_of:
            by_digest[digest_of[r.path]].append(r)
    return tuple(
        (q.path, r.path)
        for q in dataset.query
        if q.path in digest_of
        for r in by_digest[digest_of[q.path]]
        if q.pid == r.pid and is_match(q, r)
    )


def _copies(dataset: ReIDDataset, digest_of: Mapping[Path, bytes]) -> tuple[tuple[Path, Path], ...]:
    first: dict[bytes, Path] = {}
    paths = [r.path for r in dataset.gallery if r.path in digest_of]
    return tuple((earlier, path) for path in paths if (earlier := first.setdefault(digest_of[path], path)) != path)


def _damaged(paths: Iterable[Path]) -> Iterator[str]:
    """Which of the files libjpeg complains about: its warnings name none, so they are decoded again, one at a time."""
    for path in paths:
        with complaints() as heard, suppress(ImageError):
            read_image(path)
        if heard:
            yield f"{path}: {heard[0]}"
