"""The descriptor space as a map: do one person's images lie together?

Distances in such a map are no measurements: t-SNE keeps neighborhoods, not lengths. Numbers come from metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from aaformer_lit.errors import ConfigError
from aaformer_lit.viz.curves import plots
from aaformer_lit.viz.figure import bare, styled
from aaformer_lit.viz.images import Array, as_array
from aaformer_lit.viz.palette import BASE_COLORS, UNKNOWN

Points = Float[NDArray[np.float32], "images 2"]
MARKERS = "os^DvP"
MIN_IMAGES = 4


def project(features: Float[Array, "images dim"], *, seed: int = 0) -> Points:
    """Features to the plane by t-SNE; the same seed gives the same map.

    Raises ConfigError for fewer than 4 images, and where all features are equal.
    """
    from sklearn.manifold import TSNE  # takes a second

    values = as_array(features).astype(np.float32)
    if len(values) < MIN_IMAGES:
        raise ConfigError(f"an embedding map needs at least {MIN_IMAGES} images; got {len(values)}. Give more images.")
    if (values == values[0]).all():  # t-SNE ends the process
        raise ConfigError(
            f"the {len(values)} descriptors are all equal, so there is no map of them. Look at the training: the network "
            "answers the same to every image."
        )
    perplexity = min(30.0, (len(values) - 1) / 3)
    model = TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(model.fit_transform(values), np.float32)


@styled
def embedding_map(
    points: Float[Array, "images 2"],
    pids: Int[Array, " images"],
    *,
    max_ids: int = 20,
    title: str | None = "Embedding",
) -> Figure:
    """Points of the plane colored by person; up to 60 people have a color and marker of their own, and their pid.

    The `max_ids` people with most images stand out, the others are small and gray. Raises ValueError for more than 60.
    """
    places, people = as_array(points), as_array(pids)
    if not 0 <= max_ids <= len(BASE_COLORS) * len(MARKERS):
        raise ValueError(f"{max_ids} people cannot be told apart. Use max_ids <= {len(BASE_COLORS) * len(MARKERS)}.")
    ids, counts = np.unique(people, return_counts=True)
    # the most frequent first, of equally frequent ones the lower pid
    shown = ids[np.argsort(-counts, kind="stable")][:max_ids]
    figure, (axes,) = plots(1, title=title, size=(5.4, 5.0))
    rest = places[~np.isin(people, shown)]
    if len(rest):
        label = f"{len(ids) - len(shown)} other people"
        axes.scatter(rest[:, 0], rest[:, 1], s=6, color=UNKNOWN, alpha=0.5, linewidth=0, label=label)
        axes.legend(loc="best")
    centers = {}
    for number, pid in enumerate(np.sort(shown)):
        own = places[people == pid]
        color, marker = BASE_COLORS[number % len(BASE_COLORS)], MARKERS[number // len(BASE_COLORS)]
        axes.scatter(own[:, 0], own[:, 1], s=26, color=color, marker=marker, edgecolor="white", linewidth=0.5)
        x, y = np.median(own, axis=0)
        centers[str(pid)] = (float(x), float(y)), color
    bare(axes)
    axes.spines[:].set_visible(True)
    _name(figure, axes, centers)
    return figure


def _name(figure: Figure, axes: Axes, centers: Mapping[str, tuple[tuple[float, float], str]]) -> None:
    """Each name near its place, framed in its color, where it covers none of the names before it."""
    figure.draw_without_rendering()  # lays the axes out, which says where names would overlap
    taken: list[Bbox] = []
    for name, (center, color) in centers.items():
        frame = {"boxstyle": "square,pad=0.15", "facecolor": "#ffffffcc", "edgecolor": color, "linewidth": 1}
        label = axes.annotate(
            name, center, (0, 0), "data", "offset points", fontsize=7, ha="center", va="center", bbox=frame
        )
        label.set_in_layout(False)
        for radius, angle in product((11, 18, 27, 38, 51), np.arange(1, 9) * np.pi / 4):
            label.xyann = radius * np.cos(angle), radius * np.sin(angle)
            box = label.get_window_extent().padded(3)
            if axes.bbox.count_contains(box.corners()) == 4 and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
