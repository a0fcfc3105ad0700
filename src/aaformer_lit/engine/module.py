"""ReIDModule: the LightningModule that wires network, loss, optimization and metric; it does no arithmetic of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from aaformer_lit.assign import Parsing, PlaceLoss
from aaformer_lit.checkpoints.load import check_same_model, describe
from aaformer_lit.data.test_set import TestSet
from aaformer_lit.engine.fsdp import shard
from aaformer_lit.engine.results import Results, flatten_results
from aaformer_lit.engine.rng import random_states, restore_random_states, seed_rank
from aaformer_lit.errors import ConfigError, NumericsError
from aaformer_lit.losses import Loss
from aaformer_lit.metrics import ReIDRetrieval
from aaformer_lit.models import AAformer, ReIDViT
from aaformer_lit.models.base import descriptors
from aaformer_lit.ops.distributed import gather_batch, is_distributed
from aaformer_lit.optim import Optimization
from aaformer_lit.structures import ReIDBatch


class ReIDModule(LightningModule):
    """Training and testing of any network here.

    Args:
        network: an `AAformer`, `ViTBaseline` or another of `aaformer_lit.models`.
        loss: the objective; None for a module that only tests.
        optimization: optimizer and schedule; None for a module that only tests.
        about: the model and data config that a checkpoint carries, so that `load_model` can build the network again.
        retrieval: further arguments of `ReIDRetrieval`, such as `ranks` or `rerank`.
        flip_test: average the descriptor with that of the mirrored image (test-time augmentation).
        place_loss: teaches an AAformer's scores where its parts belong, beside `loss`; None as in the paper.
    """

    def __init__(
        self,
        network: ReIDViT,
        loss: Loss | None = None,
        optimization: Optimization | None = None,
        about: Mapping[str, Any] | None = None,
        retrieval: Mapping[str, Any] | None = None,
        flip_test: bool = False,
        place_loss: PlaceLoss | None = None,
    ) -> None:
        super().__init__()
        if place_loss is not None and not isinstance(network, AAformer):
            raise ConfigError(
                f"the place loss teaches part tokens, which {type(network).__name__} does not have. Use model=aaformer, or "
                "place_loss=null."
            )
        if loss is not None and place_loss is None and isinstance(network, AAformer) and network.follow_body:
            raise ConfigError(
                "model.follow_body needs the place loss, which alone teaches where on the body a patch is. Use "
                "place_loss=stripes, or model.follow_body=0."
            )
        if optimization is not None:
            optimization.apply_freeze(
                network
            )  # now: `ddp` counts on every gradient that is on when it wraps the network
        self.network, self.loss, self.optimization, self.place_loss = network, loss, optimization, place_loss
        self.about, self.retrieval, self.flip_test = dict(about or {}), dict(retrieval or {}), flip_test
        self.results: Results = {}
        self._metrics: dict[str, ReIDRetrieval] = {}
        self._random_state: dict[str, Tensor] = {}

    def setup(self, stage: str) -> None:
        assigner = getattr(self.network, "assigner", None)
        if isinstance(assigner, Parsing):
            classes: Sequence[str] = self.trainer.datamodule.part_names  # type: ignore[attr-defined]
            assigner.check_classes(self.network.granularities, classes, self.about.get("data", {}).get("part_names"))

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            shard(self.network, self.device_mesh["data_parallel"])

    def on_train_epoch_start(self) -> None:
        assert self.loss is not None, "built for testing only"
        self.loss.epoch = self.current_epoch
        # epochs of the PK sampler differ by a batch or two; Lightning asks for the length only once, and would then leave
        # out batches of longer epochs and validations of shorter ones
        loop, limit = self.trainer.fit_loop, self.trainer.limit_train_batches
        loader = self.trainer.train_dataloader
        assert loader is not None
        assert loop._combined_loader is not None
        batches = min(len(loader), limit) if isinstance(limit, int) else int(len(loader) * limit)
        loop._combined_loader.limits = [batches]
        loop.max_batches = self.trainer.val_check_batch = batches

    def training_step(self, batch: ReIDBatch, batch_idx: int) -> Tensor:
        assert self.loss is not None, "built for testing only"
        output = self.network(batch["image"], batch.get("part_mask"), return_scores=self.place_loss is not None)
        terms = self.loss(output, batch["pid"], gather_batch if is_distributed() else None)
        if self.place_loss is not None:
            place = self.place_loss(output, self.network.granularities, self.network.grid, batch.get("place"))
            terms |= place | {"loss": terms["loss"] + place["loss"]}
        self._check_finite(terms, batch)
        values = {f"train/{name}": value.detach() for name, value in terms.items()}
        self.log_dict(values, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch["pid"]))
        # of this process alone, every `trainer.log_every_n_steps`
        self.log_dict({f"step/{name}": value.detach() for name, value in terms.items()}, on_step=True, on_epoch=False)
        self.log("loss", values["train/loss"], prog_bar=True, logger=False)
        loss: Tensor = terms["loss"]
        return loss

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        assert self.optimization is not None, "built for testing only"
        optimizer, schedule = self.optimization.build(self.network, self.trainer.max_epochs or 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def on_validation_epoch_start(self) -> None:
        val_set = self.trainer.datamodule.val_set  # type: ignore[attr-defined]
        self._metrics = {val_set.name: self._metric(val_set)}

    def validation_step(self, batch: ReIDBatch, batch_idx: int) -> None:
        self._update(next(iter(self._metrics)), batch)

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            metrics = next(iter(self._metrics.values())).compute()[""]
            # equal on all ranks already, which Lightning cannot know
            self.log_dict(metrics.as_dict("val/"), sync_dist=True)
        self._metrics = {}

    def on_test_epoch_start(self) -> None:
        test_sets = self.trainer.datamodule.test_sets  # type: ignore[attr-defined]
        self._metrics = {name: self._metric(test_set) for name, test_set in test_sets.items()}

    def test_step(self, batch: ReIDBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._update(list(self._metrics)[dataloader_idx], batch)

    def on_test_epoch_end(self) -> None:
        self.results = {name: metric.compute() for name, metric in self._metrics.items()}
        self.log_dict(flatten_results(self.results), sync_dist=True)

    @property
    def feature_metrics(self) -> Mapping[str, ReIDRetrieval]:
        """The metric of each test set of the last test, with the features in it."""
        return self._metrics

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["aaformer_lit"] = self.description()
        checkpoint["random_state"] = random_states(self.device)

    def share_features(self) -> None:
        """Let each process have the features of all, for what one does alone with `feature_metrics`. All must call."""
        if is_distributed():
            for metric in self._metrics.values():
                metric.sync(dist_sync_fn=metric.dist_sync_fn)

    def description(self) -> dict[str, Any]:
        """What a checkpoint says of the network."""
        return describe(self.about.get("model", {}), self.network.num_classes, self.about.get("data", {}))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "state_dict" in checkpoint:  # else `Sharded` has checked and loaded it already
            check_same_model(self.state_dict(), checkpoint["state_dict"])
        self._random_state = checkpoint.get("random_state", {})
        if self.optimization is not None and checkpoint.get("optimizer_states"):
            self.optimization.check_same(self.network, checkpoint["optimizer_states"][0])

    def on_train_start(self) -> None:
        schedule = self.lr_schedulers()
        assert isinstance(schedule, LambdaLR)
        # the optimizer of a training that is continued has its rate from a schedule that may have had another end
        for group, rate, factor in zip(
            schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = rate * factor(schedule.last_epoch)
        seed_rank(self.global_rank)
        restore_random_states(self._random_state, self.global_rank, self.trainer.world_size, self.device)

    def _metric(self, test_set: TestSet) -> ReIDRetrieval:
        return ReIDRetrieval(
            len(test_set.query),
            self.network.evaluated_groups,
            num_gallery=len(test_set.gallery),
            normalize=self.network.normalize,
            sequences=test_set.sequences,
            draws=test_set.draws,
            **self.retrieval,
        ).to(self.device)

    def _update(self, name: str, batch: ReIDBatch) -> None:
        descriptor = descriptors(self.network, batch["image"], batch.get("part_mask"), self.flip_test, True)
        self._metrics[name].update(descriptor, batch["pid"], batch["camid"], batch["index"])

    def _check_finite(self, terms: Mapping[str, Tensor], batch: ReIDBatch) -> None:
        if torch.isfinite(terms["loss"]):
            return
        bad = [name for name, value in terms.items() if not torch.isfinite(value)]
        records = self.trainer.datamodule.train_records  # type: ignore[attr-defined]
        names = [records[int(i)].path.name for i in batch["index"]]
        evidence = {"batch": dict(batch), "files": names, "terms": {k: v.item() for k, v in terms.items()}}
        raise NumericsError(
            f"the loss is not finite at step {self.global_step} (epoch {self.current_epoch + 1}): {', '.join(bad)} of the "
            f"batch {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}. "
            "Lower optim.optimizer.lr, clip gradients (trainer.gradient_clip_val=1) or use trainer.precision=bf16-mixed or 32.",
            evidence,
        )
