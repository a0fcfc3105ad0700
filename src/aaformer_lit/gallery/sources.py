"""Which person images there are: files of a folder, or boxes of any detector in whole frames.

    path,x,y,w,h,pid,camid          x, y: the box's upper left corner in pixels; w, h: its size
    cam1/000120.jpg,31,40,58,160,,1 pid and camid may be empty or left out; path is relative to images=DIR, else to the CSV

Without boxes an image is one person. Who it is and which camera saw it may be in its name (`data.pattern`, as for
`data=folder`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aaformer_lit.data.columns import read_columns, tidy
from aaformer_lit.data.file_names import identify, name_pattern
from aaformer_lit.data.images import read_image
from aaformer_lit.data.listing import find_images
from aaformer_lit.errors import ConfigError, ImageError, ProtocolError
from aaformer_lit.structures import Pixels
from aaformer_lit.utils.text import plural, some

log = logging.getLogger(__name__)

Box = tuple[int, int, int, int]
_NEEDED, _OPTIONAL = ("path", "x", "y", "w", "h"), ("pid", "camid")
_MOST = 1 << 31  # pixels that a table counts to
_COLUMNS = "Give a .csv or .parquet table with the columns path,x,y,w,h and, if known, pid,camid."


@dataclass(frozen=True, slots=True)
class Crop:
    """One person image: a whole file, or the box (x, y, width, height) of one; "" where pid or camid is not known."""

    path: Path
    box: Box | None = None
    pid: str = ""
    camid: str = ""


def find_crops(
    images: str | Path | Sequence[str | Path] | None, boxes: str | Path | None = None, pattern: str | None = None
) -> list[Crop]:
    """The person images that are meant, in the order of their paths.

    Args:
        images: an image, several, or a folder that is searched with all folders in it; with `boxes` what paths start from.
        boxes: a CSV or Parquet table of boxes in whole frames.
        pattern: of whole file names, with the groups pid and camid.

    Raises:
        ConfigError: neither images nor boxes, nothing there, a name that is not UTF-8, a bad pattern.
        ProtocolError: a table that cannot be used.
    """
    if boxes is not None:
        if images is not None and not isinstance(images, str | Path):
            raise ConfigError("with boxes=FILE.csv, images must be the one folder that the paths in it start from.")
        return read_boxes(Path(boxes), None if images is None else Path(images))
    if images is None:
        raise ConfigError("no images are given. Give images=FOLDER, images=FILE, or boxes=FILE.csv for whole frames.")
    compiled = name_pattern(pattern)
    crops, strays = [], []
    for path in find_images([str(path) for path in ([images] if isinstance(images, str | Path) else images)]):
        try:
            str(path).encode()
        except UnicodeEncodeError as cause:  # a name from an old archive, say; no table or page can hold it
            raise ConfigError(f"the name of {str(path)!a} is not UTF-8. Rename the file or folder.") from cause
        named = identify(compiled, path.name)
        if named is None:
            strays.append(path.name)
        crops.append(Crop(path, None, *map(identity, named[:2] if named else ("", ""))))
    if strays:
        log.warning(
            "%s not named like data.pattern=%s, so nobody's: %s", plural(len(strays), "image"), pattern, some(strays)
        )
    return crops


def identity(name: str) -> str:
    """One spelling of a pid or camid: numbers without leading zeros, so that 0002 in a file name is 2."""
    digits = name.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        return name
    number = digits.lstrip("0") or "0"
    return f"-{number}" if name != digits and number != "0" else number


def read_boxes(table: Path, root: Path | None = None) -> list[Crop]:
    """The crops that a table lists. Raises `ProtocolError`, naming the row, for what is no box."""
    if not table.is_file():
        raise ConfigError(f"there is no file boxes={table}. {_COLUMNS}")
    frame, remark = read_columns(table, _NEEDED, _OPTIONAL, _COLUMNS)
    if frame.empty:
        raise ProtocolError(f"{table} lists no boxes. {_COLUMNS}")
    if remark:
        log.warning("%s: %s", table, remark)
    folder = table.parent if root is None else root
    crops = []
    for number, row in enumerate(frame.itertuples(index=False), start=1):
        path, *numbers, pid, camid = (value.strip() for value in row)
        try:
            x, y, w, h = (_rounded(value) for value in numbers)
        except ValueError:
            x = y = w = h = 0
        if not path or w < 1 or h < 1:
            raise ProtocolError(
                f"row {number} of {table} has path {path!r} and box {', '.join(numbers)}. Give every row a path, and a box as "
                "x,y,w,h in pixels with a width and height of at least 1."
            )
        pid, camid = (identity(tidy(name)) for name in (pid, camid))
        crops.append(Crop(folder / path, (x, y, w, h), pid, "" if camid == "-1" else camid))
    return sorted(crops, key=lambda crop: (crop.path, crop.box))


def cut(crop: Crop, frame: Pixels) -> Pixels:
    """The crop's pixels out of its file's. Boxes may reach over the edge; raises `ImageError` for one that is outside."""
    if crop.box is None:
        return frame
    x, y, w, h = crop.box
    pixels = frame[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
    if not pixels.size:
        height, width = frame.shape[:2]
        raise ImageError(
            f"{crop.path} is {width} x {height} pixels; the box x={x} y={y} w={w} h={h} lies outside of it. Boxes are in "
            "pixels of the upright image; correct the row."
        )
    return pixels


class Frames:
    """Reads crops, and keeps the last file: the boxes of one frame follow each other."""

    def __init__(self) -> None:
        self._last: tuple[Path, Pixels] | None = None

    def __call__(self, crop: Crop) -> Pixels:
        """The crop's pixels. Raises `ImageError`."""
        if self._last is None or self._last[0] != crop.path:
            self._last = crop.path, read_image(crop.path)
        return cut(crop, self._last[1])


def _rounded(value: str) -> int:
    number = float(value)
    if not abs(number) < _MOST:  # nor NaN
        raise ValueError(value)
    return round(number)
