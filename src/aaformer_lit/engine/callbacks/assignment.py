"""How the parts share the patches, logged while training."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from aaformer_lit.assign import Sinkhorn
from aaformer_lit.engine.fsdp import unsharded
from aaformer_lit.metrics import assignment_statistics
from aaformer_lit.models import AAformer, ReIDViT
from aaformer_lit.models.evaluating import evaluating
from aaformer_lit.structures import ReIDBatch


class AssignmentMonitor(Callback):
    """Logs how the patches are shared out (`assign/*`), on the last training batch of an epoch.

    `largest_share` is the share of patches that the largest part takes (1/P is equal, 1 is collapse), `empty_share` the
    share of parts without a patch of their own, `entropy` that of the subset sizes over log P (1 is equal). With the
    `Sinkhorn` assigner `marginal_error` is how far its plan is from equal parts (Eq. 4), in mass: 0 is converged; of layers
    that follow the body, whose parts are not to be equal, it is not measured.

    Args:
        every_n_epochs: how often.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        self.every_n_epochs = every_n_epochs

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: ReIDBatch, batch_idx: int
    ) -> None:
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0 and trainer.is_last_batch
        trained = cast(ReIDViT, pl_module.network)
        if not due or not trained.granularities:
            return
        network = unsharded(trained, pl_module.description())  # type: ignore[operator]
        if network is None or not trainer.is_global_zero:
            return
        mask = batch.get("part_mask")
        with trainer.precision_plugin.forward_context(), torch.no_grad(), evaluating(network):
            # past the compiled network, which would be compiled once more for these outputs
            output = network.forward(
                batch["image"][:16], None if mask is None else mask[:16], return_assignments=True, return_scores=True
            )
        statistics = assignment_statistics(output.assignments, network.granularities)
        if isinstance(network, AAformer) and isinstance(network.assigner, Sinkhorn):
            not_following = output.scores[: len(output.scores) - network.follow_body]
            errors = [
                error
                for scores in not_following
                for error in marginal_errors(network.assigner, scores, network.parts, network.grid)
            ]
            if errors:
                statistics["marginal_error"] = sum(errors) / len(errors)
        values = {f"assign/{name}": value for name, value in statistics.items()}
        pl_module.log_dict(values, on_step=False, on_epoch=True, rank_zero_only=True)


def marginal_errors(
    assigner: Sinkhorn, scores: Float[Tensor, "batch heads parts patches"], parts: list[int], grid: tuple[int, int]
) -> list[float]:
    """One number per granularity: the L1 distance of the plan's row sums from 1/P, mean over images and heads."""
    errors = []
    for group in scores.split(parts, dim=-2):
        plan = assigner.plan(group, grid)
        errors.append((plan.sum(dim=-1) - 1 / group.shape[-2]).abs().sum(dim=-1).mean().item())
    return errors
