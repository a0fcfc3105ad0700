"""What the service does, without the server: describe pictures, search the gallery, put people in, take them out for good.

The gallery on the disk is the only state. What another process changes there, `extract` say or a second service, is taken
up before the next search or change, so that nobody who was removed is found. Pictures are not kept: an added one leaves its
descriptor, its name and a digest of its content.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from aaformer_lit.errors import AAformerError
from aaformer_lit.gallery import ALL, Crop, Extractor, Gallery, Index, check_same_model, find_calibration, rank
from aaformer_lit.gallery.report import as_json, results_of
from aaformer_lit.gallery.sources import identity
from aaformer_lit.gallery.versions import SWITCH
from aaformer_lit.structures import Pixels

LONGEST_NAME = 200


class Refusal(AAformerError):
    """A request that cannot be answered: what is wrong, what was got, how to fix it; `status` is HTTP's."""

    def __init__(self, status: int, what: str, got: str, fix: str) -> None:
        super().__init__(f"{what}: {got}. {fix}")
        self.status, self.what, self.got, self.fix = status, what, got, fix


@dataclass(frozen=True)
class Arrival:
    """A picture to put in, described already."""

    name: str
    pid: str
    camid: str
    digest: str
    descriptor: Float[Tensor, "tokens dim"]


class Service:
    """A gallery and the network that made it; for several threads at once.

    Args:
        extractor: of the network.
        gallery: opened, or new and empty.
        make_index: makes an empty index; one is filled for each version and token group that is asked for.

    Raises:
        GalleryError: the gallery was made by another model.
    """

    _gallery: Gallery
    _seen: tuple[int, int] | None  # the stamp of its file when it was opened; None where that is not known

    def __init__(self, extractor: Extractor, gallery: Gallery, make_index: Callable[[], Index]) -> None:
        check_same_model(gallery, extractor)
        find_calibration(None, gallery, extractor)  # thresholds that cannot be used are told at the start
        self.extractor, self.layout = extractor, extractor.layout
        self._make_index, self._indexes = make_index, dict[str, Index]()
        # where the caller says that the images lie now, if not where the gallery says
        self._root = None if gallery.root == Path(gallery.about["root"]) else gallery.root
        self._lock = threading.Lock()
        self._use(gallery)
        if len(gallery):
            self._index(ALL)  # an engine that does not answer is told at the start

    def gallery(self) -> Gallery:
        """The gallery as it is on the disk now."""
        with self._lock:
            return self._current()

    def describe(self, pictures: Sequence[Pixels]) -> list[Float[Tensor, "tokens dim"]]:
        """The descriptors of RGB pictures."""
        return list(self.extractor.features(list(pictures)))

    def check_group(self, group: str) -> None:
        """Raise `Refusal` where there is no such group of tokens."""
        if group not in self.layout.groups:
            raise Refusal(
                422, "there is no such group of tokens", group, f"Use one of {', '.join(self.layout.groups)}."
            )

    def features(self, descriptor: Float[Tensor, "tokens dim"], group: str) -> Float[Tensor, " features"]:
        """What is compared of a descriptor."""
        return self.layout.select(descriptor[None], group)[0]

    def search(
        self, descriptor: Float[Tensor, "tokens dim"], k: int, group: str = ALL, camids: Collection[str] | None = None
    ) -> tuple[Gallery, list[dict[str, Any]]]:
        """The k nearest images as `search` lists them in `ranking.json`, and the gallery in which they were found."""
        features = self.features(descriptor, group)
        with self._lock:
            gallery = self._current()
            if not len(gallery):
                return gallery, []
            known = set(gallery.table["camid"])
            if unknown := [camid for camid in camids or () if identity(camid) not in known]:
                shown = ", ".join(sorted(camid or "(unknown)" for camid in known))
                raise Refusal(422, "no image is from that camera", unknown[0], f"The gallery's cameras: {shown}.")
            found = rank(gallery, self._index(group), features[None], k, camids=camids)
        calibration = find_calibration(None, gallery, self.extractor, group)
        content = as_json(gallery, results_of(gallery, [Crop(Path("upload"))], found, calibration), group)
        return gallery, content["results"][0]["answers"]

    def add(self, arrivals: Sequence[Arrival]) -> list[Gallery | Exception]:
        """Put pictures in, as one new version of the gallery, which is on the disk on return; or why one is not in it."""
        with self._lock:
            gallery = self._current()
            problems: list[Refusal | None] = []
            for number, one in enumerate(arrivals):
                problems.append(_problem(gallery, one, {other.name for other in arrivals[:number]}))
            good = [one for one, problem in zip(arrivals, problems, strict=True) if problem is None]
            if good:
                crops = [Crop(gallery.root / one.name, None, one.pid, one.camid) for one in good]
                descriptors = torch.stack([one.descriptor for one in good])
                gallery = self._use(gallery.add(crops, descriptors, [one.digest for one in good]))
            return [problem or gallery for problem in problems]

    def remove(self, *, name: str | None = None, pid: str | None = None) -> tuple[Gallery, int]:
        """Take an image or a person out for good; the gallery, in which they are not any more, and how many images went.

        Raises:
            Refusal: there is no such image or person.
        """
        with self._lock:
            gallery = self._current()
            column, value = ("path", name) if name is not None else ("pid", identity(pid or ""))
            if not value or not (gallery.table[column] == value).any():
                what = "there is no such image" if name is not None else "there is no such person"
                raise Refusal(404, what, str(value), "Give a name or pid as a search answers it.")
            left = gallery.remove(paths=[value]) if name is not None else gallery.remove(pid=value)
            return self._use(left), len(gallery) - len(left)

    def _current(self) -> Gallery:
        stamp = _stamp(self._gallery.folder)
        if stamp != self._seen:
            opened = Gallery.open(self._gallery.folder, self._root)
            check_same_model(opened, self.extractor)
            if opened.revision != self._gallery.revision:
                self._indexes.clear()
            self._gallery, self._seen = opened, stamp
        return self._gallery

    def _use(self, gallery: Gallery) -> Gallery:
        self._indexes.clear()
        stamp = _stamp(gallery.folder)
        # another process may have been quick: then the gallery is opened again before it is used
        self._gallery, self._seen = gallery, stamp if gallery.is_current() else None
        return gallery

    def _index(self, group: str) -> Index:
        if group not in self._indexes:
            self._indexes[group] = self._gallery.indexed(self._make_index(), group)
        return self._indexes[group]


def check_name(name: str) -> str:
    """The name of an image, which stands for a path below the gallery's root. Raises `Refusal`."""
    path = PurePosixPath(name)
    odd = not name.isprintable() or "\\" in name or path.is_absolute() or ".." in path.parts or str(path) != name
    if odd or not 0 < len(name) <= LONGEST_NAME or name == ".":
        raise Refusal(
            422,
            "that is no name of an image",
            repr(name[:LONGEST_NAME]),
            f"Give up to {LONGEST_NAME} printable characters, such as camera1/anna.jpg, without .. and no / at the beginning.",
        )
    return name


def _problem(gallery: Gallery, arrival: Arrival, others: Collection[str]) -> Refusal | None:
    if gallery.was_removed(Crop(gallery.root / arrival.name), arrival.digest):
        return Refusal(
            410, "this picture was removed for good", arrival.name, "It is not taken in again. Leave it out."
        )
    if arrival.name in others:
        return Refusal(409, "another picture of that name is being put in", arrival.name, "Give it another name.")
    return None


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Changes with every change of the gallery, whose `gallery.json` is a new file then; None before the first one."""
    try:
        status = (folder / SWITCH).stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
