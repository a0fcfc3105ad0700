"""Distances between queries and gallery, a slice of queries at a time: the (Q, G) matrix never exists as a whole.

At MSMT17 size that matrix has 958 million entries (3.8 GB), and every measure of retrieval quality needs one row of it at a
time. So a distance here is an object that knows both sets and hands out rows. Products run in full float32 whatever
autocast or `torch.set_float32_matmul_precision` say: TF32 is off by 1e-3, which reorders close gallery images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aaformer_lit.errors import ConfigError, NumericsError
from aaformer_lit.utils.sequences import tiles

# gallery features converted to the computing dtype at a time, where theirs is another
_CAST_ROWS = 8192
# bytes of gathered features per step of `pair_distances`: small enough to stay in a CPU's cache
_PAIR_BYTES = {"cpu": 2**21, "cuda": 2**28}


class RowDistances(Protocol):
    """A distance matrix that is read by slices of its rows. Smaller is nearer; every entry is finite."""

    def __len__(self) -> int: ...

    def rows(self, rows: slice) -> Float[Tensor, "rows gallery"]:
        """Distances of these queries to the whole gallery: a fresh tensor that the caller may overwrite."""


class SquaredEuclidean:
    """Squared Euclidean distances, `|q|^2 + |g|^2 - 2 q.g`, never below 0.

    Raises:
        ConfigError: query and gallery features have different dimensions.
        NumericsError: a feature is NaN or infinite.
    """

    def __init__(self, query: Float[Tensor, "queries dim"], gallery: Float[Tensor, "gallery dim"]) -> None:
        if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
            raise ConfigError(
                f"query features {tuple(query.shape)} and gallery features {tuple(gallery.shape)} cannot be compared. "
                "Both must be (images, dim) with the same dim: extract both with the same model and the same tokens."
            )
        self.query, self.gallery = query.to(gallery.device), gallery
        self.dtype = torch.promote_types(torch.promote_types(query.dtype, gallery.dtype), torch.float32)
        self._query_norms = squared_norms(self.query, self.dtype, "query")
        self._gallery_norms = squared_norms(self.gallery, self.dtype, "gallery")

    def __len__(self) -> int:
        return len(self.query)

    def rows(self, rows: slice) -> Float[Tensor, "rows gallery"]:
        return squared_distances(self.query[rows], self.gallery, self._query_norms[rows], self._gallery_norms)


@torch.no_grad()
def squared_distances(
    query: Float[Tensor, "queries dim"],
    gallery: Float[Tensor, "gallery dim"],
    query_norms: Float[Tensor, " queries"],
    gallery_norms: Float[Tensor, " gallery"],
) -> Float[Tensor, "queries gallery"]:
    """One block of squared Euclidean distances; the squared norms are given, since many blocks share them."""
    out = _products(query.to(query_norms.dtype) * -2, gallery, gallery_norms)  # * -2 is exact
    return out.add_(query_norms[:, None]).clamp_(min=0)


def _products(
    query: Float[Tensor, "queries dim"], gallery: Float[Tensor, "gallery dim"], bias: Float[Tensor, " gallery"]
) -> Float[Tensor, "queries gallery"]:
    """`query @ gallery.T + bias`. As the transpose of `gallery @ query.T` it takes MKL two thirds of the time, copy included:
    a few hundred queries and many gallery images are a shape that it divides among threads badly the other way round."""
    out = query.new_empty(len(gallery), len(query))
    step = len(gallery) if gallery.dtype == query.dtype else _CAST_ROWS
    with full_precision(query.device.type):
        for rows in tiles(len(gallery), max(1, step)):
            torch.addmm(bias[rows, None], gallery[rows].to(query.dtype), query.T, out=out[rows])
    return out.T.contiguous()


class Cosine(SquaredEuclidean):
    """Cosine distances `1 - cos(q, g)`: half the squared Euclidean distance of L2-normalized features."""

    @torch.no_grad()
    def rows(self, rows: slice) -> Float[Tensor, "rows gallery"]:
        tiny = torch.finfo(self.dtype).tiny  # a feature of zeros has no direction: cosine 0 to everything
        query = self.query[rows].to(self.dtype) / self._query_norms[rows, None].sqrt().clamp(min=tiny)
        out = _products(query, self.gallery, torch.zeros_like(self._gallery_norms))
        return out.div_(self._gallery_norms.sqrt().clamp(min=tiny)).neg_().add_(1)


@torch.no_grad()
def pair_distances(
    query: Float[Tensor, "queries dim"],
    gallery: Float[Tensor, "gallery dim"],
    row: Int[Tensor, " pairs"],
    col: Int[Tensor, " pairs"],
) -> Float[Tensor, " pairs"]:
    """Squared Euclidean distances of listed pairs, from their differences: equal features are at 0 exactly."""
    dtype = torch.promote_types(torch.promote_types(query.dtype, gallery.dtype), torch.float32)
    out = torch.empty(len(row), dtype=dtype, device=query.device)
    step = max(1, _PAIR_BYTES.get(query.device.type, 2**28) // (query.shape[1] * dtype.itemsize))
    for pairs in tiles(len(row), step):
        difference = query[row[pairs]].to(dtype).sub_(gallery[col[pairs]])
        out[pairs] = difference.square_().sum(dim=1)
    return out


def squared_norms(features: Float[Tensor, "images dim"], dtype: torch.dtype, name: str) -> Float[Tensor, " images"]:
    """Squared L2 norms, by tiles so that no second copy of the features exists; raises `NumericsError` unless finite."""
    norms = torch.empty(len(features), dtype=dtype, device=features.device)
    for part in tiles(len(features), 1024):
        norms[part] = features[part].detach().to(dtype).square().sum(dim=1)
    if not norms.isfinite().all():
        bad = (~norms.isfinite()).nonzero().flatten()
        raise NumericsError(
            f"{len(bad)} of {len(features)} {name} features are NaN or infinite (first: row {int(bad[0])}). "
            "Extract them in float32 or bfloat16, and check that the checkpoint's training did not diverge."
        )
    return norms


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """IEEE float32 matrix products inside, whatever precision training uses; the settings come back on leaving."""
    switches: list[Any] = [
        backend
        for backend in (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
        if hasattr(backend, "fp32_precision")
    ]
    before = [switch.fp32_precision for switch in switches]
    legacy = None if switches else torch.get_float32_matmul_precision()  # torch < 2.9; mixing both interfaces raises
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        if legacy is not None:
            torch.set_float32_matmul_precision("highest")
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
        if legacy is not None:
            torch.set_float32_matmul_precision(legacy)
