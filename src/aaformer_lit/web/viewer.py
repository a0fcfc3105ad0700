"""What the page shows, without a page: the parts of one picture, and who in the gallery looks like it by which of them.

A tile is a picture with a token group: all tokens (the picture itself), one granularity (its partition), one part (where
its token looks). To choose a tile is to rank by that group.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.colors import to_rgb
from torch import Tensor

from aaformer_lit.data.preparation import resize
from aaformer_lit.errors import ConfigError, GalleryError
from aaformer_lit.gallery import (
    ALL,
    NO_ROW,
    Crop,
    Extractor,
    Gallery,
    Index,
    Neighbors,
    check_same_model,
    find_calibration,
    rank,
)
from aaformer_lit.gallery.report import Ranked, pixels_of, results_of, who
from aaformer_lit.structures import Pixels
from aaformer_lit.utils.sequences import spread
from aaformer_lit.utils.text import granularity_names
from aaformer_lit.viz.palette import DECISIONS, VERDICTS, Part, part_tokens
from aaformer_lit.viz.patches import assignment_overlay, attention_overlay, majority

if TYPE_CHECKING:
    from aaformer_lit.metrics.calibration import Decision

MOST = 50  # answers at once
HEIGHT = 320  # of the pictures on the page, whatever the network's size
FRAME = 6
NOBODY = ("", "-1", "0")  # unknown, junk and distractors of the benchmarks
_LABELS = {ALL: "all tokens", "global": "CLS", "parts": "all parts"}


@dataclass(frozen=True)
class Query:
    """A picture, as far as ranking needs it; `row` is its place in the gallery, where it comes from there."""

    descriptor: Float[Tensor, "1 tokens dim"]
    row: int | None = None


@dataclass(frozen=True)
class Tile:
    """A picture with the token group it stands for."""

    picture: Pixels
    label: str
    group: str


@dataclass(frozen=True)
class Answer:
    """An image of the gallery, framed green where it shows the query's person, red where not, gray where nobody knows.

    Where there are thresholds, it stands on a bar in the color of its `decision`.
    """

    picture: Pixels
    caption: str
    row: int
    decision: Decision | None = None


class Viewer:
    """A network with, perhaps, a gallery of its features. Not for several threads at once.

    Args:
        extractor: of the network.
        gallery: made by the same network; None: nothing is ranked.
        index: makes an empty index; one is filled for each token group that is asked for.
        layer: whose parts are shown.
        examples: how many people of the gallery are offered as queries.
        calibration: a file of thresholds; None: the gallery's or the checkpoint's, if any. They are for all tokens together.

    Raises:
        CalibrationError: the thresholds are of another descriptor.
        GalleryError: the gallery was made by another model, or its images are not where it says.
        ConfigError: nothing to show (no parts and no gallery), no such layer, an empty gallery.
    """

    def __init__(
        self,
        extractor: Extractor,
        gallery: Gallery | None = None,
        index: Callable[[], Index] | None = None,
        *,
        layer: int = -1,
        examples: int = 12,
        calibration: str | None = None,
    ) -> None:
        self.extractor, self.gallery, self.layer = extractor, gallery, layer
        self.network = extractor.network
        self.layout = extractor.layout
        self.parts = part_tokens(self.layout.granularities)
        self._make_index, self._indexes = index, dict[str, Index]()
        if gallery is None and not self.parts:
            raise ConfigError(
                f"{type(self.network).__name__} has no parts to show, and there is no gallery to rank. Give gallery=FOLDER, "
                "or a checkpoint of model=aaformer."
            )
        self.cameras: tuple[str, ...] = ()
        self.examples: tuple[int, ...] = ()
        self.calibration = None
        if gallery is not None:
            self._check(gallery)
            self.calibration = find_calibration(calibration, gallery, extractor)
            self.cameras = tuple(sorted(set(gallery.table["camid"]), key=lambda camid: (len(camid), camid)))
            self.examples = _different_people(gallery, examples)
        # a layer that is not there, parts that need masks: now, and not when somebody has dropped a picture
        self.look(np.full((8, 4, 3), 128, dtype=np.uint8))

    def groups(self) -> dict[str, str]:
        """The label of every token group that can be ranked by, by its name in the layout."""
        named = {f"part_{part.token + 1}": part.name for part in self.parts}
        named |= {self._group(name): f"the {len(parts)} parts" for name, parts in self._granularities().items()}
        return {group: (named | _LABELS)[group] for group in self.layout.groups}

    @torch.inference_mode()
    def look(self, pixels: Pixels) -> tuple[Query, list[Tile]]:
        """The network's view of a picture: its descriptor, and the tiles."""
        size = self.extractor.transform.image_size
        image = resize(pixels, (HEIGHT, max(1, round(HEIGHT * size[1] / size[0]))))
        tiles = [Tile(image, "query", ALL)]
        if self.parts:
            levels, subsets = self._maps(pixels)
            tiles += [self._partition(image, subsets, *granularity) for granularity in self._granularities().items()]
            tiles += [self._part(image, levels, subsets, part) for part in self.parts]
        return Query(self.extractor.features([pixels])), tiles

    def look_at(self, row: int) -> tuple[Query, list[Tile]]:
        """`look` at an image of the gallery. Raises `ImageError` where its file is gone."""
        query, tiles = self.look(self._opened().image(row))
        return Query(query.descriptor, row), tiles

    def rank(self, query: Query, group: str = ALL, cameras: Collection[str] | None = None, k: int = 10) -> list[Answer]:
        """The k nearest images of the gallery by one token group, without the query itself.

        Args:
            cameras: only images of these; None: of all.

        Raises:
            ConfigError: no such group or camera, k below 1.
        """
        gallery = self._opened()
        features = gallery.layout.select(query.descriptor, group)
        if group not in self._indexes:
            assert self._make_index is not None
            self._indexes[group] = gallery.indexed(self._make_index(), group)
        # one more, as an image of the gallery finds itself
        found = rank(gallery, self._indexes[group], features, k + (query.row is not None), camids=cameras)
        kept = (found.rows[0] != NO_ROW) & (found.rows[0] != (NO_ROW if query.row is None else query.row))
        rows, distances = found.rows[:, kept][:, :k], found.distances[:, kept][:, :k]
        asked = Crop(gallery.root) if query.row is None else gallery.crop(query.row)
        calibration = self.calibration if group == ALL else None
        (result,) = results_of(gallery, [asked], Neighbors(distances, rows), calibration)
        return [self._answer(place, answer) for place, answer in enumerate(result.answers, start=1)]

    def thumbnail(self, row: int) -> Pixels:
        """An image of the gallery in its own aspect at the page's height; gray where its file is gone."""
        pixels = pixels_of(self._opened().image, row)
        return resize(pixels, (HEIGHT, max(1, round(HEIGHT * pixels.shape[1] / pixels.shape[0]))))

    def person(self, row: int) -> str:
        """Who an image of the gallery shows and who took it, as far as is known."""
        return who(self._opened().crop(row))

    def _check(self, gallery: Gallery) -> None:
        check_same_model(gallery, self.extractor)
        if not len(gallery):
            raise ConfigError(f"the gallery {gallery.folder} is empty. Extract images into it first.")
        if not gallery.root.is_dir():
            raise GalleryError(
                f"the images of {gallery.folder} are not at {gallery.root} any more. Give images=FOLDER."
            )

    def _opened(self) -> Gallery:
        if self.gallery is None:
            raise ConfigError("there is no gallery to rank. Start the page with gallery=FOLDER.")
        return self.gallery

    def _maps(self, pixels: Pixels) -> tuple[np.ndarray | None, np.ndarray]:
        """Attention of each part (mean over heads; None of a network that pools), and its subset in each head."""
        batch = self.extractor.transform(pixels)
        batch = batch[None].to(self.extractor.device)
        attention_maps = getattr(self.network, "part_attention_maps", None)
        if attention_maps is None:
            return None, (self.network.assignments(batch)[-1][0] > 0).cpu().numpy()
        weights, members = attention_maps(batch, self.layer)
        return weights[0].float().mean(dim=0).cpu().numpy(), (members[0] > 0).cpu().numpy()

    def _group(self, name: str) -> str:
        """A token group, or all parts where the descriptor has no such group: the only granularity, or joined parts."""
        return name if name in self.layout.groups else "parts"

    def _granularities(self) -> dict[str, list[Part]]:
        """The parts of each granularity by its name."""
        counts = self.layout.granularities
        groups = [self.parts[end - count : end] for count, end in zip(counts, accumulate(counts), strict=True)]
        return dict(zip(granularity_names(counts), groups, strict=True))

    def _partition(self, image: Pixels, subsets: np.ndarray, name: str, group: list[Part]) -> Tile:
        """Which part most heads give each patch to."""
        votes = subsets.sum(axis=0)[[part.token for part in group]].astype(np.float32)
        picture = assignment_overlay(image, majority(votes), [part.color for part in group], self.network.grid)
        return Tile(picture, f"the {len(group)} parts", self._group(name))

    def _part(self, image: Pixels, levels: np.ndarray | None, subsets: np.ndarray, part: Part) -> Tile:
        """Where the part looks in its subset, or the subset alone."""
        member = np.asarray(subsets[:, part.token].any(axis=0))
        if levels is None:
            picture = assignment_overlay(image, member[None], [part.color], self.network.grid)
        else:
            level = levels[part.token]  # of soft transport, beyond the subset too
            picture = attention_overlay(image, level, member | (level > 0), self.network.grid)
        return Tile(framed(picture, part.color), part.name, self._group(f"part_{part.token + 1}"))

    def _answer(self, place: int, ranked: Ranked) -> Answer:
        row, distance, match, decision = ranked
        color, sign = VERDICTS[match]
        picture = framed(self.thumbnail(row), to_rgb(color))
        if decision is not None:
            picture[-3 * FRAME :] = [round(255 * channel) for channel in to_rgb(DECISIONS[decision])]
        lines = [f"{place}: {distance:.3f}{sign}", decision, self.person(row)]
        return Answer(picture, "\n".join(filter(None, lines)), row, decision)


def framed(picture: Pixels, color: Sequence[float]) -> Pixels:
    """The picture with a colored border around it."""
    rgb = [round(255 * channel) for channel in color]
    return cv2.copyMakeBorder(picture, FRAME, FRAME, FRAME, FRAME, cv2.BORDER_CONSTANT, value=rgb)


def _different_people(gallery: Gallery, count: int) -> tuple[int, ...]:
    """Rows of the gallery, evenly spread, of different people where those are known."""
    known = gallery.table[~gallery.table["pid"].isin(NOBODY)].drop_duplicates("pid")
    rows = (known if len(known) else gallery.table).index
    return tuple(map(int, spread(rows, count)))
