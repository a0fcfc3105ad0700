"""A re-ID data set on disk as three lists of Records: train, query, gallery.

`ReIDDataset` reads top-down: find the folder, list the files in sorted order, parse pid and camid from the names,
compare the counts with the published ones. A data set states its facts as class attributes and overrides a method only
where its layout is different in kind. File names outside the data set's form never get an identity: they are left out
and named.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.utilities import rank_zero_only

from aaformer_lit.data.counts import Counts, count, unmatched
from aaformer_lit.data.images import UNREAD_SUFFIXES
from aaformer_lit.data.listing import image_files
from aaformer_lit.data.locate import locate
from aaformer_lit.data.remarks import Remark
from aaformer_lit.errors import ProtocolError
from aaformer_lit.structures import Record
from aaformer_lit.utils.collector import collector_paused
from aaformer_lit.utils.text import plural, some

log = logging.getLogger(__name__)
warn = rank_zero_only(log.warning)
count_log = logging.getLogger(f"{__name__}.counts")  # apart, as `prepare` prints a table instead

SPLITS = ("train", "query", "gallery")
MOST_STRAYS = 0.03  # of the images of a folder; with more, the folder is another thing than the data set
DATASETS: dict[str, type[ReIDDataset]] = {}


class ReIDDataset:
    """The records of one data set found under `root`.

    Attributes set by the constructor: `folder` (where it was found), `variant` (a key of `published`), `train`,
    `query`, `gallery` (lists of Record, sorted by path), `as_published` (whether all counts equal the published ones),
    `remarks` (what is odd about the data; each was also logged as a warning), `unused` (why an image file is not used).

    Raises `DatasetNotFoundError` where no folder fits, `ProtocolError` where its files cannot be used.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    folders: ClassVar[tuple[str, ...]] = ()  # names under `root`: the official ones, then ours
    splits: Mapping[str, str] = {  # CUHK03 has them per protocol
        "train": "bounding_box_train",
        "query": "query",
        "gallery": "bounding_box_test",
    }
    pattern: ClassVar[re.Pattern[str]]  # of a file name, with the groups pid and, if cameras are known, camid
    example: ClassVar[str]  # a name of that form, for messages
    junk_pids: ClassVar[frozenset[int]] = frozenset()
    published: ClassVar[Mapping[str, Mapping[str, Counts]]] = {}  # variant -> split -> counts
    images_of: ClassVar[str | None] = None  # another data set of which these images are a new split
    one_numbering: ClassVar[bool] = True  # False: pid 7 of train and pid 7 of query are different people
    camera_names: Mapping[int, str] = {}  # by camid, where the files or rows name cameras otherwise
    draws: int = 0  # single-shot galleries of one image per person to average over; 0: the whole gallery at once
    source: ClassVar[str]  # where to get it, for messages and docs

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in vars(cls):
            DATASETS[cls.name] = cls

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        self.remarks: list[Remark] = []
        self.unused: dict[Path, str] = {}
        self.folder = self.find()
        log.info("%s: %s", self.title, self.folder)
        self.variant = self.detect_variant()
        with collector_paused():
            self.train, self.query, self.gallery = self.index()
            self.as_published = self.verify()

    def find(self) -> Path:
        """The data set's folder under `root`."""
        return locate(self.root, type(self), self.missing)

    def missing(self, folder: Path) -> list[str]:
        """What `folder` lacks to be this data set; nothing if it is one."""
        return [f"{name}/" for name in self.splits.values() if not (folder / name).is_dir()]

    def detect_variant(self) -> str:
        """Which of the published variants the folder is, told by its layout."""
        return next(iter(self.published), "own")

    def index(self) -> tuple[list[Record], list[Record], list[Record]]:
        """Train, query and gallery records, each in the order of the sorted file names."""
        train, query, gallery = (
            self.scan(self.folder / self.splits[split]) if split in self.splits else [] for split in SPLITS
        )
        return train, query, gallery

    @classmethod
    def parse(cls, name: str) -> tuple[int, int] | None:
        """(pid, camid) of a file name; None where the name is not of the data set's form."""
        match = cls.pattern.fullmatch(name)
        return (int(match["pid"]), int(match.groupdict().get("camid", -1))) if match else None

    def files(self, folder: Path) -> Iterable[Path]:
        """All files where a split's images are, in any order."""
        return folder.iterdir()

    def scan(self, folder: Path) -> list[Record]:
        """Records of the images in one folder, junk left out; files named in another form are left out and reported."""
        records, strays = [], []
        files = list(self.files(folder))
        for path in image_files(files):
            parsed = self.parse(path.name)
            if parsed is None:
                strays.append(path.name)
                self.unused[path] = f"not named like {self.example}"
            elif parsed[0] in self.junk_pids:
                self.unused[path] = "junk (pid -1)"
            else:
                records.append(Record(path, *parsed))
        self.leave_out_unread(files)
        self.report_strays(folder, strays, kept=len(records))
        return records

    def remark(self, says: str, items: Iterable[object] = (), effect: str = "") -> None:
        """Keep, and warn of, something odd about the data; files are named by their place in the folder."""
        self.remarks.append(Remark(says, tuple(str(self._inner(item)) for item in items), effect))
        warn("%s: %s", self.title, self.remarks[-1])

    def _inner(self, item: object) -> object:
        is_inside = isinstance(item, Path) and item.is_relative_to(self.folder)
        return item.relative_to(self.folder) if is_inside else item  # type: ignore[attr-defined]

    def leave_out_unread(self, paths: Iterable[Path]) -> None:
        """Note those of the files that are photos in a format that is not read."""
        unread = sorted(path for path in paths if path.name.lower().endswith(UNREAD_SUFFIXES))
        if unread:
            self.unused |= dict.fromkeys(unread, "a format that is not read")
            self.remark(
                f"left out: {plural(len(unread), 'photo')} in a format that is not read",
                unread,
                "Results are those of the other images. Convert them to JPEG or PNG.",
            )

    def report_strays(self, place: Path, strays: Sequence[str], kept: int) -> None:
        """Warn of a stray image or two whose names are not of the form; more of them are an error."""
        if not strays:
            return
        says = f"{plural(len(strays), 'image file')} in {place} not named like {self.example}"
        if len(strays) <= max(1, MOST_STRAYS * (kept + len(strays))) and kept:
            self.remark(f"left out: {says}", strays)
            return
        others = [d for d in DATASETS.values() if d is not type(self) and d.published and d.parse(strays[0])]
        others.sort(key=lambda d: d.images_of is not None)  # the original before what was made of it
        hint = (
            f"Those are names of {' or '.join(d.title for d in others)}: use data={others[0].name}."
            if others
            else "Move them away if they do not belong to it; else rename them, or take the data set as it is released."
        )
        amount = f"{kept:,} of {plural(kept + len(strays), 'image')}" if kept else "nothing"
        raise ProtocolError(f"{amount} to use for {self.title}: {says}: {some(strays)}. {hint}")

    def counts(self) -> dict[str, Counts]:
        """Images, ids and cameras of each split."""
        return {split: count(getattr(self, split)) for split in SPLITS}

    def fingerprint(self) -> dict[str, Any]:
        """What a run's metadata says about the data it used."""
        counts = {split: counts._asdict() for split, counts in self.counts().items()}
        return {"name": self.name, "variant": self.variant, "as_published": self.as_published, "counts": counts}

    def verify(self) -> bool:
        """Warn of whatever is odd about the data; True if all counts are as published."""
        self._verify_test_set()
        self._verify_queries()
        self._verify_identities()
        return self._verify_counts()

    def looks_like(self) -> list[str]:
        """The published data sets and variants that have exactly these counts."""
        found = self.counts()
        return [
            f"{d.name} ({v})" for d in DATASETS.values() for v, counts in d.published.items() if dict(counts) == found
        ]

    def _verify_counts(self) -> bool:
        published = self.published.get(self.variant)
        if not published:
            return False
        found = self.counts()
        if all(found[split] == counts for split, counts in published.items()):
            return True
        rows = [
            f"  {split:8}{found[split]}; published {published[split]}{_same_as(split, found[split], published[split])}"
            for split in published
        ]
        twins = self.looks_like()
        verdict = (
            f"They are the counts of {' and '.join(twins)}." if twins else "Its results do not compare with others."
        )
        says = f"{self.title} at {self.folder} is not as published (variant {self.variant}). {verdict}"
        rank_zero_only(count_log.warning)("\n".join([says, *rows]))
        return False

    def _verify_test_set(self) -> None:
        """A test needs queries and a gallery; own images may have neither, a benchmark always has both."""
        empty = [split for split in ("query", "gallery") if not getattr(self, split)]
        if len(empty) == 1 or (empty and self.published):
            raise ProtocolError(
                f"{self.title} at {self.folder} has no {' and no '.join(empty)} images, so it cannot be tested on. "
                f"Complete {', '.join(f'{self.splits[split]}/' for split in empty)}."
            )

    def _verify_queries(self) -> None:
        absent = sorted({r.pid for r in self.query} - {r.pid for r in self.gallery})
        if absent:
            self.remark(
                f"{plural(len(absent), 'query id')} not in the gallery, so the queries are skipped: pid {some(absent)}"
            )
        lonely = unmatched(self.query, self.gallery)
        if self.query and len(lonely) == len(self.query):
            raise ProtocolError(
                f"{self.title} at {self.folder}: none of the {plural(len(lonely), 'query image')} has a match in the gallery "
                f"(the same pid seen by another camera), so it cannot be tested on. Check pids and camids; where cameras are "
                f"unknown, leave the camid out."
            )
        hopeless = set(absent)
        alone = [r.path.name for r in lonely if r.pid not in hopeless]
        where = "camera or clip" if any(r.sequence >= 0 for r in self.query) else "camera"
        if alone:
            self.remark(
                f"{plural(len(alone), 'query image')} with gallery matches in the same {where} only, so the "
                "queries are skipped",
                alone,
            )

    def _verify_identities(self) -> None:
        if not self.one_numbering:
            return
        both = sorted({r.pid for r in self.train} & {r.pid for r in self.query})
        if both:
            self.remark(
                f"{plural(len(both), 'id')} in both train and query, so the test is not on unseen people: pid {some(both)}"
            )


def _same_as(split: str, found: Counts, expected: Counts) -> str:
    twins = [f"{d.name} ({v})" for d in DATASETS.values() for v, c in d.published.items() if c.get(split) == found]
    return f" <- as in {', '.join(twins)}" if twins and found != expected else ""
