"""One's own images, without writing code: a table of them, or folders.

As a table, CSV or Parquet, in the root or as the root itself (`paths.data=people.csv`):

    path,pid,camid,split            path is relative to the table's folder; split is train, query or gallery;
    img/a.jpg,anna,door,train       pid and camid are numbers or names; camid may be empty or missing

As folders; with `pattern`, a regular expression of the whole file name with groups pid and camid, the pid may be there:

    train/anna/*.jpg                train/anna_door_01.jpg
    query/anna/*.jpg                query/...
    gallery/anna/*.jpg              pattern: '(?P<pid>[a-z]+)_(?P<camid>[a-z]+)_.*'

Without camids (-1) no camera rule applies: every gallery image of the same person is a match.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.dataset import SPLITS, ReIDDataset, image_files, warn
from aaformer_lit.data.locate import contents
from aaformer_lit.errors import ConfigError, DatasetNotFoundError, ProtocolError
from aaformer_lit.structures import Record
from aaformer_lit.utils.text import plural, some

TABLE_SUFFIXES = (".csv", ".parquet")
_LAYOUTS = (
    "Give a .csv or .parquet table with the columns path, pid, split (train, query, gallery) and, if known, camid; or folders "
    "train/PID/, query/PID/ and gallery/PID/."
)


class Row(NamedTuple):
    """One image as its owner names it; an empty camid is an unknown camera."""

    path: Path
    pid: str
    camid: str
    split: str


class FolderDataset(ReIDDataset):
    """Own images. `table`: a CSV or Parquet file, relative to the root; `pattern`: of whole file names in folders."""

    name = "folder"
    title = "Own images"
    splits: Mapping[str, str] = {split: split for split in SPLITS}
    source = "your own images, see docs/datasets.md for the layout"

    def __init__(self, root: str | Path, table: str | Path | None = None, pattern: str | None = None) -> None:
        self.table = table
        self.name_pattern = name_pattern(pattern)
        super().__init__(root)

    @classmethod
    def parse(cls, name: str) -> tuple[int, int] | None:
        """Nothing: a file name alone says nothing here."""
        return None

    def find(self) -> Path:
        """The folder of the table, or the one with the split folders."""
        if self.table is not None:
            path = self.root / Path(self.table).expanduser()
            if not path.is_file():
                raise DatasetNotFoundError(f"data.table={self.table}: there is no file {path}. {_LAYOUTS}")
        elif self.root.is_file():
            path = self.root
        elif any((self.root / split).is_dir() for split in SPLITS):
            return self.root
        else:
            tables = [p for p in sorted(self.root.glob("*")) if p.suffix in TABLE_SUFFIXES]
            if len(tables) != 1:
                found = (
                    f"it holds {len(tables)} tables: {some(p.name for p in tables)}" if tables else contents(self.root)
                )
                raise DatasetNotFoundError(f"No images of your own in paths.data={self.root}: {found}. {_LAYOUTS}")
            path = tables[0]
        self.table = path.absolute()
        return path.parent

    def index(self) -> tuple[list[Record], list[Record], list[Record]]:
        rows = read_table(Path(self.table)) if self.table else self._walk()
        _check_files(rows)
        pids = numbered(row.pid for row in rows)
        camids = numbered(row.camid for row in rows if row.camid) | {"": -1}
        records: dict[str, list[Record]] = {split: [] for split in SPLITS}
        for row in sorted(rows):
            records[row.split].append(Record(row.path, pids[row.pid], camids[row.camid]))
        return records["train"], records["query"], records["gallery"]

    def _walk(self) -> list[Row]:
        """The images below the split folders."""
        rows, strays = [], []
        for split in SPLITS:
            for place, _, _ in os.walk(self.folder / split):
                inner = Path(place).relative_to(self.folder / split).parts
                for path in image_files(Path(place)):
                    named = self._named(path.name, inner[0] if inner else "")
                    if named is None:
                        strays.append(str(path.relative_to(self.folder)))
                    else:
                        rows.append(Row(path, *named, split))
        if strays:
            form = self.name_pattern.pattern if self.name_pattern else "a folder per person, or data.pattern"
            says = f"{plural(len(strays), 'image')} of {self.folder} not following {form}: {some(sorted(strays))}."
            if not rows:
                raise ProtocolError(f"nothing to use: {says} {_LAYOUTS}")
            warn("left out: %s", says)
        return rows

    def _named(self, name: str, folder: str) -> tuple[str, str] | None:
        """(pid, camid) of a file; the pattern's pid goes before the folder's name."""
        named = identify(self.name_pattern, name, folder)
        return named if named and named[0] else None


def name_pattern(pattern: str | None) -> re.Pattern[str] | None:
    """The compiled `data.pattern`. Raises `ConfigError` for one that does not compile or names neither pid nor camid."""
    if not pattern:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as cause:
        raise ConfigError(f"data.pattern={pattern!r} is no regular expression: {cause}.") from cause
    if not {"pid", "camid"} & set(compiled.groupindex):
        raise ConfigError(f"data.pattern={pattern!r} has no group named pid or camid, e.g. (?P<pid>[0-9]+)_.*")
    return compiled


def identify(pattern: re.Pattern[str] | None, name: str, folder: str = "") -> tuple[str, str] | None:
    """(pid, camid) that a file's name says, "" where it does not; None where it is not of the pattern's form.

    `folder` stands for the pid where the pattern has none.
    """
    groups: dict[str, str] = {}
    if pattern is not None:
        match = pattern.fullmatch(name)
        if match is None:
            return None
        groups = match.groupdict(default="")
    return groups.get("pid", folder), groups.get("camid", "")


def read_table(path: Path) -> list[Row]:
    """The rows of a CSV or Parquet table. Raises `ProtocolError` where a column, a value or a file is missing."""
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    except (ValueError, OSError) as cause:  # pandas' and pyarrow's parser errors are ValueErrors
        raise ProtocolError(f"{path} cannot be read as a table: {cause}. {_LAYOUTS}") from cause
    lacking = [column for column in ("path", "pid", "split") if column not in frame]
    if lacking:
        raise ProtocolError(f"{path} has no column {', '.join(lacking)}, but {', '.join(map(str, frame))}. {_LAYOUTS}")
    if "camid" not in frame:
        frame["camid"] = ""
    frame = frame[["path", "pid", "camid", "split"]].convert_dtypes().astype("string").fillna("")
    rows = []
    for number, (file, pid, camid, split) in enumerate(frame.itertuples(index=False), start=1):
        if not file or not pid or split not in SPLITS:
            raise ProtocolError(
                f"row {number} of {path} has path {file!r}, pid {pid!r} and split {split!r}. Give every image a path, a pid "
                f"and one of {', '.join(SPLITS)}; leave out images that belong to nobody."
            )
        rows.append(Row(path.parent / file, pid, "" if camid == "-1" else camid, split))
    return rows


def numbered(names: Iterable[str]) -> dict[str, int]:
    """A number for each name: the number that it is if all are, else its place in the sorted names."""
    distinct = sorted(set(names))
    if all(name.isascii() and name.isdecimal() for name in distinct):
        return {name: int(name) for name in distinct}
    return {name: number for number, name in enumerate(distinct)}


def _check_files(rows: Sequence[Row]) -> None:
    listed = {
        folder: set(os.listdir(folder)) if folder.is_dir() else set() for folder in {row.path.parent for row in rows}
    }
    absent = [row.path for row in rows if row.path.name not in listed[row.path.parent]]
    if absent:
        raise ProtocolError(
            f"{len(absent):,} of {len(rows):,} listed images do not exist: {some(absent, 3)}. "
            f"Paths are relative to the table."
        )


class FolderDataModule(ReIDDataModule):
    """Own images for training and testing; see `ReIDDataModule` for the common arguments."""

    dataset_class = FolderDataset

    def __init__(
        self, root: str | Path, *, table: str | Path | None = None, pattern: str | None = None, **common: Any
    ) -> None:
        super().__init__(root, **common)
        self.table, self.pattern = table, pattern

    def open(self) -> FolderDataset:
        return FolderDataset(self.root, self.table, self.pattern)
