"""How a gallery lies in its folder: one version at a time, and one small file that says which.

    gallery.json                    the model's fingerprint, the descriptor's layout, the names of the two files below
    table-000003.parquet            id, path, x, y, w, h, pid, camid, hash: one row per person image
    features-000003.safetensors     `descriptors` (images, tokens, dim), row by row those of the table
    index-000003/                   what an index keeps of this version; made on the first search that wants it
    .lock                           empty; locked by who changes the folder (`locked`)

Every change writes the next version's files beside the current ones, and then replaces `gallery.json`: that is the moment
of the change. Killed before, the old gallery is whole; a reader never sees a table with the features of another version.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aaformer_lit.errors import GalleryError, StorageError, first_line
from aaformer_lit.utils.files import cannot_write, whole_file, write_tensors, write_text

FORMAT = 1
SWITCH = "gallery.json"
LOCK = ".lock"
COLUMNS = {
    "id": "int64", "path": "string", "x": "Int32", "y": "Int32", "w": "Int32", "h": "Int32", "pid": "string",
    "camid": "string", "hash": "string",
}  # fmt: skip
_NEEDED = (
    "version", "name", "fingerprint", "dtype", "layout", "root", "next_id", "copies", "removed", "table", "features",
)  # fmt: skip
_OURS = re.compile(r"(table|features|index)-\d{6,}(\.parquet|\.safetensors|)|\.(table-|features-|gallery\.json).*\.tmp")


def frame(entries: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """Rows as a gallery's table."""
    return pd.DataFrame(entries, columns=list(COLUMNS)).astype(COLUMNS)


def foreign(folder: Path) -> list[str]:
    """What lies in a folder, if there is one, and is not a gallery's."""
    names = os.listdir(folder) if folder.exists() else []
    return [name for name in names if name != LOCK and not _OURS.fullmatch(name)]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone among those who write this gallery. Raises `StorageError` where there can be no such folder.

    The lock ends with its process, however that ends. Nothing is locked in a folder that can only be read, or on a network
    file system without locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(cannot_write(folder, error)) from error
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            # for all users: who only searches waits for a removal, too
            held.enter_context(FileLock(folder / LOCK, mode=0o666, fallback_to_soft=False))
        yield


def read_switch(folder: Path) -> dict[str, Any]:
    """The content of `gallery.json`. Raises `GalleryError` where there is none, or one that cannot be read."""
    path = folder / SWITCH
    if not path.is_file():
        raise GalleryError(
            f"there is no gallery at {folder} (no {SWITCH}). Make one with aaformer_lit.extract out={folder}."
        )
    try:
        about: dict[str, Any] = json.loads(path.read_text())
        newer = about["format"] > FORMAT
        lacking = [] if newer else [key for key in _NEEDED if key not in about]
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise GalleryError(f"{path} cannot be read: {first_line(cause)}. Extract again into a new folder.") from cause
    if newer:
        raise GalleryError(
            f"{folder} has format {about['format']}, newer than this version reads ({FORMAT}). Update aaformer_lit."
        )
    if lacking:
        raise GalleryError(f"{path} is damaged: it has no {', '.join(lacking)}. Extract again into a new folder.")
    return about


def write_switch(folder: Path, about: Mapping[str, Any]) -> None:
    """Replace `gallery.json`: from here on its version is the current one."""
    write_text(folder / SWITCH, json.dumps(about, indent=1) + "\n")


def read_version(folder: Path) -> tuple[dict[str, Any], pd.DataFrame, Float[Tensor, "images tokens dim"]]:
    """`gallery.json`, table and descriptors of the current version. Raises `GalleryError` where they are not whole."""
    about = read_switch(folder)
    try:
        table = pd.read_parquet(folder / about["table"]).astype(COLUMNS)
        descriptors = load_file(folder / about["features"])["descriptors"]
    except (OSError, KeyError, ValueError, SafetensorError) as cause:
        if read_switch(folder)["version"] != about["version"]:
            return read_version(folder)  # the next version came in between
        raise GalleryError(f"{folder} is damaged: {first_line(cause)}. Extract it again into a new folder.") from cause
    if descriptors.shape != (len(table), about["layout"]["tokens"], about["layout"]["dim"]):
        raise GalleryError(
            f"{folder} is damaged: {len(table)} rows in the table, descriptors of shape {tuple(descriptors.shape)}. "
            "Extract it again into a new folder."
        )
    return about, table, descriptors


def write_version(
    folder: Path, about: Mapping[str, Any], table: pd.DataFrame, descriptors: Float[Tensor, "images tokens dim"]
) -> dict[str, Any]:
    """Write the version after that of `about`, switch to it, and delete all others; returns its `gallery.json`.

    Raises:
        StorageError: it cannot be written, and all is as before; or what it replaces cannot be deleted.
    """
    version = about["version"] + 1
    names = {"table": f"table-{version:06d}.parquet", "features": f"features-{version:06d}.safetensors"}
    about = {**about, **names, "version": version, "images": len(table)}
    try:
        with whole_file(folder / names["table"]) as temporary:
            table.to_parquet(temporary)
        write_tensors(folder / names["features"], {"descriptors": descriptors})
        write_switch(folder, about)
    except StorageError:
        _delete(folder, names.values())
        raise
    sweep(folder, keep={SWITCH, *names.values()})
    return about


def _delete(folder: Path, names: Iterable[str]) -> None:
    """Delete what was written of a version, and the folder if nothing but its lock is left in it."""
    with contextlib.suppress(OSError):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        if set(os.listdir(folder)) <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def sweep(folder: Path, keep: set[str]) -> None:
    """Delete the files of all other versions, and what a killed process has left. Raises `StorageError`."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in keep:
            try:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            except OSError as error:
                raise StorageError(
                    f"{path} belongs to an older version of the gallery, and cannot be deleted: {error.strerror}. Delete it, "
                    "as it may hold what was removed. The gallery itself is whole."
                ) from error
