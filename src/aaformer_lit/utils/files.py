"""One way to write a file: whole, or not there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from aaformer_lit.errors import StorageError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """JSON with stable formatting, atomically."""
    write_atomically(path, lambda p: p.write_text(json.dumps(content, indent=2, default=str) + "\n"))


def write_whole(path: Path, content: bytes | memoryview, backup: Path | None = None) -> None:
    """Write a file that is whole or not there, whatever ends the process meanwhile.

    Args:
        path: the file.
        content: its bytes.
        backup: the name that a file already at `path` gets; without it, that file is replaced.

    Raises:
        StorageError: the disk is full, or the file cannot be written for another reason. What was there is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")  # always this name, so that what a kill leaves is overwritten
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if backup is not None and path.exists():
            os.replace(path, backup)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # room for what is tried next
            temporary.unlink(missing_ok=True)
        raise StorageError(_cannot_write(path, len(content), error)) from error


def _cannot_write(path: Path, size: int, error: OSError) -> str:
    free = shutil.disk_usage(path.parent if path.parent.is_dir() else Path.cwd()).free
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    cure = "Free some space" if full else "Make the folder writable"
    return (
        f"cannot write {path} ({size / 2**20:.1f} MiB): {error.strerror}; {free / 2**20:.1f} MiB are free there. {cure} and "
        f"continue with resume=auto: what was there before is whole."
    )


def _sync_folder(folder: Path) -> None:
    """The renames reach the disk too; file systems that cannot sync a folder do so by themselves."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
