"""A CSV or Parquet table of one's own images.

Values count without the white space around them, and a whole number that a program has written as 7.0 is 7.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from aaformer_lit.data.columns import read_columns, tidy
from aaformer_lit.data.dataset import SPLITS
from aaformer_lit.errors import ProtocolError
from aaformer_lit.utils.text import separators_hint, some

COLUMNS = "Give a .csv or .parquet table with the columns path, pid, split (train, query, gallery) and, if known, camid"
_NEEDED, _OPTIONAL = ("path", "pid", "split"), ("camid", "sequence")
Say = Callable[[str, Iterable[object], str], None]


class Row(NamedTuple):
    """One image as its owner names it; an empty camid is an unknown camera, an empty sequence no clip."""

    path: Path
    pid: str
    camid: str
    split: str
    sequence: str = ""

    @classmethod
    def of(cls, path: Path, pid: str, camid: str, split: str, sequence: str) -> Row:
        """With tidy names; -1 is an unknown camera and no clip, too."""
        pid, camid, sequence = tidy(pid), tidy(camid), tidy(sequence)
        return cls(path, pid, "" if camid == "-1" else camid, split, "" if sequence == "-1" else sequence)


def read_table(path: Path, say: Say) -> list[Row]:
    """The rows of a CSV or Parquet table. Raises `ProtocolError` where a column, a value or a file is missing."""
    frame, remark = read_columns(path, _NEEDED, _OPTIONAL, f"{COLUMNS}.")
    if remark:
        say(remark.says, remark.items, remark.effect)
    rows = []
    for number, (file, pid, split, camid, sequence) in enumerate(frame.itertuples(index=False), start=1):
        file = file.strip()
        row = Row.of(Path(os.path.normpath(path.parent / file)), pid, camid, split.strip().lower(), sequence)
        if not file or not row.pid or row.split not in SPLITS:
            raise ProtocolError(
                f"row {number} of {path} has path {file!r}, pid {row.pid!r} and split {row.split!r}. Give every image a path, "
                f"a pid and one of {', '.join(SPLITS)}; leave out images that belong to nobody."
            )
        rows.append(row)
    _check_files(path.parent, rows)
    return rows


def _check_files(folder: Path, rows: list[Row]) -> None:
    listed = {place: set(os.listdir(place)) if place.is_dir() else set() for place in {row.path.parent for row in rows}}
    absent = [row.path for row in rows if row.path.name not in listed[row.path.parent]]
    if absent:
        raise ProtocolError(
            f"{len(absent):,} of {len(rows):,} listed images do not exist: {some(absent, 3)}. "
            f"Paths are relative to the table, which is in {folder}.{separators_hint(absent[0])}"
        )
