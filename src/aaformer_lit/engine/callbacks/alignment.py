"""AlignmentTest: how well the parts match true body parts, measured in the same pass over the test set as the retrieval.

While the network runs, each MAA layer is asked once more for its subsets and for the attention within them; a network that
pools is asked for its one grouping. That costs a second pass of every layer, so it is done for a sample of the images. The
tables that this adds up (`aaformer_lit.metrics.alignment`) are summed over the processes, and an image that the sampler
repeats to fill a batch counts once. Without masks or parts nothing is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Int
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.engine.results import Alignments, flatten_alignment
from aaformer_lit.errors import ConfigError
from aaformer_lit.metrics import AlignmentMeter, patch_labels
from aaformer_lit.models import ReIDViT
from aaformer_lit.models.attention import AutoAlignedAttention
from aaformer_lit.structures import ReIDBatch


class AlignmentTest(Callback):
    """Measures the alignment during `trainer.test`, where the data have masks (`data.masks`) and the network has parts.

    `results` holds one `PartAlignment` per granularity for each test set, `body_parts` the names of the labels. Logged is
    the last layer (`test/alignment/*`, see `flatten_alignment`).

    Args:
        images: of each test set, drawn by `seed`; None for all.
        seed: of the sample.
    """

    def __init__(self, images: int | None = 2000, seed: int = 0) -> None:
        if images is not None and images < 1:
            raise ConfigError(f"images={images} must be 1 or more, or null for all.")
        self.images, self.seed = images, seed
        self._drawn: list[Bool[Tensor, " images"]] = []
        self.results: Alignments = {}
        self.body_parts: tuple[str, ...] = ()
        self._meters: dict[str, AlignmentMeter] = {}
        self._watch: PartWatch | None = None

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: ReIDDataModule = trainer.datamodule  # type: ignore[attr-defined]
        network = cast(ReIDViT, pl_module.network)
        self.results, self._meters, self.body_parts = {}, {}, tuple(data.part_names)
        if self.body_parts and network.granularities:
            # a compiled network would go on without hooks that it was not compiled with
            torch.compiler.set_stance("force_eager")
            self._watch = PartWatch(network)
            self._drawn = [self._draw(len(one.query) + len(one.gallery)) for one in data.test_sets.values()]
            for name in data.test_sets:  # even where none of the sample is this process's
                meter = AlignmentMeter(
                    network.granularities, len(self.body_parts), self._watch.layers, self._watch.heads
                )
                self._meters[name] = meter.to(pl_module.device)

    def _draw(self, images: int) -> Bool[Tensor, " images"]:
        drawn = torch.zeros(images, dtype=torch.bool)
        drawn[np.random.default_rng(self.seed).permutation(images)[: self.images]] = True
        return drawn

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: ReIDBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._watch is not None:
            index = batch["index"].cpu()
            # process r tests the images r, r + world_size, ... (`ReIDDataModule`); any other is a copy that fills its batch
            own = index % trainer.world_size == trainer.global_rank
            self._watch.expect((own & self._drawn[dataloader_idx][index]).nonzero().flatten())

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: ReIDBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._watch is None or not self._watch.memberships:
            return
        network = cast(ReIDViT, pl_module.network)
        name = list(trainer.datamodule.test_sets)[dataloader_idx]  # type: ignore[attr-defined]
        labels = patch_labels(batch["part_mask"][self._watch.rows], network.grid)
        self._meters[name].update(self._watch.memberships, labels, self._watch.attention or None)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()
        self.results = {name: meter.compute() for name, meter in self._meters.items()}
        self._meters = {}
        # equal on all ranks already, which Lightning cannot know
        pl_module.log_dict(flatten_alignment(self.results), sync_dist=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._watch is not None:
            self._watch.remove()
            self._watch = None
            torch.compiler.set_stance("default")


class PartWatch:
    """Keeps the membership of each layer, and the attention of the parts where they attend, for some images of a pass.

    Of several passes without `expect` between them (image and mirror image) it keeps the first.
    """

    def __init__(self, network: nn.Module) -> None:
        layers = [layer for layer in network.modules() if isinstance(layer, AutoAlignedAttention)]
        self.expect(torch.zeros(0, dtype=torch.long))
        self.layers, self.heads = max(1, len(layers)), layers[0].num_heads if layers else 1
        if layers:
            self._handles = [layer.register_forward_pre_hook(self._attend) for layer in layers]
        else:
            self._handles = [
                network.register_forward_pre_hook(_ask_for_assignments, with_kwargs=True),
                network.register_forward_hook(lambda _network, _args, output: self._pooled(output.assignments)),
            ]

    def expect(self, rows: Int[Tensor, " chosen"]) -> None:
        """Of the next pass, keep what these images of the batch show."""
        self.rows = rows
        self.memberships: list[Tensor] = []
        self.attention: list[Tensor] = []

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _attend(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        if len(self.rows) and len(self.memberships) < self.layers:
            assert isinstance(layer, AutoAlignedAttention)
            sequence, grid, *of_images = args[:4]
            part_mask, heights = (None if one is None else one[self.rows] for one in of_images)
            weights, membership = layer.part_weights(sequence[self.rows], grid, part_mask, heights)
            self.attention.append(weights)
            self.memberships.append(membership)

    def _pooled(self, assignments: Sequence[Tensor]) -> None:
        if len(self.rows) and not self.memberships:
            self.memberships = [layer[self.rows] for layer in assignments]


def _ask_for_assignments(
    _network: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, kwargs | {"return_assignments": True}
