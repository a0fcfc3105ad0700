"""Finding a data set under `paths.data`, and saying clearly what was looked for where it is not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from aaformer_lit.errors import DatasetNotFoundError
from aaformer_lit.utils.text import separators_hint

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class Facts(Protocol):
    """What a data set says of itself: its name and title, the folders that may hold it, where to get it."""

    name: str
    title: str
    folders: tuple[str, ...]
    source: str


def locate(root: Path, dataset: Facts, missing: Callable[[Path], Sequence[str]]) -> Path:
    """The data set's folder: under one of its names in `root`, `root` itself, or one level too deep or too high.

    `missing(folder)` lists what a folder lacks to be the data set.

    Raises `DatasetNotFoundError` with what was looked for, what is there and where to get the data.
    """
    candidates = list(_candidates(root, dataset.folders))
    for folder in candidates:
        if os.path.isdir(folder) and not missing(folder):  # behind a closed folder no more than what is not there
            return folder
    incomplete = [folder for folder in candidates if folder.name in dataset.folders and os.path.isdir(folder)]
    if incomplete:
        found = [f"{folder} {contents(folder)} but lacks {', '.join(missing(folder))}" for folder in incomplete]
    else:
        found = [f"{root} {contents(root)}"]
    raise DatasetNotFoundError(
        f"{dataset.title} was not found under paths.data={root}.\n"
        f"Looked for: a folder {' or '.join(dataset.folders)} with {', '.join(missing(root / dataset.folders[0]))}.\n"
        f"There is: {(chr(10) + '          ').join(found)}.\n"
        f"Where to get it: {dataset.source}.\n"
        f"{_advice(root, dataset.name)}{separators_hint(root)}"
    )


def _candidates(root: Path, folders: Sequence[str]) -> Iterator[Path]:
    named = [root / folder for folder in folders]
    yield from named
    for folder in named:  # an archive unpacked inside a folder of ours: market1501/Market-1501-v15.09.15
        yield from _children(folder)
    yield root
    if root.is_dir():
        yield root.parent  # paths.data points at one of the split folders
    for child in _children(root):
        yield from (child / folder for folder in folders)


def archives_in(root: Path) -> list[Path]:
    """The archives in a folder that could be unpacked."""
    return sorted(path for path in root.glob("[!.]*") if path.name.lower().endswith(ARCHIVE_SUFFIXES))


def _children(folder: Path) -> list[Path]:
    """Hidden ones are being unpacked or drawn, or were when that was killed (`scratch_folder`): no data set yet."""
    try:
        return sorted(child for child in folder.iterdir() if not child.name.startswith(".") and child.is_dir())
    except OSError:
        return []


def contents(folder: Path, limit: int = 8) -> str:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as cause:
        return "does not exist" if isinstance(cause, FileNotFoundError) else f"cannot be listed ({cause.strerror})"
    if not names:
        return "is empty"
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"holds {', '.join(names[:limit])}{rest}"


def _advice(root: Path, name: str) -> str:
    archives = archives_in(root)
    if archives:
        return (
            f"{', '.join(path.name for path in archives)} in that folder can be unpacked with: "
            f"python -m aaformer_lit.prepare data={name} paths.data={root} action=extract archive={archives[0]}"
        )
    return (
        f"Set paths.data=DIR to the folder that holds it, or try everything on synthetic people in the same layout: "
        f"python -m aaformer_lit.prepare data={name} paths.data={root} action=synthesize"
    )
