"""What is odd about the rows of one's own images, mended where there is one way to, and always said.

Each rule is a function of the rows: it returns those to go on with and adds its remark. The numbers of a test depend on who is
the same person, which camera saw whom and what is in the gallery; so whatever changes one of these has its count here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from aaformer_lit.data.datasets.table import Row, Say
from aaformer_lit.errors import ProtocolError
from aaformer_lit.utils.text import plural, some

JUNK = "-1"
_NUMBER = re.compile(r"[0-9]{1,18}")
_LIKE_MISSING = {"na", "n/a", "nan", "none", "null", "unknown", "?", "-"}


def numbered(names: Iterable[str], first: int = 0) -> dict[str, int]:
    """A number for each name: the number that it is if all are, else its place in the sorted names, counted from `first`."""
    distinct = sorted(set(names))
    if all(_NUMBER.fullmatch(name) for name in distinct):
        return {name: int(name) for name in distinct}
    return {name: number for number, name in enumerate(distinct, first)}


def without_junk(rows: Sequence[Row], unused: dict[Path, str], say: Say) -> list[Row]:
    """Junk (pid -1) belongs to nobody, here as in the benchmarks."""
    junk = [row for row in rows if row.pid == JUNK]
    if junk:
        unused |= {row.path: "junk (pid -1)" for row in junk}
        say(
            f"left out: {plural(len(junk), 'image')} with pid -1, which stands for junk: neither right nor wrong",
            (row.path for row in junk),
            "Give them another pid if they show a person to be found.",
        )
    return [row for row in rows if row.pid != JUNK]


def with_shared_files(rows: Sequence[Row], files: Mapping[Path, Path], say: Say) -> list[Row]:
    """A file that several splits lead to, over links, has one path in all of them; `files` are those behind the paths."""
    splits: dict[Path, set[str]] = defaultdict(set)
    names: dict[tuple[Path, str], set[Path]] = defaultdict(set)
    for row in rows:
        splits[files[row.path]].add(row.split)
        names[files[row.path], row.split].add(row.path)
    shared = {path: file for path, file in files.items() if len(splits[file]) > 1}
    several = sorted(
        path
        for (file, _), paths in names.items()
        if len(splits[file]) == 1 and len(paths) > 1
        for path in paths - {file}
    )
    if several:
        say(
            f"{plural(len(several), 'link')} to another image of the same split, counted beside it",
            several,
            "Remove them: an image that is there twice weighs twice in training, and changes mAP in a gallery.",
        )
    return [row._replace(path=shared.get(row.path, row.path)) for row in rows]


def without_copies(rows: Sequence[Row], say: Say) -> list[Row]:
    """Each image once in its split. Raises `ProtocolError` where one image is two people, or of two cameras."""
    first: dict[tuple[Path, str], Row] = {}
    copies = []
    identity: dict[Path, Row] = {}
    for row in rows:
        known = identity.setdefault(row.path, row)
        if known._replace(split=row.split) != row:
            raise ProtocolError(
                f"{row.path} is listed as {_who(known)} and as {_who(row)}. One image shows one person, by one camera, in one "
                "clip: correct the rows."
            )
        if first.setdefault((row.path, row.split), row) is not row:
            copies.append(row)
    if copies:
        say(
            f"{plural(len(copies), 'row')} left out, which list an image of their split again",
            (row.path for row in copies),
            "Counted twice, an image would weigh twice in training, and a copy in the gallery would change mAP.",
        )
    return list(first.values())


def with_one_spelling(kind: str, rows: Sequence[Row], say: Say) -> list[Row]:
    """Pids or camids that are numbers, all of them, without leading zeros; names that differ in their case alone are said."""
    spellings: dict[str, list[str]] = defaultdict(list)
    distinct = sorted({name for row in rows if (name := getattr(row, kind))})
    all_numbers = all(_NUMBER.fullmatch(name) for name in distinct)
    for name in distinct:
        spellings[str(int(name)) if all_numbers else name.casefold()].append(name)
    groups = [" = ".join(group) if all_numbers else " / ".join(group) for group in spellings.values() if len(group) > 1]
    if groups and all_numbers:
        say(
            f"{plural(len(groups), kind)} written in several ways, counted as one number each",
            groups,
            f"If they are different, add a letter to each {kind}: then they are compared as text.",
        )
    elif groups:
        say(
            f"{plural(len(groups), kind)} written in several ways, counted as different",
            groups,
            "If they are the same, write them alike: now their images are wrong answers to each other."
            if kind == "pid"
            else "If they are the same, write them alike: now images of one camera count as answers of another.",
        )
    if not all_numbers:
        return list(rows)
    number = {name: str(int(name)) for name in distinct} | {"": ""}
    if kind == "pid":
        return [row._replace(pid=number[row.pid]) for row in rows]
    return [row._replace(camid=number[row.camid]) for row in rows]


def say_like_missing(kind: str, rows: Sequence[Row], say: Say) -> None:
    """Names that other programs write for a missing value."""
    named = [name for row in rows if (name := getattr(row, kind)).casefold() in _LIKE_MISSING]
    if named:
        meaning = "a person of that name" if kind == "pid" else "a camera of that name"
        remedy = "leave their rows out, or give them pid -1" if kind == "pid" else "leave the camid empty"
        say(
            f"{plural(len(named), 'image')} with the {kind} {some(sorted(set(named)))}, read as {meaning}",
            (),
            f"If it stands for unknown, {remedy}.",
        )


def say_cameras(rows: Sequence[Row], say: Say) -> None:
    """Cameras that some of the images lack, or that query and gallery do not share, switch the camera rule off."""
    tested = [row for row in rows if row.split != "train"]
    without = [row for row in tested if not row.camid]
    if without and len(without) < len(tested):
        say(
            f"{len(without):,} of {plural(len(tested), 'test image')} without a camid, to which the camera rule does not apply",
            (row.path for row in without),
            "They count as answers also to queries of their own camera, so results come out higher than they are. Give every "
            "test image its camid, or none of them.",
        )
    cameras = {split: {row.camid for row in rows if row.split == split} - {""} for split in ("query", "gallery")}
    if all(cameras.values()) and cameras["query"].isdisjoint(cameras["gallery"]):
        say(
            f"no camera of the queries ({some(sorted(cameras['query']))}) is among those of the gallery "
            f"({some(sorted(cameras['gallery']))}), so the camera rule leaves nothing out",
            (),
            "That is right if they are different cameras; if not, write them alike in both splits.",
        )


def say_shared(rows: Sequence[Row], say: Say) -> None:
    """Files that are in two splits."""
    files = {split: {row.path for row in rows if row.split == split} for split in ("train", "query", "gallery")}
    itself = sorted(files["query"] & files["gallery"])
    if itself:
        say(
            f"{plural(len(itself), 'query image')} in the gallery too",
            itself,
            "An image is never an answer to itself: it is left out of its own ranking, and stays in all others.",
        )
    leaked = sorted(files["train"] & (files["query"] | files["gallery"]))
    if leaked:
        say(
            f"{plural(len(leaked), 'test image')} trained on",
            leaked,
            "Results come out higher than they are. Take them out of one of the splits.",
        )


def _who(row: Row) -> str:
    clip = f", sequence {row.sequence}" if row.sequence else ""
    return f"pid {row.pid}, camid {row.camid or '(none)'}{clip}"
