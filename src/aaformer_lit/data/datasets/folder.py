"""One's own images, without writing code: a table of them, or folders.

As a table, CSV or Parquet, in the root or as the root itself (`paths.data=people.csv`):

    path,pid,camid,split            path is relative to the table's folder; split is train, query or gallery;
    img/a.jpg,anna,door,train       pid and camid are numbers or names; camid may be empty or missing

As folders; with `pattern`, a regular expression of the whole file name with groups pid and camid, the pid may be there:

    train/anna/*.jpg                train/anna_door_01.jpg
    query/anna/*.jpg                query/...
    gallery/anna/*.jpg              pattern: '(?P<pid>[a-z]+)_(?P<camid>[a-z]+)_.*'

Without camids (-1) no camera rule applies: every gallery image of the same person is a match, but for the query's own file.
A column or group `sequence` names the clip that an image is a frame of; frames of the query's clip are no answers to it.
People are the same whose names are the same text, or the same number where all names are numbers. What is odd about the
rows is mended or not, and always said (`rows`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from aaformer_lit.data.arguments import Common
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.dataset import SPLITS, ReIDDataset
from aaformer_lit.data.datasets import rows as examine
from aaformer_lit.data.datasets.rows import numbered
from aaformer_lit.data.datasets.table import COLUMNS, Row, read_table
from aaformer_lit.data.file_names import identify, name_pattern
from aaformer_lit.data.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from aaformer_lit.data.listing import behind_links, files_below
from aaformer_lit.data.locate import contents
from aaformer_lit.errors import DatasetNotFoundError, ProtocolError
from aaformer_lit.structures import Record
from aaformer_lit.utils.text import plural, separators_hint, some

TABLE_SUFFIXES = (".csv", ".parquet")
_LAYOUTS = (
    f"{COLUMNS}; or folders train/PID/, query/PID/ and gallery/PID/, or train/, query/ and gallery/ alone where file names say "
    "who it is: data.pattern='(?P<pid>[0-9]+)_.*'."
)


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
            given = Path(self.table).expanduser()
            places = dict.fromkeys([(self.root / given).absolute(), given.absolute()])
            path = next((place for place in places if place.is_file()), None)
            if path is None:
                raise DatasetNotFoundError(
                    f"data.table={self.table}: there is no file {' and none '.join(map(str, places))}. {_LAYOUTS}"
                    f"{separators_hint(given)}"
                )
        elif self.root.is_file():
            path = self.root
        elif any((self.root / split).is_dir() for split in SPLITS):
            return self.root
        else:
            tables = _tables(self.root)
            if len(tables) != 1:
                found = (
                    f"it holds {len(tables)} tables: {some(p.name for p in tables)}" if tables else contents(self.root)
                )
                raise DatasetNotFoundError(
                    f"No images of your own in paths.data={self.root}: {found}. {_LAYOUTS}{separators_hint(self.root)}"
                )
            path = tables[0]
        self.table = path.absolute()
        return path.parent

    def index(self) -> tuple[list[Record], list[Record], list[Record]]:
        rows = self._examined(read_table(Path(self.table), self.remark) if self.table else self._walk())
        pids = numbered((row.pid for row in rows), first=1)  # 0 may stand for distractors (`structures.nobody`)
        camids = numbered(row.camid for row in rows if row.camid) | {"": -1}
        self.camera_names = {camid: name for name, camid in camids.items() if name not in ("", str(camid))}
        # a clip shows one person: clips of the same name are told apart by whom they show
        clips = sorted({(row.pid, row.sequence) for row in rows if row.sequence})
        sequences = {clip: number for number, clip in enumerate(clips)}
        records: dict[str, list[Record]] = {split: [] for split in SPLITS}
        for row in sorted(rows):
            sequence = sequences.get((row.pid, row.sequence), -1)
            records[row.split].append(Record(row.path, pids[row.pid], camids[row.camid], sequence=sequence))
        return records["train"], records["query"], records["gallery"]

    def _examined(self, rows: list[Row]) -> list[Row]:
        """The rows to use; whatever is odd about them is said."""
        files = {row.path: behind_links(row.path, self.folder) for row in rows}
        rows = examine.with_shared_files(rows, files, self.remark)
        self.leave_out_unread({row.path for row in rows})
        rows = [row for row in rows if row.path not in self.unused]
        rows = examine.without_junk(rows, self.unused, self.remark)
        for kind in ("pid", "camid"):
            rows = examine.with_one_spelling(kind, rows, self.remark)
            examine.say_like_missing(kind, rows, self.remark)
        rows = examine.without_copies(rows, self.remark)
        examine.say_cameras(rows, self.remark)
        examine.say_shared(rows, self.remark)
        return rows

    def _walk(self) -> list[Row]:
        """The images below the split folders, those in a format that is not read among them."""
        if tables := _tables(self.folder):
            self.remark(
                f"{plural(len(tables), 'table')} beside the folders {', '.join(SPLITS)}, not read",
                tables,
                f"The folders say who is who, and without data.pattern nothing of cameras. Add data.table={tables[0].name} to "
                "go by the table.",
            )
        rows, strays = [], []
        for split in SPLITS:
            top = self.folder / split
            for path in files_below(top) if top.is_dir() else ():
                if not path.name.lower().endswith((*IMAGE_SUFFIXES, *UNREAD_SUFFIXES)) or path.name.startswith("."):
                    continue
                inner = path.relative_to(top).parts[:-1]
                named = identify(self.name_pattern, path.name, inner[0] if inner else "")
                if named is None or not named[0]:
                    strays.append(path)
                else:
                    pid, camid, sequence = named
                    rows.append(Row.of(path, pid, camid, split, sequence))
        if strays:
            form = self.name_pattern.pattern if self.name_pattern else "a folder per person, or data.pattern"
            says = f"{plural(len(strays), 'image')} of {self.folder} not following {form}"
            names = sorted(str(path.relative_to(self.folder)) for path in strays)
            if not rows:
                raise ProtocolError(f"nothing to use: {says}: {some(names)}. {_LAYOUTS}")
            self.unused |= dict.fromkeys(strays, "its name or place says no person")
            self.remark(f"left out: {says}", names)
        return rows


def _tables(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("[!.]*")) if path.suffix in TABLE_SUFFIXES]


class FolderDataModule(ReIDDataModule):
    """Own images for training and testing; see `ReIDDataModule` for the common arguments."""

    dataset_class = FolderDataset

    def __init__(
        self, root: str | Path, *, table: str | Path | None = None, pattern: str | None = None, **common: Unpack[Common]
    ) -> None:
        super().__init__(root, **common)
        self.options = {"table": table, "pattern": pattern}
