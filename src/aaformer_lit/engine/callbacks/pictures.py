"""ProbePictures: the same few images, drawn again and again while the network learns."""

from __future__ import annotations

from typing import cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import default_collate

from aaformer_lit import viz
from aaformer_lit.data.datamodule import ReIDDataModule
from aaformer_lit.data.test_set import TestSet
from aaformer_lit.engine.fsdp import unsharded
from aaformer_lit.engine.loggers.media import log_picture, takes_pictures
from aaformer_lit.metrics import SquaredEuclidean
from aaformer_lit.models import ReIDViT
from aaformer_lit.models.evaluating import evaluating
from aaformer_lit.utils.sequences import spread


class ProbePictures(Callback):
    """Part maps (`pictures/assignment`) and ranking lists (`pictures/rankings`) of a fixed probe set in W&B and TensorBoard.

    The probe set are queries of the held-out ids (`data.val_ids`), else of the test set, spread over it, and a small gallery
    with their answers; it is only looked at. Nothing is drawn where no logger takes images, and training goes on with the
    same random numbers as without.

    Args:
        every_n_epochs: how often; after the last epoch too.
        images: queries in the probe set.
        gallery: images to rank for them.
        answers: of these shown for each query.
    """

    def __init__(self, every_n_epochs: int = 10, images: int = 6, gallery: int = 64, answers: int = 8) -> None:
        self.every_n_epochs, self.images, self.gallery, self.answers = every_n_epochs, images, gallery, answers
        self._probed: TestSet | None = None
        self._batch: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        due = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        data: ReIDDataModule = trainer.datamodule  # type: ignore[attr-defined]
        if not due or not (data.val_set or data.test_sets):
            return
        network = unsharded(cast(ReIDViT, pl_module.network), pl_module.description())  # type: ignore[operator]
        if network is None or not trainer.is_global_zero or not takes_pictures(trainer.loggers):
            return
        with isolate_rng(), torch.no_grad(), evaluating(network), trainer.precision_plugin.forward_context():
            self._draw(trainer, network, epoch)

    def _draw(self, trainer: Trainer, network: ReIDViT, epoch: int) -> None:
        data: ReIDDataModule = trainer.datamodule  # type: ignore[attr-defined]
        probe = self._probe(data)
        device = next(network.parameters()).device
        batch = move_data_to_device(self._batch, device)
        images, mask = batch["image"], batch.get("part_mask")
        step, title = trainer.global_step, f"epoch {epoch}"
        features = network.embed(images, mask)
        split = len(probe.query)
        first, second = probe.described(features.cpu())
        distances = SquaredEuclidean(first.features, second.features).rows(slice(None)).sqrt()
        ranking = viz.rank_gallery(distances, first, second, self.answers)
        pixels = viz.denormalize(images.cpu(), data.transforms.mean, data.transforms.std)
        lists = viz.ranking_lists(pixels[:split], pixels[split:], ranking, title=title)
        log_picture(trainer.loggers, "pictures/rankings", lists, step)
        if network.granularities:
            membership = network.assignments(images[:split], None if mask is None else mask[:split])[-1].cpu()
            maps = viz.assignment_maps(pixels[:split], membership, network.grid, network.granularities, title=title)
            log_picture(trainer.loggers, "pictures/assignment", maps, step)

    def _probe(self, data: ReIDDataModule) -> TestSet:
        """The probe set; its images are read once."""
        if self._probed is None:
            source = data.val_set or next(iter(data.test_sets.values()))
            query = spread(source.query, self.images)
            pids = {record.pid for record in query}
            answers = [record for record in source.gallery if record.pid in pids]
            others = [record for record in source.gallery if record.pid not in pids]
            gallery = spread(answers, self.gallery // 2)
            gallery += spread(others, self.gallery - len(gallery))
            self._probed = TestSet(source.name, query, gallery)
            images = data.test_images(self._probed.records)
            self._batch = default_collate([images[i] for i in range(len(images))])
        return self._probed
