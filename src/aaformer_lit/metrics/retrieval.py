"""ReIDRetrieval: collects descriptors batch by batch, on any number of processes, and evaluates them by subsets of tokens.

A test loader runs over query and gallery concatenated and gives each image its `index` there, so an image's index says where
its features go and whether it is a query. Under DDP the sampler pads the last batches with copies; they land in the row of
their original, and nothing counts twice. Features wait in main memory, and the GPU keeps its own for the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch import distributed as dist
from torchmetrics.utilities.distributed import gather_all_tensors

from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.metrics.draws import mean_of_draws, single_shot
from aaformer_lit.metrics.expansion import Expansion
from aaformer_lit.metrics.protocol import UNKNOWN_CAMID, without_junk
from aaformer_lit.metrics.ranking import Reranker, evaluate_retrieval
from aaformer_lit.metrics.structured import StructuredMetric
from aaformer_lit.structures import FeatureSet, RetrievalMetrics, Tokens, compared_features
from aaformer_lit.utils.sequences import tiles

ALL_TOKENS = ""


class Projection(Protocol):
    """Makes features of `size` numbers of longer ones."""

    size: int

    def __call__(self, features: Float[Tensor, "images features"]) -> Float[Tensor, "images size"]: ...


class ReIDRetrieval(StructuredMetric):
    """CMC, mAP and mINP of a test set, for the whole descriptor and for chosen tokens of it.

    Args:
        num_query: images with index < num_query are queries, the others gallery.
        subsets: further results by name, such as `{"global": [0], "parts": [1, 2, 3]}`: the chosen tokens concatenated,
            and of tokens in a list of their own the mean. The result "" is that of all tokens, always.
        projections: results of shorter features by name: what makes them of the features of all tokens.
        normalize: L2-normalize the concatenated tokens, and what projections make of them.
        ranks: the k of Rank-k.
        rerank: for example `KReciprocal()`.
        expansion: of queries and gallery by their neighbors, before the ranking.
        sequences: of query and gallery images, in the order of their index (see `FeatureSet`).
        draws: if any, results are means over so many draws of a gallery with one image of each person (single-shot), less
            those in which no query has a match.
        num_gallery: if given, images missing at the end of the gallery are noticed too.
        chunk_size: queries compared at a time.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    descriptors: list[Tensor]
    pids: list[Tensor]
    camids: list[Tensor]
    index: list[Tensor]

    def __init__(
        self,
        num_query: int,
        subsets: Mapping[str, Tokens] | None = None,
        normalize: bool = True,
        ranks: Sequence[int] = (1, 5, 10),
        rerank: Reranker | None = None,
        expansion: Expansion | None = None,
        sequences: Sequence[int] | None = None,
        draws: int = 0,
        num_gallery: int | None = None,
        chunk_size: int = 256,
        projections: Mapping[str, Projection] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"compute_on_cpu": True, "dist_sync_fn": gather} | kwargs)
        self.num_query, self.num_gallery = num_query, num_gallery
        self.subsets: dict[str, Tokens] = {name: tuple(tokens) for name, tokens in (subsets or {}).items()}
        self.projections = dict(projections or {})
        self.normalize, self.ranks, self.rerank, self.chunk_size = normalize, tuple(ranks), rerank, chunk_size
        self.expansion = expansion or Expansion()
        self.draws = draws
        self.sequences = None if sequences is None else torch.as_tensor(sequences)
        for state in ("descriptors", "pids", "camids", "index"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(
        self,
        descriptor: Float[Tensor, "batch tokens dim"] | Float[Tensor, "batch dim"],
        pids: Int[Tensor, " batch"],
        camids: Int[Tensor, " batch"] | None = None,
        index: Int[Tensor, " batch"] | None = None,
    ) -> None:
        """Take in a batch.

        Args:
            descriptor: tokens apart, or a plain feature for each image.
            pids: who is shown.
            camids: the cameras; None where they are unknown, and then no camera rule applies.
            index: place of each image, queries first. None: in the order in which they come, all queries before the
                gallery; that is for one process, since several take turns.
        """
        descriptor = descriptor[:, None] if descriptor.ndim == 2 else descriptor
        camids = torch.full_like(pids, UNKNOWN_CAMID) if camids is None else camids
        if index is None:
            if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
                raise ConfigError("several processes share the images: give update() the index of each of them.")
            first = sum(len(block) for block in self.index)
            index = torch.arange(first, first + len(pids))
        if descriptor.ndim != 3 or not len(descriptor) == len(pids) == len(camids) == len(index):
            raise ValueError(
                f"expected a descriptor (batch, tokens, dim) and one pid, camid and index per image; got "
                f"{tuple(descriptor.shape)}, {len(pids)}, {len(camids)} and {len(index)}."
            )
        self.descriptors.append(descriptor.detach())
        self.pids.append(pids)
        self.camids.append(camids)
        self.index.append(index)

    def scalars(self, prefix: str = "") -> dict[str, float]:
        """`compute` as plain numbers for `self.log_dict`: mAP, rank1, ..., mINP; of a subset `mAP_parts` and so on."""
        return flatten_subsets(self.compute(), prefix)

    def compute(self) -> dict[str, RetrievalMetrics]:
        """Metrics by name of the subset; "" is the whole descriptor.

        Raises:
            ProtocolError: an image is missing, or no query has a match.
            ConfigError: a subset names a token that the descriptor does not have.
        """
        results: dict[str, RetrievalMetrics] = {}
        for name in dict.fromkeys((ALL_TOKENS, *self.subsets, *self.projections)):
            # the features wait in main memory, but a GPU that the metric was moved to compares them
            query, gallery = (replace(s, features=s.features.to(self.device)) for s in self._feature_sets(name))
            gallery = without_junk(gallery)  # neither drawn nor anybody's neighbor
            results[name] = (self._evaluate_draws if self.draws else self._evaluate)(query, gallery)
        return results

    def _evaluate_draws(self, query: FeatureSet, gallery: FeatureSet) -> RetrievalMetrics:
        """Single-shot. A draw in which no query has a match is skipped, like a query without one; an error if all are."""
        found, unmatched = [], None
        for rows in single_shot(gallery.pids, self.draws):
            try:
                found.append(self._evaluate(query, gallery.select(rows)))
            except ProtocolError as error:
                unmatched = error
        if unmatched and not found:
            raise unmatched
        return mean_of_draws(found)

    def _evaluate(self, query: FeatureSet, gallery: FeatureSet) -> RetrievalMetrics:
        sets = self.expansion(query, gallery)
        return evaluate_retrieval(*sets, ranks=self.ranks, rerank=self.rerank, chunk_size=self.chunk_size)

    def feature_sets(self, subset: str = ALL_TOKENS) -> tuple[FeatureSet, FeatureSet]:
        """`(query, gallery)` as `compute` compares them, before any expansion, for saving.

        Under DDP all processes must call it.

        Raises:
            ProtocolError: an image is missing.
            ConfigError: there is no such subset or projection.
        """
        known = [ALL_TOKENS, *self.subsets, *self.projections]
        if subset not in known:
            raise ConfigError(
                f"there is no subset {subset!r} of the descriptor. Choose from {known}; '' is all tokens."
            )
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=not self._is_synced):
            return self._feature_sets(subset)

    def _feature_sets(self, subset: str) -> tuple[FeatureSet, FeatureSet]:
        descriptors, pids, camids, index = (
            [state] if isinstance(state, Tensor) else state
            for state in (self.descriptors, self.pids, self.camids, self.index)
        )
        images = self._count_images(index)
        tokens, dim = descriptors[0].shape[1:]
        chosen = self.subsets.get(subset, self.subsets.get(ALL_TOKENS, range(tokens)))
        named = [token for one in chosen for token in ([one] if isinstance(one, int) else one)]
        if not named or max(named) >= tokens or min(named) < 0:
            raise ConfigError(
                f"subset {subset!r} asks for the tokens {list(chosen)} of a descriptor with {tokens} tokens "
                f"(0 is the global one). Choose from 0 to {tokens - 1}."
            )
        device = descriptors[0].device
        project = self.projections.get(subset)
        features = torch.empty(images, len(chosen) * dim if project is None else project.size, device=device)
        all_pids, all_camids = (torch.empty(images, dtype=torch.int64, device=device) for _ in range(2))
        for block, block_pids, block_camids, block_index in zip(descriptors, pids, camids, index, strict=True):
            for part in tiles(len(block), 4096):  # after a sync there is one block, and no second copy of it is wanted
                rows = compared_features(block[part], self.normalize, chosen)
                if project is not None:
                    rows = compared_features(project(rows)[:, None], self.normalize)
                features[block_index[part]] = rows
            all_pids[block_index] = block_pids.to(torch.int64)
            all_camids[block_index] = block_camids.to(torch.int64)
        everything = FeatureSet(features, all_pids, all_camids, self.sequences)
        return everything.select(slice(self.num_query)), everything.select(slice(self.num_query, None))

    def _count_images(self, index: Sequence[Int[Tensor, " batch"]]) -> int:
        """The number of images in query and gallery; an error unless each of them came at least once."""
        seen = torch.cat([torch.zeros(0, dtype=torch.int64), *(block.cpu() for block in index)]).unique()
        last = int(seen[-1]) if len(seen) else -1
        images = last + 1 if self.num_gallery is None else self.num_query + self.num_gallery
        images = max(images, self.num_query)
        if last >= images:
            raise ProtocolError(
                f"an image has index {last}, but query and gallery hold {images} images. Use the loaders that "
                "test_dataloader() gives, and a fresh metric for each test set."
            )
        if len(seen) < images:
            missing = torch.ones(images, dtype=torch.bool)
            missing[seen] = False
            raise ProtocolError(
                f"{int(missing.sum())} of {images} query and gallery images were never seen by the metric (first: index "
                f"{int(missing.nonzero()[0])}). Run over the whole test loader: trainer.limit_test_batches=1.0."
            )
        return images


def flatten_subsets(results: Mapping[str, RetrievalMetrics], prefix: str) -> dict[str, float]:
    """Names as in `metrics.json`: those of a subset end with its name."""
    flat: dict[str, float] = {}
    for subset, metrics in results.items():
        flat |= {f"{key}_{subset}" if subset else key: value for key, value in metrics.as_dict(prefix).items()}
    return flat


def gather(tensor: Tensor, group: dist.ProcessGroup | None = None) -> list[Tensor]:
    """`gather_all_tensors` for features in main memory too, which NCCL cannot send: block by block over the GPU.

    torchmetrics gives an empty vector for a process that saw no image; it takes the form of the others' tensors here.
    """
    forms: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(forms, (tensor.shape[1:], tensor.dtype, tensor.is_cpu) if len(tensor) else None, group)
    form = next(filter(None, forms), None)
    if form is not None and not len(tensor):
        shape, dtype, on_cpu = form
        tensor = torch.empty(0, *shape, dtype=dtype, device="cpu" if on_cpu else tensor.device)
    if tensor.is_cpu and dist.get_backend(group) == "nccl":
        return gather_in_blocks(tensor, torch.device("cuda", torch.cuda.current_device()), group)
    return gather_all_tensors(tensor, group)


def gather_in_blocks(
    tensor: Tensor, device: torch.device, group: dist.ProcessGroup | None = None, rows: int = 4096
) -> list[Tensor]:
    """Each process's tensor, gathered on `device` by blocks of rows and brought back to where it was."""
    longest = torch.tensor(len(tensor), device=device)
    dist.all_reduce(longest, dist.ReduceOp.MAX, group=group)
    blocks = [
        [part.to(tensor.device) for part in gather_all_tensors(tensor[block].to(device), group)]
        for block in tiles(int(longest), rows)
    ]
    return [torch.cat(parts) for parts in zip(*blocks, strict=True)]
