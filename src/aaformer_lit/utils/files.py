"""One way to write: a file or folder is whole, or not there, whatever ends the process meanwhile.

What is written has a temporary name beside its target, is on the disk before it is renamed (fsync), and is removed if
anything fails. The error then names the target and, of a full disk, the space that is free there; what was there before is
untouched.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from aaformer_lit.errors import StorageError, first_line

if TYPE_CHECKING:
    from torch import Tensor

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CURES = {
    **dict.fromkeys(FULL, "Free some space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Make the folder writable"),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
        "Give another name: a file is where a folder should be, or the reverse",
    ),
    errno.ENOENT: "Give a drive and a folder that are there",
    errno.ENAMETOOLONG: "Use a shorter name",
}


@contextlib.contextmanager
def whole_file(
    path: Path, backup: Path | None = None, *, size: int | None = None, shared: bool = False
) -> Iterator[Path]:
    """A temporary file to write, which is then renamed to `path`.

    Args:
        path: the file; its folder is made.
        backup: the name that a file already at `path` gets; without it, that file is replaced.
        size: bytes that are about to be written, for the error.
        shared: several threads or processes, of several machines too, may write this file at once. Otherwise the temporary
            name is always the same, so that what a kill leaves is overwritten.

    Raises:
        StorageError: the disk is full, or the file cannot be written for another reason. What was there is untouched.
    """
    writer = f".{platform.node()}-{os.getpid()}-{threading.get_ident()}" if shared else ""
    temporary = path.with_name(f".{path.name}{writer}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        replace_whole(temporary, path, backup)
    except OSError as error:
        raise StorageError(cannot_write(path, error, size)) from error
    finally:
        with contextlib.suppress(OSError):  # room for what is tried next
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`, deleted at the end. Raises `StorageError` of `target`, as `whole_file`."""
    folder = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        yield folder
    except OSError as error:
        raise StorageError(cannot_write(target, error)) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which is then renamed to `folder`; if another process was faster, its folder stays."""
    with scratch_folder(folder) as scratch:
        temporary = scratch / folder.name
        temporary.mkdir()
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def write_whole(path: Path, content: bytes | memoryview, backup: Path | None = None, *, shared: bool = False) -> None:
    """Write these bytes (see `whole_file`)."""
    with whole_file(path, backup, size=len(content), shared=shared) as temporary, open(temporary, "wb") as file:
        file.write(content)


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    """Write this text as UTF-8 (see `whole_file`)."""
    write_whole(path, text.encode(), shared=shared)


def write_json(path: Path, content: object) -> None:
    """JSON with stable formatting (see `whole_file`)."""
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file (see `whole_file`); written piece by piece, for tensors that fill the memory."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with whole_file(path, size=sum(tensor.nbytes for tensor in tensors.values())) as temporary:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        except SafetensorError as error:  # the system's error in words
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def replace_whole(source: Path, target: Path, backup: Path | None = None) -> None:
    """Rename a complete file to `target`, when it is on the disk; what was there becomes `backup`."""
    _sync(source)
    if backup is not None and target.exists():
        os.replace(target, backup)
    os.replace(source, target)
    _sync(target.parent)


def cannot_write(path: Path, error: OSError, size: int | None = None) -> str:
    """The message of a file or folder that cannot be written, with the space that is free where its lack may be the cause."""
    no_matter_of_space = error.errno in CURES and error.errno not in FULL
    room = "" if no_matter_of_space else f"; {free_space(path.parent) / 2**20:.1f} MiB are free there"
    what = f"{path}" if size is None else f"{path} ({size / 2**20:.1f} MiB)"
    cure = CURES.get(error.errno or 0, "Make room, or write elsewhere")
    return (
        f"cannot write {what}: {error.strerror or first_line(error)}{room}. {cure}, and start again "
        "(a training with resume=auto). What was there before is whole."
    )


def free_space(folder: Path) -> int:
    """Bytes that are free in a folder, or where it would be made."""
    return shutil.disk_usage(next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())).free


def _sync(path: Path) -> None:
    """A file, or the names in a folder; systems that cannot sync a folder do so by themselves."""
    is_folder = path.is_dir()
    try:
        handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)  # Windows syncs only what is open for writing
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError:
        if not is_folder:
            raise
