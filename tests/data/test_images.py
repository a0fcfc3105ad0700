"""Decoding: every kind of file gives the RGB pixels that Pillow gives, and broken files say what is wrong with them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from aaformer_lit.data.image_transform import ImageTransform, pixels_of
from aaformer_lit.data.images import peek, read_image, read_mask
from aaformer_lit.data.listing import find_images
from aaformer_lit.errors import ImageError

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(cv2.GaussianBlur(RNG.integers(0, 256, (60, 30, 3), np.uint8), (0, 0), 3))


def encoded(image: Image.Image = PHOTO, kind: str = "JPEG", **how: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()


STORES = {
    "JPEG": ("RGB", "L", "1", "CMYK"),
    "PNG": ("RGB", "L", "1", "RGBA", "LA", "P"),
    "BMP": ("RGB", "L", "1", "RGBA", "P"),
    "TIFF": ("RGB", "L", "1", "RGBA", "LA", "P", "CMYK"),
    "WEBP": ("RGB", "L", "RGBA"),
    "PPM": ("RGB", "L", "1"),
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in STORES.items() for mode in modes])
def test_every_format_and_mode(kind: str, mode: str, tmp_path: Path) -> None:
    data = encoded(PHOTO.convert(mode), kind)
    path = tmp_path / "person.jpg"  # the content decides, not the suffix
    path.write_bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    got = read_image(path)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "person"
    path.write_bytes(encoded(kind=kind, exif=exif))
    np.testing.assert_array_equal(read_image(path), np.asarray(ImageOps.exif_transpose(Image.open(path))))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_the_high_byte(channels: int, tmp_path: Path) -> None:
    deep = RNG.integers(0, 1 << 16, (8, 5, channels)).astype(np.uint16)
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), deep[..., ::-1])
    np.testing.assert_array_equal(read_image(path), np.broadcast_to(deep >> 8, (8, 5, 3)))


def test_a_progressive_jpeg_takes_the_fast_way(tmp_path: Path) -> None:
    data = encoded(progressive=True)
    assert peek(data) == (60, 30, True)
    (tmp_path / "p.jpg").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "p.jpg"), np.asarray(Image.open(io.BytesIO(data))))


def test_bytes_after_the_end_do_no_harm(tmp_path: Path) -> None:
    for tail in (b"\0" * 9, b"trailer of some camera"):
        (tmp_path / "t.jpg").write_bytes(encoded() + tail)
        assert read_image(tmp_path / "t.jpg").shape == (60, 30, 3)


def bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND\xaeB`\x82"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"<html>404</html>", "is no image"),
        (encoded()[:3], "is no image"),
        (encoded()[: len(encoded()) // 2], "cannot be decoded: .*[Tt]runcated"),
        (encoded()[:-2][: len(encoded()) - 40], "cannot be decoded: .*truncated"),
        (encoded(kind="PNG")[:400], "cannot be decoded: .*truncated"),
        (encoded(kind="WEBP")[:60], "cannot be decoded"),
        (encoded(kind="TIFF")[:900], "cannot be decoded"),
        (bomb(50_000, 50_000), "50000 x 50000 pixels"),
        (encoded(PHOTO.convert("F"), "TIFF"), "floating-point"),
        (encoded(Image.fromarray(np.full((4, 4), 1 << 20, np.int32)), "TIFF"), "32-bit"),
    ],
    ids=["empty", "html", "3 bytes", "half", "short", "png", "webp", "tiff", "bomb", "float", "int32"],
)
def test_broken_files_say_what_is_wrong(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=says) as error:
        read_image(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("cut", range(20, len(encoded()), 37))
def test_no_truncated_jpeg_is_accepted(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(encoded()[:cut])
    with pytest.raises(ImageError):
        read_image(path)


def test_half_an_image_that_pillow_opened_is_refused() -> None:
    with pytest.raises(ImageError, match=r"the image cannot be decoded: .*truncated"):
        pixels_of(Image.open(io.BytesIO(encoded()[:-40])))


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "nobody.jpg")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


def test_the_bound_is_inclusive(tmp_path: Path) -> None:
    for kind in ("PNG", "BMP"):
        (tmp_path / "i").write_bytes(encoded(kind=kind))
        assert read_image(tmp_path / "i", max_pixels=1800).shape == (60, 30, 3)
        with pytest.raises(ImageError, match="30 x 60 pixels, more than the 1,799"):
            read_image(tmp_path / "i", max_pixels=1799)


def test_masks_keep_their_labels(tmp_path: Path) -> None:
    labels = RNG.integers(0, 20, (9, 7)).astype(np.uint8)
    palette = Image.fromarray(labels)
    palette.putpalette(RNG.integers(0, 256, 60, np.uint8).tobytes())
    for name, image in {
        "gray": Image.fromarray(labels),
        "palette": palette,
        "deep": Image.fromarray(labels.astype(np.uint16)),
    }.items():
        image.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png"), labels)


def test_a_color_picture_is_no_mask(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "m.png")
    with pytest.raises(ImageError, match="no label map"):
        read_mask(tmp_path / "m.png")
    (tmp_path / "m.png").write_bytes(encoded(PHOTO.convert("L"), "PNG")[:80])
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_mask(tmp_path / "m.png")


def test_a_batch_of_no_pictures_is_empty() -> None:
    assert ImageTransform((6, 4)).batch([]).shape == (0, 3, 6, 4)


def test_images_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_images("~") == find_images(["~/a.jpg"]) == [tmp_path / "a.jpg"]


def test_photos_in_a_format_that_is_not_read_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.jpg", "b.heic", "lost+found/c.avif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(str(tmp_path)) == [tmp_path / "a.jpg"]
    assert f"left out: 1 image in a format that is not read: {tmp_path / 'b.heic'}" in caplog.text
