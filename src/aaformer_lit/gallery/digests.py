"""What a gallery knows an image's content by: digests that tell it again and give nothing of it away."""

from __future__ import annotations

import hashlib
from pathlib import Path

_DIGITS = 32


def digest(path: str | Path) -> str:
    """What tells one content of a file from another."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def digest_of(content: bytes) -> str:
    """The same of a content in memory."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def removal(digest: str, box: tuple[int, int, int, int] | None) -> str:
    """What remains of a person image that was removed for good, by its file's digest and its box."""
    return digest_of(f"removed {digest} {box}".encode())
