"""Bring a gallery up to date with the images there are: only what is new or has changed goes through the network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from aaformer_lit.errors import GalleryError, ImageError
from aaformer_lit.gallery.digests import digest
from aaformer_lit.gallery.extractor import Extractor, Progress
from aaformer_lit.gallery.sources import Crop
from aaformer_lit.gallery.store import Gallery
from aaformer_lit.utils.sequences import tiles
from aaformer_lit.utils.text import plural, some
from aaformer_lit.utils.threads import in_threads

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Changes:
    """How many images an update has added, extracted again because their file changed, given other labels, left as they
    were, passed over because they had been removed for good, or could not read."""

    added: int = 0
    changed: int = 0
    relabeled: int = 0
    unchanged: int = 0
    removed_before: int = 0
    unreadable: int = 0


def create_for(extractor: Extractor, folder: str | Path, root: str | Path, dtype: str = "float32") -> Gallery:
    """A new gallery for this extractor's features. Raises as `Gallery.create`."""
    return Gallery.create(
        folder,
        fingerprint=extractor.fingerprint,
        layout=extractor.layout,
        root=root,
        dtype=dtype,
        network=type(extractor.network).__name__,
        ckpt=None if extractor.ckpt is None else str(extractor.ckpt),
        flip_test=extractor.flip_test,
    )


def check_same_model(gallery: Gallery, extractor: Extractor) -> None:
    """Raises `GalleryError` unless this extractor's features compare with the gallery's."""
    theirs = gallery.about
    if theirs["fingerprint"] != extractor.fingerprint:
        raise GalleryError(
            f"{gallery.folder} was made by another model: {theirs.get('network')} with descriptors of {gallery.layout}, "
            f"fingerprint {theirs['fingerprint']} ({theirs.get('ckpt')}). This one, {type(extractor.network).__name__} "
            f"with {extractor.layout}, has {extractor.fingerprint} ({extractor.ckpt}). Use that checkpoint, or a new folder."
        )
    if theirs.get("flip_test", False) != extractor.flip_test:
        raise GalleryError(
            f"{gallery.folder} was extracted with flip_test={str(theirs.get('flip_test')).lower()}, which cannot be mixed "
            f"with flip_test={str(extractor.flip_test).lower()}. Use the gallery's, or a new folder."
        )


def update(
    gallery: Gallery,
    extractor: Extractor,
    crops: Sequence[Crop],
    *,
    skip_bad_images: bool = False,
    progress: Progress | None = None,
    portion: int = 100_000,
) -> tuple[Gallery, Changes]:
    """The gallery with these images in it; what it held before stays in it.

    An image is known by its path and box, and is extracted again if its file's content has changed.

    Args:
        skip_bad_images: leave out, and name, images that cannot be read; else the first one is an error.
        portion: images that are written at once. What an interruption costs is the portion it falls in; a portion costs
            writing the gallery anew.

    Raises:
        ImageError: an image that cannot be read; the gallery is as before its portion.
        GalleryError: the gallery was made by another model, or is being changed by another process.
    """
    check_same_model(gallery, extractor)
    wanted = {gallery.key(crop): crop for crop in crops}
    digests = _digests(list(wanted.values()))
    there = gallery.keys()
    table = gallery.table
    new, changed, relabeled = [], [], []
    removed = {key for key, crop in wanted.items() if gallery.was_removed(crop, digests.get(str(crop.path), ""))}
    for key, crop in wanted.items():
        if key in removed:
            continue
        if key not in there:
            new.append(crop)
            continue
        pid, camid = table["pid"].iat[there[key]], table["camid"].iat[there[key]]
        # to say nothing of a person is not to say that nobody knows
        crop = replace(crop, pid=crop.pid or pid, camid=crop.camid or camid)
        if table["hash"].iat[there[key]] != digests.get(str(crop.path)):
            changed.append(crop)
        elif (pid, camid) != (crop.pid, crop.camid):
            relabeled.append(crop)
    todo, added, stored = new + changed, 0, 0
    bad: list[ImageError] = []
    for part in tiles(len(todo), portion):
        tell = None if progress is None else partial(_from, progress, part.start, len(todo))
        descriptors, problems = extractor.try_features(todo[part], tell, stop=not skip_bad_images)
        bad += list(problems.values())
        if bad and not skip_bad_images:
            raise bad[0]
        good = [number for number in range(len(descriptors)) if number not in problems]
        if good:
            chosen = [todo[part][number] for number in good]
            gallery = gallery.add(chosen, descriptors[good], [digests[str(crop.path)] for crop in chosen])
        added += sum(part.start + number < len(new) for number in good)
        stored += len(good)
    if bad:
        log.warning("left out: %s: %s", plural(len(bad), "image"), some(map(str, bad), 3))
    if relabeled:
        gallery = gallery.relabel(relabeled)
    unchanged = len(wanted) - len(todo) - len(relabeled) - len(removed)
    changes = Changes(added, stored - added, len(relabeled), unchanged, len(removed), len(bad))
    return gallery, changes


def _from(progress: Progress, start: int, total: int, done: int, _: int) -> None:
    progress(start + done, total)


def _digests(crops: Sequence[Crop]) -> dict[str, str]:
    """By path; files that cannot be read have none, and the extractor says what is wrong with them."""

    def one(path: str) -> str | None:
        try:
            return digest(path)
        except OSError:
            return None

    paths = sorted({str(crop.path) for crop in crops})
    return {path: value for path, value in zip(paths, in_threads(one, paths), strict=True) if value is not None}
