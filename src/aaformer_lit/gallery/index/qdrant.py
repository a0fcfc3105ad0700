"""Qdrant as an index: a vector engine that shares out a collection over machines and is asked over the network.

One collection per gallery and token group, `aaformer-<gallery>-<group>`; a point is one image's feature under the
gallery's id of it, and nothing else: neither path nor pid leaves the gallery. An id stands for one content for ever, and
the gallery takes ids out of all its collections before it drops their rows (`Qdrant.forget`). So a collection holds
a subset of the newest version's ids, and is complete when it counts as many; `fit` sends those that it lacks. Who still
searches an older version passes over the ids that are new.

Without `url` the client's local mode keeps the collection in the gallery's folder, where it lives no longer than any
other index file: for trying out, as it compares with every point. A server's API key is read from the environment
(`QDRANT_API_KEY`) and stored nowhere.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aaformer_lit.errors import GalleryError, first_line
from aaformer_lit.gallery.index.base import NO_ROW, Features, IndexStorage, Neighbors, engine, ordered
from aaformer_lit.utils.sequences import tiles

log = logging.getLogger(__name__)

_PACKAGE = "qdrant-client"
_BATCH = 512
_TIMEOUT = 60  # seconds
_REMEDY = "Is the server running, is index.url right, and does it need QDRANT_API_KEY?"


class Qdrant:
    """A collection of a Qdrant server, or of the client's local mode.

    `mask` is sent as a list of ids with every search: fine for thousands, slow for a filter that cuts millions in halves.

    Args:
        url: of the server, e.g. http://localhost:6333; None: local mode.
        exact: compare with every point instead of walking the engine's graph (HNSW).
        shards: of a new collection, for a cluster; None: the server's default.
    """

    def __init__(self, url: str | None = None, exact: bool = False, shards: int | None = None) -> None:
        self.url, self.exact, self.shards = url, exact, shards
        self.outside: Mapping[str, str] | None = {"engine": "qdrant", "url": url} if url else None
        self._path: Path | None = None

    def fit(self, features: Features, ids: Int[np.ndarray, " images"], storage: IndexStorage) -> None:
        models = engine("qdrant_client.models", _PACKAGE)
        self._path, self._name, self._ids = storage.folder / "qdrant", storage.name, ids
        self._row = {int(number): row for row, number in enumerate(ids)}
        size = features[:1].shape[1]
        with self._connected() as client:
            if not client.collection_exists(self._name):
                vectors = models.VectorParams(size=size, distance=models.Distance.EUCLID)
                client.create_collection(self._name, vectors_config=vectors, shard_number=self.shards)
            if client.count(self._name, exact=True).count == len(ids):
                return
            there = set(_all_ids(client, self._name))
            missing = np.array([row for row, number in enumerate(ids) if int(number) not in there], dtype=np.int64)
            log.info("sending %d of %d features to Qdrant", len(missing), len(ids))
            for part in tiles(len(missing), _BATCH):
                rows = missing[part]
                vectors = features[torch.from_numpy(rows)].numpy().tolist()
                client.upsert(self._name, models.Batch(ids=ids[rows].tolist(), vectors=vectors), wait=True)

    def search(
        self, queries: Float[Tensor, "queries dim"], k: int, mask: Bool[np.ndarray, " images"] | None = None
    ) -> Neighbors:
        models = engine("qdrant_client.models", _PACKAGE)
        options: dict[str, Any] = {"limit": k}
        if self.url:  # local mode is exact anyway, and warns
            options["params"] = models.SearchParams(exact=self.exact)
        if mask is not None and not mask.all():
            # whichever list is shorter
            few = bool(2 * mask.sum() <= len(mask))
            condition = [models.HasIdCondition(has_id=self._ids[mask if few else ~mask].tolist())]
            options["filter"] = models.Filter(must=condition) if few else models.Filter(must_not=condition)
        distances = np.full((len(queries), k), np.inf)
        rows = np.full((len(queries), k), NO_ROW)
        with self._connected() as client:
            requests = [models.QueryRequest(query=query, **options) for query in queries.tolist()]
            for query, answer in enumerate(client.query_batch_points(self._name, requests)):
                known = [point for point in answer.points if int(point.id) in self._row]
                for place, point in enumerate(known):
                    distances[query, place], rows[query, place] = point.score, self._row[int(point.id)]
        return ordered(distances, rows)

    def forget(self, names: Sequence[str], ids: Int[np.ndarray, " gone"]) -> None:
        """Delete these points of a server's collections, and wait until it is done.

        No search finds them from now on; the server overwrites them on its disk with its next optimization.
        """
        models = engine("qdrant_client.models", _PACKAGE)
        with self._connected() as client:
            for name in names:
                if client.collection_exists(name):
                    client.delete(name, models.PointIdsList(points=ids.tolist()), wait=True)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """A client for as long as it is needed: local mode locks its folder."""
        problems = engine("qdrant_client.http.exceptions", _PACKAGE).ApiException, RuntimeError, OSError
        try:
            client = connect(self.url, self._path)
            try:
                yield client
            finally:
                client.close()
        except problems as cause:
            raise GalleryError(f"Qdrant at {self.url or self._path} failed: {first_line(cause)}. {_REMEDY}") from cause


def connect(url: str | None, path: Path | None) -> Any:
    """A client of the server, or of a local folder."""
    client = engine("qdrant_client", _PACKAGE).QdrantClient
    if url is None:
        return client(path=str(path))
    # its look at the server's version warns where it should fail
    return client(url=url, api_key=os.environ.get("QDRANT_API_KEY"), timeout=_TIMEOUT, check_compatibility=False)


def _all_ids(client: Any, name: str) -> Iterator[int]:
    offset = None
    while True:
        points, offset = client.scroll(name, limit=10_000, offset=offset, with_payload=False, with_vectors=False)
        yield from (int(point.id) for point in points)
        if offset is None:
            return
