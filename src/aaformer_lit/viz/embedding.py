"""The descriptor space as a map: do one person's images lie together?

Distances in such a map are no measurements: t-SNE and UMAP keep neighborhoods, not lengths. Numbers come from metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from aaformer_lit.errors import ConfigError, check_choice
from aaformer_lit.viz.curves import plots
from aaformer_lit.viz.figure import bare, styled
from aaformer_lit.viz.images import Array, as_array
from aaformer_lit.viz.palette import BASE_COLORS, UNKNOWN

Points = Float[NDArray[np.float32], "images 2"]
Features = Float[NDArray[np.float32], "images dim"]
MARKERS = "os^DvP"
MIN_IMAGES = 4
HALO = withStroke(linewidth=2, foreground="white")


def project(features: Float[Array, "images dim"], *, method: str = "tsne", seed: int = 0) -> Points:
    """Features to the plane by `tsne` (scikit-learn) or `umap` (umap-learn); the same seed gives the same map.

    Raises ConfigError for another method, for a package that is not installed, for fewer than 4 images, and where all
    features are equal.
    """
    check_choice("the embedding's method", method, METHODS)
    values = as_array(features).astype(np.float32)
    if len(values) < MIN_IMAGES:
        raise ConfigError(f"an embedding map needs at least {MIN_IMAGES} images; got {len(values)}. Give more images.")
    if (values == values[0]).all():  # t-SNE ends the process
        raise ConfigError(
            f"the {len(values)} descriptors are all equal, so there is no map of them. Look at the training: the network "
            "answers the same to every image."
        )
    return METHODS[method](values, seed)


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
        axes.scatter(
            rest[:, 0],
            rest[:, 1],
            s=6,
            color=UNKNOWN,
            alpha=0.5,
            linewidth=0,
            label=f"{len(ids) - len(shown)} other people",
        )
        axes.legend(loc="best")
    for number, pid in enumerate(np.sort(shown)):
        own = places[people == pid]
        color = BASE_COLORS[number % len(BASE_COLORS)]
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=26,
            color=color,
            marker=MARKERS[number // len(BASE_COLORS)],
            edgecolor="white",
            linewidth=0.5,
        )
        axes.annotate(str(pid), np.median(own, axis=0), (4, 4), "data", "offset points", fontsize=7).set_path_effects(
            [HALO]
        )
    bare(axes)
    axes.spines[:].set_visible(True)
    return figure


def _tsne(features: Features, seed: int) -> Points:
    manifold = _package("sklearn.manifold", "scikit-learn", "tsne")
    perplexity = min(30.0, (len(features) - 1) / 3)
    model = manifold.TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(model.fit_transform(features), np.float32)


def _umap(features: Features, seed: int) -> Points:
    umap = _package("umap", "umap-learn", "umap")
    # one thread: umap-learn is repeatable only then, and warns if it has to set this itself
    model = umap.UMAP(n_neighbors=min(15, len(features) - 1), random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(features), np.float32)


METHODS: dict[str, Callable[[Features, int], Points]] = {"tsne": _tsne, "umap": _umap}


def _package(module: str, package: str, method: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        others = ", ".join(name for name in METHODS if name != method)
        raise ConfigError(
            f"the embedding method {method!r} needs the package {package}: pip install {package}, or use {others}."
        ) from error
