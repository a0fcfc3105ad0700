"""The files of a folder, in sorted order on every machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from aaformer_lit.data.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.text import plural, separators_hint, some

log = logging.getLogger(__name__)
_OF_THE_SYSTEM = ("lost+found", "System Volume Information", "$RECYCLE.BIN")  # on a disk of one's own; often closed


def image_files(files: Iterable[Path]) -> list[Path]:
    """Those of the files that are images, in the order of their paths."""
    return sorted((path for path in files if _is_image(path.name)), key=lambda path: path.parts)


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and in the folders in it.

    Links to folders are followed, but not back into a folder that is being searched. Left out are hidden folders and those
    that a file system keeps for itself.
    """
    yield from _below(os.fspath(folder), frozenset())


def find_images(images: str | Sequence[str] | None) -> list[Path]:
    """The image files that are meant: a file, several, or all in a folder, `~` the user's; none for None."""
    files: list[Path] = []
    for path in (Path(given).expanduser() for given in ([images] if isinstance(images, str) else images or ())):
        inside = list(files_below(path)) if path.is_dir() else []
        found = image_files(inside) if path.is_dir() else [path]
        if unread := sorted(file for file in inside if file.name.lower().endswith(UNREAD_SUFFIXES)):
            log.warning("left out: %s in a format that is not read: %s", plural(len(unread), "image"), some(unread))
        if not path.exists() or not found:
            raise ConfigError(
                f"no image at {path}. Give an image file, or a folder with {', '.join(IMAGE_SUFFIXES)} files."
                f"{separators_hint(path)}"
            )
        files += found
    return files


def behind_links(path: Path, folder: Path) -> Path:
    """The file itself where `path` leads to it over a link, its own or of a folder below `folder`; else `path`.

    A file in the folder is spelled as those that no link leads to, however `folder` is: relative, or itself behind a link.
    """
    way = [path, *(place for place in path.parents if place.is_relative_to(folder) and place != folder)]
    if not any(place.is_symlink() for place in way) or not os.path.exists(path):
        return path
    file, base = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return folder / file.relative_to(base) if file.is_relative_to(base) else file


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Not what is named like an image, nor a link in a circle: these are files that cannot be read, and named as such."""
    try:
        return entry.is_dir() and not _is_image(entry.name)
    except OSError:
        return False


def _below(folder: str, above: frozenset[str]) -> Iterator[Path]:
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if not _is_folder(entry):
            yield Path(entry.path)
        elif not entry.name.startswith(".") and entry.name not in _OF_THE_SYSTEM:
            yield from _below(entry.path, above | {here})
