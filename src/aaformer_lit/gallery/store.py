"""A gallery on disk: a table of person images and their descriptors, to open, to add to and to remove from.

Removing is for good: the next version is written without the rows, and the files of all others, indexes with them, are
deleted. Copies outside (a vector engine) are recorded in `gallery.json` before they are made, and lose the rows before
the gallery does. What remains of a removed image is a digest of its file, so that the next extraction does not take it up
again.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aaformer_lit.errors import GalleryError, NumericsError, check_choice
from aaformer_lit.gallery.digests import removal
from aaformer_lit.gallery.index.base import Index, IndexStorage
from aaformer_lit.gallery.index.qdrant import Qdrant
from aaformer_lit.gallery.layout import ALL, Layout
from aaformer_lit.gallery.sources import Crop, Frames, identity
from aaformer_lit.gallery.versions import (
    FORMAT,
    SWITCH,
    foreign,
    frame,
    locked,
    read_switch,
    read_version,
    sweep,
    write_switch,
    write_version,
)
from aaformer_lit.structures import Pixels

DTYPES = {"float32": torch.float32, "float16": torch.float16}
Key = tuple[str, int, int, int, int]


@dataclass(frozen=True)
class Rows:
    """The features of one token group, computed from the stored descriptors for the rows that are asked for."""

    descriptors: Float[Tensor, "images tokens dim"]
    layout: Layout
    group: str = ALL

    def __len__(self) -> int:
        return len(self.descriptors)

    def __getitem__(self, rows: slice | Tensor) -> Float[Tensor, "rows features"]:
        return self.layout.select(self.descriptors[rows], self.group)


class Gallery:
    """An open gallery; made by `open` and `create`.

    `table` and `descriptors` are those of one version, and stay so while other processes change the folder.

    Args:
        folder: where it is.
        about: the content of `gallery.json`.
        table: one row per person image.
        descriptors: (images, tokens, dim), not normalized.
        root: where the images are now, if they have moved since.
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        table: pd.DataFrame,
        descriptors: Float[Tensor, "images tokens dim"],
        root: str | Path | None = None,
    ) -> None:
        self.folder, self.about, self.table, self.descriptors = folder, dict(about), table, descriptors
        self.layout = Layout.from_dict(about["layout"])
        self.root = Path(root or about["root"])
        self._frames, self._removed = Frames(), frozenset(about["removed"])

    @classmethod
    def create(
        cls,
        folder: str | Path,
        *,
        fingerprint: str,
        layout: Layout,
        root: str | Path,
        dtype: str = "float32",
        **facts: object,
    ) -> Gallery:
        """A new, empty gallery; nothing is written before the first `add`.

        Args:
            folder: missing, or empty.
            fingerprint: of the extractor.
            layout: of the extractor.
            root: folder that the paths in the table start from, where the images are below it.
            dtype: of the stored descriptors, float32 or float16.
            facts: what else `gallery.json` shall say, such as the checkpoint's path.

        Raises:
            ConfigError: an unknown dtype.
            GalleryError: the folder holds something else, or is a file.
        """
        folder = Path(folder)
        check_choice("dtype", dtype, DTYPES)
        if folder.exists() and not folder.is_dir():
            raise GalleryError(f"{folder} is a file, and a gallery is a folder. Give a new folder.")
        if others := foreign(folder):
            raise GalleryError(f"{folder} is no gallery, and not empty ({others[0]}). Give a new folder.")
        about = {
            "format": FORMAT, "version": 0, "name": uuid.uuid4().hex, "fingerprint": fingerprint, "dtype": dtype,
            "layout": layout.as_dict(), "root": str(Path(root).absolute()), "images": 0, "next_id": 0,
            "copies": [], "removed": [],
        }  # fmt: skip
        empty = torch.zeros(0, layout.tokens, layout.dim, dtype=DTYPES[dtype])
        return cls(folder, about | facts, frame([]), empty)

    @classmethod
    def open(cls, folder: str | Path, root: str | Path | None = None) -> Gallery:
        """The gallery in a folder. Raises `GalleryError` where there is none, one that cannot be read, or no such root."""
        folder = Path(folder)
        if root is not None and not Path(root).is_dir():
            raise GalleryError(f"there is no folder {root}. Give the one in which the gallery's images lie now.")
        return cls(folder, *read_version(folder), root)

    @staticmethod
    def exists(folder: str | Path) -> bool:
        """Whether there is a gallery in the folder."""
        return Path(folder, SWITCH).is_file()

    def __len__(self) -> int:
        return len(self.table)

    @property
    def version(self) -> int:
        """How often the gallery was changed."""
        return int(self.about["version"])

    @property
    def revision(self) -> tuple[str, int]:
        """Which gallery, and which version of it: what has the same revision has the same rows."""
        return self.about["name"], self.version

    def is_current(self) -> bool:
        """Whether the folder still holds this version."""
        return self._recorded() is not None

    @property
    def ids(self) -> Int[np.ndarray, " images"]:
        """A number for each row that stays with this image and this content, and is never given again."""
        ids: np.ndarray = self.table["id"].to_numpy()
        return ids

    def features(self, group: str = ALL) -> Float[Tensor, "images features"]:
        """The features of a token group as they are compared: float32, normalized where the network's are."""
        return self.rows(group)[:]

    def rows(self, group: str = ALL) -> Rows:
        """The same without computing all at once. Raises `ConfigError` where there is no such group."""
        self.layout.members(group)
        return Rows(self.descriptors, self.layout, group)

    def crop(self, row: int) -> Crop:
        """Where the person image of a row is."""
        entry = self.table.iloc[row]
        box = None if pd.isna(entry["w"]) else tuple(int(entry[name]) for name in "xywh")
        return Crop(self.root / entry["path"], box, entry["pid"], entry["camid"])  # type: ignore[arg-type]

    def image(self, row: int) -> Pixels:
        """The pixels of a row. Raises `ImageError` where the file is gone."""
        return self._frames(self.crop(row))

    def key(self, crop: Crop) -> Key:
        """What makes a person image another one: its file, seen from the gallery's root, and its box."""
        path = Path(os.path.abspath(crop.path))
        root = Path(os.path.abspath(self.root))
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        return (name, *(crop.box or (-1, -1, -1, -1)))

    def keys(self) -> dict[Key, int]:
        """The row of every image."""
        columns = [self.table["path"], *(self.table[name].fillna(-1).astype(int) for name in "xywh")]
        return {key: row for row, key in enumerate(zip(*columns, strict=True))}

    def add(
        self, crops: Sequence[Crop], descriptors: Float[Tensor, "images tokens dim"], hashes: Sequence[str]
    ) -> Gallery:
        """The next version, with these images; those that are there already are replaced, and get new ids.

        Args:
            crops: the images.
            descriptors: theirs, from the extractor of this gallery's fingerprint.
            hashes: digests of the files' content.

        Raises:
            NumericsError: a descriptor that the gallery's dtype cannot hold.
            GalleryError: another process has changed the gallery since it was opened.
        """
        stored = descriptors.to(DTYPES[self.about["dtype"]])
        if not stored.isfinite().all():
            raise NumericsError(f"some descriptors do not fit into {self.about['dtype']}. Extract with dtype=float32.")
        keys, first = [self.key(crop) for crop in crops], self.about["next_id"]
        entries = [
            (first + i, key[0], *(key[1:] if crop.box else (None,) * 4), crop.pid, crop.camid, digest)
            for i, (key, crop, digest) in enumerate(zip(keys, crops, hashes, strict=True))
        ]
        there = self.keys()
        replaced = [there[key] for key in keys if key in there]
        mask = np.ones(len(self), dtype=bool)
        mask[replaced] = False
        table = pd.concat([self.table[mask], frame(entries)], ignore_index=True)
        joined = torch.cat([self.descriptors[torch.from_numpy(mask)], stored])
        with self._changing():
            self._recall(self.ids[~mask])
            return self._commit(table, joined, next_id=first + len(entries))

    def relabel(self, crops: Sequence[Crop]) -> Gallery:
        """The next version, with the pids and camids that these images have now; their features stay."""
        table, there = self.table.copy(), self.keys()
        rows = [there[self.key(crop)] for crop in crops]
        table.loc[rows, "pid"] = [crop.pid for crop in crops]
        table.loc[rows, "camid"] = [crop.camid for crop in crops]
        with self._changing():
            return self._commit(table, self.descriptors)

    def remove(self, *, paths: Sequence[str | Path] = (), pid: str | int | None = None) -> Gallery:
        """The next version, without these images (with all boxes in them), or without this person: gone from the disk.

        Args:
            paths: as in the table; one that is not there, as it is in the file system.
            pid: the person; all images of it are removed.

        Raises:
            GalleryError: no such image or person, the gallery was changed meanwhile, or a vector engine that holds a copy
                does not answer; nothing is removed then.
            StorageError: the gallery is without them, but the old version's files could not be deleted.
        """
        with self._changing():
            if self.version:  # what a removal that was killed has left
                sweep(self.folder, {SWITCH, self.about["table"], self.about["features"], self._index_folder.name})
            gone = self._named(paths, pid)
            self._recall(self.ids[gone])
            boxes = [self.crop(row).box for row in gone.nonzero()[0].tolist()]
            digests = map(removal, self.table["hash"][gone], boxes)
            return self._commit(
                self.table[~gone].reset_index(drop=True),
                self.descriptors[torch.from_numpy(~gone)],
                removed=sorted({*self.about["removed"], *digests}),
            )

    def was_removed(self, crop: Crop, digest: str) -> bool:
        """Whether this image was removed for good, under whatever name."""
        return removal(digest, crop.box) in self._removed

    def with_calibration(self, calibration: Mapping[str, Any]) -> Gallery:
        """The same version, with thresholds for its descriptors in `gallery.json` (`CalibrationRecord.as_dict`)."""
        with self._changing():
            about = self.about | {"calibration": dict(calibration)}
            write_switch(self.folder, about)
        return Gallery(self.folder, about, self.table, self.descriptors, self.root)

    def indexed(self, index: Index, group: str = ALL) -> Index:
        """Fill an index with the features of a token group; `index.search` then speaks of rows of `table`.

        Raises:
            GalleryError: the index keeps features outside of this process, and another process has changed the gallery.
        """
        # nobody is removed while features go to another place
        with locked(self.folder) if index.outside is None else self._changing():
            if index.outside is not None and dict(index.outside) not in self.about["copies"]:
                # recorded before it is made: a removal must know of every copy
                self.about["copies"] = [*self.about["copies"], dict(index.outside)]
                write_switch(self.folder, self.about)
            index.fit(self.rows(group), self.ids, IndexStorage(self._index_folder, self._shelf(group)))
            if self._index_folder.exists() and not self.is_current():
                shutil.rmtree(self._index_folder)  # of an old version, whose files are deleted already
                raise self._was_changed()
        return index

    @property
    def _index_folder(self) -> Path:
        return self.folder / f"index-{self.version:06d}"

    def _shelf(self, group: str) -> str:
        return f"aaformer-{self.about['name']}-{group}"

    def _named(self, paths: Sequence[str | Path], pid: str | int | None) -> Bool[np.ndarray, " images"]:
        """The rows of these paths and of this person. Raises `GalleryError` where there are none."""
        chosen = np.zeros(len(self), dtype=bool)
        for path in paths:
            rows = self.table["path"] == str(path)
            if not rows.any():
                rows = self.table["path"] == self.key(Crop(Path(path)))[0]
            if not rows.any():
                raise GalleryError(
                    f"there is no image {path} in {self.folder}. Its table lists paths below {self.root}."
                )
            chosen |= rows.to_numpy(dtype=bool)
        if pid is not None:
            rows = self.table["pid"] == identity(str(pid))
            if not str(pid) or not rows.any():  # the empty pid is that of everybody who is not known
                raise GalleryError(f"nobody in {self.folder} has pid {str(pid)!r}. Its table lists the pids.")
            chosen |= rows.to_numpy(dtype=bool)
        return chosen

    def _recall(self, ids: Int[np.ndarray, " gone"]) -> None:
        """Take rows out of the copies outside, before they leave the gallery: a copy never holds more than it."""
        if len(ids):
            for place in self.about["copies"]:
                copies(place).forget([self._shelf(group) for group in self.layout.groups], ids)

    def _commit(self, table: pd.DataFrame, descriptors: Tensor, **facts: object) -> Gallery:
        """The next version, on the disk."""
        about = self.about | facts | {"root": str(self.root.absolute())}
        about = write_version(self.folder, about, table, descriptors)
        return Gallery(self.folder, about, table, descriptors, self.root)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone with the folder. Raises `GalleryError` where it holds another version."""
        with locked(self.folder):
            recorded = self._recorded()
            if recorded is None:
                raise self._was_changed()
            self.about = recorded  # with copies and thresholds since, which make no new version
            yield

    def _recorded(self) -> dict[str, Any] | None:
        """`gallery.json` as it is now; None where it is not of this revision."""
        if not self.exists(self.folder):
            return None if self.version else self.about
        about = read_switch(self.folder)
        return about if (about["name"], about["version"]) == self.revision else None

    def _was_changed(self) -> GalleryError:
        return GalleryError(
            f"{self.folder} was changed by another process since it was opened (as version {self.version}). Start again."
        )


def copies(place: Mapping[str, str]) -> Qdrant:
    """The engine of a recorded place."""
    if place["engine"] != "qdrant":
        raise GalleryError(f"the gallery has a copy in {place['engine']}, which this version does not know. Update it.")
    return Qdrant(place["url"])
