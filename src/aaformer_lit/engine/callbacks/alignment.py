"""AlignmentTest: how well the parts match true body parts, measured in the same pass over the test set as the retrieval.

While the network runs, each MAA layer is asked once more for its subsets and for the attention within them; a network that
pools is asked for its one grouping. The tables that this adds up (`aaformer_lit.metrics.alignment`) are summed over the
processes, and an image that the sampler repeats to fill a batch counts once. Without masks or parts nothing is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, cast

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.engine.results import Alignments, flatten_alignment
from aaformer_lit.metrics import AlignmentMeter, patch_labels
from aaformer_lit.models import ReIDViT
from aaformer_lit.models.attention import AutoAlignedAttention
from aaformer_lit.structures import ReIDBatch


class AlignmentTest(Callback):
    """Measures the alignment during `trainer.test`, where the data have masks (`data.masks`) and the network has parts.

    `results` holds one `PartAlignment` per granularity for each test set, `body_parts` the names of the labels. Logged is
    the last layer (`test/alignment/*`, see `flatten_alignment`).
    """

    def __init__(self) -> None:
        self.results: Alignments = {}
        self.body_parts: tuple[str, ...] = ()
        self._meters: dict[str, AlignmentMeter] = {}
        self._watch: PartWatch | None = None

    @classmethod
    def of(cls, trainer: Trainer) -> Self | None:
        """The trainer's callback of this kind, if it has one."""
        return next((one for one in trainer.callbacks if isinstance(one, cls)), None)  # type: ignore[attr-defined]

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: ReIDDataModule = trainer.datamodule  # type: ignore[attr-defined]
        network = cast(ReIDViT, pl_module.network)
        self.results, self._meters, self.body_parts = {}, {}, tuple(data.part_names)
        if self.body_parts and network.granularities:
            # a compiled network would go on without hooks that it was not compiled with
            torch.compiler.set_stance("force_eager")
            self._watch = PartWatch(network)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: ReIDBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._watch is not None:
            self._watch.forget()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: ReIDBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._watch is None:
            return
        network = cast(ReIDViT, pl_module.network)
        name = list(trainer.datamodule.test_sets)[dataloader_idx]  # type: ignore[attr-defined]
        memberships, attention = self._watch.memberships, self._watch.attention or None
        if name not in self._meters:
            heads, layers = memberships[0].shape[1], len(memberships)
            meter = AlignmentMeter(network.granularities, len(self.body_parts), layers, heads)
            self._meters[name] = meter.to(pl_module.device)
        # process r tests the images r, r + world_size, ... (`ReIDDataModule`); any other is a copy that fills its batch
        own = batch["index"] % trainer.world_size == trainer.global_rank
        if own.any():
            labels = patch_labels(batch["part_mask"][own], network.grid)
            weights = None if attention is None else [layer[own] for layer in attention]
            self._meters[name].update([layer[own] for layer in memberships], labels, weights)

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
    """Keeps the membership of each layer, and the attention of the parts where they attend, of a network's last pass.

    Of several passes without `forget` between them (image and mirror image) it keeps the first.
    """

    def __init__(self, network: nn.Module) -> None:
        layers = [layer for layer in network.modules() if isinstance(layer, AutoAlignedAttention)]
        self.forget()
        if layers:
            self._layers = len(layers)
            self._handles = [layer.register_forward_pre_hook(self._attend) for layer in layers]
        else:
            self._layers = 1
            self._handles = [
                network.register_forward_pre_hook(_ask_for_assignments, with_kwargs=True),
                network.register_forward_hook(lambda _network, _args, output: self._pooled(output.assignments)),
            ]

    def forget(self) -> None:
        self.memberships: list[Tensor] = []
        self.attention: list[Tensor] = []

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _attend(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        if len(self.memberships) < self._layers:
            assert isinstance(layer, AutoAlignedAttention)
            sequence, grid, part_mask = args[:3]
            weights, membership = layer.part_weights(sequence, grid, part_mask)
            self.attention.append(weights)
            self.memberships.append(membership)

    def _pooled(self, assignments: Sequence[Tensor]) -> None:
        if not self.memberships:
            self.memberships = list(assignments)


def _ask_for_assignments(
    _network: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, kwargs | {"return_assignments": True}
