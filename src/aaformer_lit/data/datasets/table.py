"""A CSV or Parquet table of one's own images, read as text.

Column names count without their case, values without the white space around them, and nothing is taken for a missing
value but an empty cell: a person may be called NA. A whole number that a program has written as 7.0 is 7.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from aaformer_lit.data.dataset import SPLITS
from aaformer_lit.data.remarks import unread_columns
from aaformer_lit.errors import ProtocolError
from aaformer_lit.utils.text import separators_hint, some

COLUMNS = "Give a .csv or .parquet table with the columns path, pid, split (train, query, gallery) and, if known, camid"
_NEEDED, _OPTIONAL = ("path", "pid", "split"), ("camid", "sequence")
Say = Callable[[str, Iterable[object], str], None]
_SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "bars"}
_WHOLE = re.compile(r"(-?[0-9]+)\.0+")
_REPEATED = re.compile(r"\.[0-9]+$")  # pandas calls a second column pid "pid.1"


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


def tidy(name: str) -> str:
    """A name as it is compared: without white space around it, letters with accents in one form, -1.0 as -1."""
    name = unicodedata.normalize("NFC", name).strip()
    whole = _WHOLE.fullmatch(name)
    return whole[1] if whole else name


def read_table(path: Path, say: Say) -> list[Row]:
    """The rows of a CSV or Parquet table. Raises `ProtocolError` where a column, a value or a file is missing."""
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path).convert_dtypes().astype("string").fillna("")
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as cause:  # pandas' and pyarrow's parser errors are ValueErrors
        raise ProtocolError(f"{path} cannot be read as a table: {cause}. {COLUMNS}.") from cause
    frame.columns = [str(column).strip().lower() for column in frame.columns]
    _check_columns(path, list(frame.columns))
    if remark := unread_columns(list(frame.columns), (*_NEEDED, *_OPTIONAL)):
        say(remark.says, remark.items, remark.effect)
    for column in _OPTIONAL:
        if column not in frame:
            frame[column] = ""
    rows = []
    listed = frame[[*_NEEDED, *_OPTIONAL]].itertuples(index=False)
    for number, (file, pid, split, camid, sequence) in enumerate(listed, start=1):
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


def _check_columns(path: Path, columns: list[str]) -> None:
    named = [_REPEATED.sub("", column) for column in columns]
    twice = [column for column in (*_NEEDED, *_OPTIONAL) if named.count(column) > 1]
    if twice:
        raise ProtocolError(f"{path} has the column {', '.join(twice)} more than once. Keep one.")
    lacking = [column for column in _NEEDED if column not in columns]
    if not lacking:
        return
    used = next((name for sign, name in _SEPARATORS.items() if len(columns) == 1 and sign in columns[0]), None)
    hint = f" Its columns are separated by {used}; save it with commas." if used else ""
    raise ProtocolError(
        f"{path} has no column {', '.join(lacking)}, but {', '.join(columns).expandtabs(1)}.{hint} {COLUMNS}."
    )


def _check_files(folder: Path, rows: list[Row]) -> None:
    listed = {place: set(os.listdir(place)) if place.is_dir() else set() for place in {row.path.parent for row in rows}}
    absent = [row.path for row in rows if row.path.name not in listed[row.path.parent]]
    if absent:
        raise ProtocolError(
            f"{len(absent):,} of {len(rows):,} listed images do not exist: {some(absent, 3)}. "
            f"Paths are relative to the table, which is in {folder}.{separators_hint(absent[0])}"
        )
