"""From a file to RGB pixels: whatever a camera, a scraper or an old data set wrote becomes (height, width, 3) uint8.

8-bit gray or RGB JPEG and PNG, which is what the benchmarks hold, take OpenCV's fast decoder. Everything else (palette,
alpha, CMYK, 16 bit, other formats) and every file without its end marker goes to Pillow, which converts colors
properly and says when data are missing, where OpenCV would return gray pixels. EXIF orientation is applied on both
ways.

A JPEG damaged in its middle still decodes, to wrong pixels; libjpeg mentions most of that on stderr and nowhere else. It is
listened to where files are examined (`complaints`, for `prepare`), not in training, whose threads and workers share stderr.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Integer
from PIL import Image, ImageOps, UnidentifiedImageError

from aaformer_lit.errors import ImageError
from aaformer_lit.structures import Pixels

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
# photos all the same, which people have and nobody may lose without a word
UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".gif", ".jxl", ".jp2", ".jfif", ".dng", ".cr2", ".nef", ".arw", ".raw")
MAX_PIXELS = 1 << 26
# a closed list: some of Pillow's readers start other programs
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
_LIBJPEG = "Corrupt JPEG data"
_REMEDY = "Replace or remove the file."


class Header(NamedTuple):
    """What the first bytes of a JPEG or PNG say. `plain`: complete, and 8-bit gray or RGB."""

    height: int
    width: int
    plain: bool


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The pixels of an image file as RGB, upright.

    Raises `ImageError`, naming the file, where it is missing, empty, truncated, no image, or larger than `max_pixels`.
    """
    return decode(read_bytes(path), path, max_pixels)


@contextmanager
def may_be_skipped() -> Iterator[None]:
    """For a command that reads inside what `data.on_bad_image=skip` would leave out: its `ImageError` says so."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{error} Or set data.on_bad_image=skip.") from error


def decode(data: bytes, path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """`read_image` of a file's bytes; `path` is for the message of the `ImageError`."""
    pixels = _decode_plain(data, path, cv2.IMREAD_COLOR, max_pixels)
    if pixels is not None:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    with _opened(data, path, max_pixels) as image:
        return rgb_pixels(image, path)


def read_mask(path: Path) -> Integer[np.ndarray, "height width"]:
    """The integer label of each pixel of a label map (8 or 16 bit, or palette indices). Raises `ImageError`."""
    data = read_bytes(path)
    labels = _decode_plain(data, path, cv2.IMREAD_UNCHANGED, MAX_PIXELS)
    if labels is None:
        with _opened(data, path, MAX_PIXELS) as image:
            labels = np.asarray(image)
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        raise ImageError(
            f"{path} is no label map: it holds {labels.dtype} values of shape {labels.shape}, where one integer per pixel "
            f"is needed. Save the part labels as a one-channel PNG."
        )
    return labels


@contextmanager
def complaints() -> Iterator[list[str]]:
    """The list that fills, on leaving, with libjpeg's warnings about the JPEGs decoded inside, by any thread.

    All else that this process writes to stderr meanwhile is passed on at the end.
    """
    found: list[str] = []
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 2)
        try:
            yield found
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            heard.seek(0)
            lines = heard.read().decode(errors="replace").splitlines(keepends=True)
            found += [line.strip() for line in lines if _LIBJPEG in line]
            sys.stderr.write("".join(line for line in lines if _LIBJPEG not in line))


def peek(data: bytes) -> Header | None:
    """Size and kind of a JPEG or PNG from its header; None for any other format or a header that ends early."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _peek_jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
            complete = data.endswith(b"IEND\xaeB`\x82")
            return Header(height, width, complete and depth == 8 and color in (0, 2))
    except (struct.error, IndexError):
        pass
    return None


def _peek_jpeg(data: bytes) -> Header | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start-of-frame segment
            depth, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            complete = data.endswith(b"\xff\xd9") or data.rstrip(b"\0").endswith(b"\xff\xd9")
            return Header(height, width, complete and depth == 8 and components in (1, 3))
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises `ImageError`, naming it, where it cannot be read or is empty."""
    try:
        data = path.read_bytes()
    except OSError as cause:
        raise ImageError(f"{path} cannot be read: {cause.strerror}. {_REMEDY}") from cause
    if not data:
        raise ImageError(f"{path} is empty (0 bytes). {_REMEDY}")
    return data


def _decode_plain(data: bytes, path: Path, flags: int, max_pixels: int) -> np.ndarray | None:
    """OpenCV's pixels of a file whose header promises nothing unusual; None for all others."""
    header = peek(data)
    if header is None:
        return None
    _check_size(path, header.width, header.height, max_pixels)
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags) if header.plain else None


@contextmanager
def _opened(data: bytes, path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """Pillow's image of a file, upright or not; all that goes wrong with it, now or on decoding, is an `ImageError`."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(path, image.width, image.height, max_pixels)
            yield image
    except UnidentifiedImageError as cause:
        raise ImageError(f"{path} is no image: its content is none of {', '.join(_FORMATS)}. {_REMEDY}") from cause
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as cause:
        raise ImageError(f"{path} is too large: {cause} {_REMEDY}") from cause
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as cause:
        raise ImageError(f"{path} cannot be decoded: {cause}. {_REMEDY}") from cause


def _check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"{path} claims {width} x {height} pixels, more than the {max_pixels:,} that are read: it may be a "
            f"decompression bomb. {_REMEDY}"
        )


def rgb_pixels(image: Image.Image, path: Path | None = None) -> Pixels:
    """The pixels of a Pillow image as RGB, upright; `path` is for the message of the `ImageError`."""
    image, name = ImageOps.exif_transpose(image), path or "the image"
    if image.mode.startswith("I"):  # 16 bit gray; Pillow's own conversion would clip at 255
        gray = np.asarray(image).astype(np.int64)
        if gray.min() < 0 or gray.max() > 0xFFFF:
            raise ImageError(f"{name} holds 32-bit values. Convert it to an 8-bit image.")
        return np.repeat((gray >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise ImageError(f"{name} holds floating-point values, whose range is unknown. Convert it to an 8-bit image.")
    return np.array(image.convert("RGB"))
