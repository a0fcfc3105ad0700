"""Unpacks a downloaded .zip or .tar into the data folder: all of it or nothing, and never outside that folder.

The archive comes from elsewhere, so nothing in it is trusted: absolute paths, `..`, links and devices are refused
before the first byte is written, and so are contents that do not fit the disk. Unpacking goes to a temporary folder
that takes its place when all is there; what exists already is not overwritten.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from aaformer_lit.data.locate import ARCHIVE_SUFFIXES
from aaformer_lit.errors import ProtocolError
from aaformer_lit.utils.files import FULL, free_space, scratch_folder

_LITTER = ("__MACOSX", ".DS_Store")
_DAMAGED = (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive: its checked path, its size, and how to read it; a folder has no reader."""

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]] | None


def unpack(archive: Path, target: Path, name: str, advance: Callable[[int, int], None] = lambda done, of: None) -> Path:
    """Unpack `archive` into `target`; returns the folder it became.

    That is the archive's own top folder, or `name` where it has none or several. `advance(done, of)` gets bytes. Raises
    `ProtocolError` where the archive is damaged, empty, encrypted, unsafe or too large, or the folder exists.
    """
    with _members(archive) as members:
        if not any(member.open for member in members):
            raise ProtocolError(f"{archive} holds no files. The download may be incomplete.")
        total = sum(member.size for member in members)
        free = free_space(target)
        if total > free:
            raise ProtocolError(
                f"{archive} unpacks to {total / 1e9:.1f} GB, but {target} has {free / 1e9:.1f} GB free."
            )
        tops = {member.path.parts[0] for member in members}
        loose = any(len(member.path.parts) == 1 and member.open for member in members)
        has_folder = len(tops) == 1 and not loose
        folder = target / (tops.pop() if has_folder else name)
        if folder.exists():
            raise ProtocolError(f"{folder} exists and is not overwritten. Move it away to unpack {archive.name} again.")
        with scratch_folder(folder) as scratch:
            whole = scratch / folder.name
            whole.mkdir()
            _write(archive, members, scratch if has_folder else whole, total, advance)
            whole.rename(folder)
    return folder


def _write(archive: Path, members: list[Member], folder: Path, total: int, advance: Callable[[int, int], None]) -> None:
    done = 0
    try:
        for member in members:
            path = folder / member.path
            if member.open is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, path.open("xb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            done += member.size
            advance(done, total)
    except _DAMAGED as cause:
        if getattr(cause, "errno", None) in FULL:  # not the archive's fault
            raise
        raise ProtocolError(f"{archive} cannot be unpacked: {cause}. Nothing was kept; download it again.") from cause


@contextmanager
def _members(archive: Path) -> Iterator[list[Member]]:
    """The checked entries of an open archive."""
    if not archive.is_file():
        raise ProtocolError(f"archive={archive} does not exist. Give the path of a {', '.join(ARCHIVE_SUFFIXES)} file.")
    if not archive.name.lower().endswith(ARCHIVE_SUFFIXES):
        raise ProtocolError(
            f"{archive} is of a kind that is not unpacked here. Unpack it yourself, or give one of "
            f"{', '.join(ARCHIVE_SUFFIXES)}."
        )
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as opened_zip:
                yield list(_zip_members(archive, opened_zip))
        else:
            with tarfile.open(archive) as opened_tar:
                yield list(_tar_members(archive, opened_tar))
    except NotImplementedError as cause:  # Windows packs what is larger than 2 GB by Deflate64
        raise ProtocolError(
            f"{archive} is packed in a way that is not read here: {cause}. Unpack it yourself, e.g. with 7z x."
        ) from cause
    except _DAMAGED as cause:
        raise ProtocolError(f"{archive} cannot be read: {cause}. The download may be incomplete.") from cause


def _zip_members(archive: Path, opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _unsafe(archive, info.orig_filename, "is a link or a device")
        if info.flag_bits & 1:
            raise ProtocolError(
                f"{archive} is encrypted. Unpack it yourself with the password that its authors sent you."
            )
        path = _checked(archive, info.orig_filename)  # `filename` is cut at a NUL already
        if path is not None:
            yield Member(path, info.file_size, None if info.is_dir() else partial(opened.open, info))


def _tar_members(archive: Path, opened: tarfile.TarFile) -> Iterator[Member]:
    for info in opened:
        if not (info.isfile() or info.isdir()):
            raise _unsafe(archive, info.name, "is a link or a device")
        path = _checked(archive, info.name)
        if path is not None:
            yield Member(path, info.size, None if info.isdir() else partial(_extract, opened, info))


def _extract(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = opened.extractfile(info)
    assert stream is not None, "a regular file, as checked before"
    return stream


def _checked(archive: Path, name: str) -> PurePosixPath | None:
    """The entry's path if it stays below the folder; None for the litter of file managers."""
    path, windows = PurePosixPath(name), PureWindowsPath(name)
    if path.is_absolute() or windows.drive or windows.root or ".." in (*path.parts, *windows.parts) or "\0" in name:
        raise _unsafe(archive, name, "leaves the folder")
    if not path.parts or any(part in _LITTER for part in path.parts):
        return None
    return path


def _unsafe(archive: Path, name: str, why: str) -> ProtocolError:
    return ProtocolError(f"{archive} is not unpacked: its entry {name!r} {why}. Get the archive from its authors.")
