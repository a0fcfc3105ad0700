"""FAISS (Douze et al., 2024) as an index, exact or approximate.

`FaissFlat` compares with every image. `FaissIVFPQ` is for millions: features are sorted into `nlist` cells, of which a query
looks into `nprobe`, and kept as `m` bytes each; the best candidates are then compared exactly.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aaformer_lit.errors import ConfigError
from aaformer_lit.gallery.index.base import NO_ROW, STEP, Features, IndexStorage, Neighbors, engine, ordered
from aaformer_lit.utils.files import write_whole
from aaformer_lit.utils.sequences import tiles

log = logging.getLogger(__name__)

_PER_CELL = 39  # FAISS wants so many training features for each cell, and for each of a code's 256 values


class FaissFlat:
    """Every image is compared; nothing is kept on disk."""

    outside: Mapping[str, str] | None = None

    def fit(self, features: Features, ids: Int[np.ndarray, " images"], storage: IndexStorage) -> None:
        faiss = engine("faiss", "faiss-cpu")
        self._index = faiss.IndexFlatL2(features[:1].shape[1])
        for rows in tiles(len(features), STEP):
            self._index.add(features[rows].numpy())

    def search(
        self, queries: Float[Tensor, "queries dim"], k: int, mask: Bool[np.ndarray, " images"] | None = None
    ) -> Neighbors:
        faiss = engine("faiss", "faiss-cpu")
        options = None if mask is None else faiss.SearchParameters(sel=_selector(mask))
        squared, rows = self._index.search(queries.numpy(), k, params=options)
        return ordered(np.sqrt(np.maximum(squared, 0)), rows)


class FaissIVFPQ:
    """Inverted file with product quantization (Jegou et al., TPAMI 2011), then exact distances of the best candidates.

    The trained index is kept in the gallery's folder until the gallery changes. Fewer than 256 images, the values of a code's
    byte, cannot train one: they are compared exactly.

    Args:
        nlist: cells; None: 4 x the root of the number of images, fewer where they could not be trained.
        m: bytes per image, a divisor of the feature's dimension; None: the largest up to 64.
        nprobe: cells that a query looks into.
        refine: for each answer so many candidates are compared exactly; 0 for the quantized distances.
        seed: of the choice of training features and of k-means.
    """

    def __init__(
        self, nlist: int | None = None, m: int | None = None, nprobe: int = 16, refine: int = 10, seed: int = 0
    ) -> None:
        if nprobe < 1 or refine < 0:
            raise ConfigError(f"index.nprobe={nprobe} must be 1 or more, index.refine={refine} 0 or more.")
        self.nlist, self.m, self.nprobe, self.refine, self.seed = nlist, m, nprobe, refine, seed

    outside: Mapping[str, str] | None = None

    def fit(self, features: Features, ids: Int[np.ndarray, " images"], storage: IndexStorage) -> None:
        faiss = engine("faiss", "faiss-cpu")
        self._features, self._exact = features, FaissFlat() if len(features) < 256 else None
        if self._exact is not None:
            log.warning("index=ivf_pq learns from 256 images or more; these %d are compared exactly", len(features))
            self._exact.fit(features, ids, storage)
            return
        dim = features[:1].shape[1]
        nlist, m, bits = self._sizes(len(features), dim)
        file = storage.folder / f"{storage.name}-{nlist}-{m}-{self.seed}.faiss"
        if file.is_file():
            self._index = faiss.read_index(str(file))
            return
        self._index = faiss.IndexIVFPQ(faiss.IndexFlatL2(dim), dim, nlist, m, bits)
        for clustering in (self._index.cp, self._index.pq.cp):
            clustering.seed = self.seed
            clustering.min_points_per_centroid = 1  # or it warns `m` times over
        if len(features) < _PER_CELL * 256:
            log.warning("%d images are few to learn codes from, and index=flat is as quick on them", len(features))
        size = min(len(features), max(256 * nlist, _PER_CELL * 256))
        sample = np.sort(np.random.default_rng(self.seed).choice(len(features), size, replace=False))
        log.info("training an index of %d cells and %d bytes per image on %d features", nlist, m, size)
        self._index.train(features[torch.from_numpy(sample)].numpy())
        for rows in tiles(len(features), STEP):
            self._index.add(features[rows].numpy())
        write_whole(file, memoryview(faiss.serialize_index(self._index)), shared=True)

    def search(
        self, queries: Float[Tensor, "queries dim"], k: int, mask: Bool[np.ndarray, " images"] | None = None
    ) -> Neighbors:
        if self._exact is not None:
            return self._exact.search(queries, k, mask)
        faiss = engine("faiss", "faiss-cpu")
        options = faiss.SearchParametersIVF(
            nprobe=min(self.nprobe, self._index.nlist), sel=None if mask is None else _selector(mask)
        )
        wanted = min(k * max(self.refine, 1), self._index.ntotal)
        squared, rows = self._index.search(queries.numpy(), wanted, params=options)
        if not self.refine:
            return ordered(np.sqrt(np.maximum(squared, 0)), rows)
        return _exactly(queries, self._features, rows, k)

    def _sizes(self, images: int, dim: int) -> tuple[int, int, int]:
        """Cells, bytes and bits of a code, as given or as suits so many images."""
        nlist = self.nlist or max(1, min(int(4 * math.sqrt(images)), images // _PER_CELL))
        m = self.m or max(divisor for divisor in range(1, min(64, dim) + 1) if dim % divisor == 0)
        if nlist > images or dim % m:
            raise ConfigError(
                f"index.nlist={nlist} must be at most the {images:,} images, and index.m={m} a divisor of the {dim} numbers of "
                "a feature. Leave them out (null) to have them chosen."
            )
        return nlist, m, 8


def _exactly(queries: Tensor, features: Features, rows: Int[np.ndarray, "queries wanted"], k: int) -> Neighbors:
    """The k nearest of each query's candidates, by their own features instead of their codes."""
    distances = np.full(rows.shape, np.inf)
    for query, candidates in enumerate(rows):
        found = candidates != NO_ROW
        near = features[torch.from_numpy(candidates[found])]
        distances[query, found] = (near - queries[query]).norm(dim=1).numpy()
    return Neighbors(*(column[:, :k] for column in ordered(distances, rows)))


def _selector(mask: Bool[np.ndarray, " images"]) -> Any:
    faiss = engine("faiss", "faiss-cpu")
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
