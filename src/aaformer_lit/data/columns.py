"""A CSV or Parquet table with known columns, read as text.

Column names count without their case, and nothing is taken for a missing value but an empty cell: a person may be called NA.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from aaformer_lit.data.remarks import Remark, unread_columns
from aaformer_lit.errors import ProtocolError, first_line

_SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "bars"}
_WHOLE = re.compile(r"(-?[0-9]+)\.0+")
_REPEATED = re.compile(r"\.[0-9]+$")  # pandas calls a second column pid "pid.1"


def read_columns(
    path: Path, needed: Sequence[str], optional: Sequence[str], wanted: str
) -> tuple[pd.DataFrame, Remark | None]:
    """The columns `needed` and `optional` (empty where there is none) of a table, and what is odd about its others.

    Raises `ProtocolError`, which ends with the sentence `wanted`, for what is no table, or lacks or repeats a column.
    """
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path).convert_dtypes().astype("string").fillna("")
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as cause:  # pandas' and pyarrow's parser errors are ValueErrors
        raise ProtocolError(f"{path} cannot be read as a table: {first_line(cause)}. {wanted}") from cause
    columns = [str(column).strip().lower() for column in frame.columns]
    known = [*needed, *optional]
    named = [_REPEATED.sub("", column) for column in columns]
    if twice := [column for column in known if named.count(column) > 1]:
        raise ProtocolError(f"{path} has the column {', '.join(twice)} more than once. Keep one.")
    if lacking := [column for column in needed if column not in columns]:
        used = next((name for sign, name in _SEPARATORS.items() if len(columns) == 1 and sign in columns[0]), None)
        hint = f" Its columns are separated by {used}; save it with commas." if used else ""
        raise ProtocolError(
            f"{path} has no column {', '.join(lacking)}, but {', '.join(columns).expandtabs(1)}.{hint} {wanted}"
        )
    frame.columns = columns
    ours = frame.loc[:, [column in known for column in columns]]  # others may stand twice
    return ours.reindex(columns=known, fill_value=""), unread_columns(columns, known)


def tidy(name: str) -> str:
    """A name as it is compared: without white space around it, letters with accents in one form, -1.0 as -1."""
    name = unicodedata.normalize("NFC", name).strip()
    whole = _WHOLE.fullmatch(name)
    return whole[1] if whole else name
