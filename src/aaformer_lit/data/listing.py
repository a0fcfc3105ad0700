"""The files of a folder, in sorted order on every machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from aaformer_lit.data.images import IMAGE_SUFFIXES
from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.text import separators_hint


def image_files(files: Iterable[Path]) -> list[Path]:
    """Those of the files that are images, in the order of their paths."""
    return sorted((path for path in files if _is_image(path.name)), key=lambda path: path.parts)


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and in the folders in it.

    Links to folders are followed, but not back into a folder that is being searched. Hidden folders are left out.
    """
    yield from _below(os.fspath(folder), frozenset())


def find_images(images: str | Sequence[str] | None) -> list[Path]:
    """The image files that are meant: a file, several, or all in a folder, `~` the user's; none for None."""
    files: list[Path] = []
    for path in (Path(given).expanduser() for given in ([images] if isinstance(images, str) else images or ())):
        found = image_files(files_below(path)) if path.is_dir() else [path]
        if not path.exists() or not found:
            raise ConfigError(
                f"no image at {path}. Give an image file, or a folder with {', '.join(IMAGE_SUFFIXES)} files."
                f"{separators_hint(path)}"
            )
        files += found
    return files


def behind_links(path: Path, folder: Path) -> Path:
    """The file itself where `path` leads to it over a link, its own or of a folder below `folder`; else `path`."""
    way = [path, *(place for place in path.parents if place.is_relative_to(folder) and place != folder)]
    return Path(os.path.realpath(path)) if any(place.is_symlink() for place in way) and os.path.exists(path) else path


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
        elif not entry.name.startswith("."):
            yield from _below(entry.path, above | {here})
