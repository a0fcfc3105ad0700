"""How the weights are moved: parameter groups, optimizer and learning-rate schedule (AAformer, Sec. IV-A).

Every deviation from one learning rate for all is a factor on it: layer-wise decay, biases, part tokens, heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from aaformer_lit.errors import ConfigError


class WarmupCosine:
    """Learning-rate factor of an epoch: linear warm-up, then half a cosine down to the floor.

    Args:
        warmup_epochs: epochs of warm-up (the paper: 10).
        warmup_from: factor at epoch 0 (the paper: 8e-4 / 8e-3 = 0.1).
        floor: factor the cosine ends at.
        through_warmup: the cosine's clock starts at epoch 0 (timm's absolute schedule, TransReID), not after warm-up.
        first_epoch: the clock's time in the first epoch; TransReID's starts at 1.
    """

    def __init__(
        self,
        warmup_epochs: int = 10,
        warmup_from: float = 0.1,
        floor: float = 0.0,
        through_warmup: bool = False,
        first_epoch: int = 0,
    ) -> None:
        if warmup_epochs < 0 or not 0 < warmup_from <= 1 or not 0 <= floor <= 1:
            raise ConfigError(
                "a schedule needs warmup_epochs >= 0, 0 < warmup_from <= 1 and 0 <= floor <= 1; got "
                f"warmup_epochs={warmup_epochs}, warmup_from={warmup_from}, floor={floor}."
            )
        self.warmup_epochs, self.warmup_from = warmup_epochs, warmup_from
        self.floor, self.through_warmup, self.first_epoch = floor, through_warmup, first_epoch

    def factor(self, epoch: int, epochs: int) -> float:
        """Factor on the peak learning rate during `epoch` (counted from 0) of `epochs`."""
        epoch += self.first_epoch
        if epoch < self.warmup_epochs:
            return self.warmup_from + (1 - self.warmup_from) * epoch / self.warmup_epochs
        start = 0 if self.through_warmup else self.warmup_epochs
        progress = min((epoch - start) / max(epochs - start, 1), 1.0)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))


class Optimization:
    """Builds optimizer and schedule for a network; one config group, `conf/optim`.

    Args:
        optimizer: makes the optimizer from parameter groups, its `lr` being the peak (a partial of torch.optim's).
        schedule: learning-rate factor per epoch.
        layer_decay: factor per layer below the last (1: none; BEiT and MAE fine-tune with 0.65-0.75).
        bias_lr_factor: on bias parameters (TransReID: 2).
        part_lr_factor: on the part tokens.
        head_lr_factor: on necks and classifiers, and on the estimate of where the body is (`BodyHeights`).
        decay_all: whether biases, norms and tokens have weight decay too, as in BoT and the paper; off for AdamW.
        freeze: modules or parameters of the backbone that stay as they are, such as `patch_embed` or `blocks.0`.
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer],
        schedule: WarmupCosine,
        layer_decay: float = 1.0,
        bias_lr_factor: float = 1.0,
        part_lr_factor: float = 1.0,
        head_lr_factor: float = 1.0,
        decay_all: bool = True,
        freeze: Sequence[str] = (),
    ) -> None:
        if not 0 < layer_decay <= 1:
            raise ConfigError(f"layer_decay must be in (0, 1]; got {layer_decay}.")
        self.optimizer, self.schedule = optimizer, schedule
        self.layer_decay, self.bias_lr_factor = layer_decay, bias_lr_factor
        self.part_lr_factor, self.head_lr_factor = part_lr_factor, head_lr_factor
        self.decay_all, self.freeze = decay_all, tuple(freeze)

    def build(self, network: nn.Module, epochs: int) -> tuple[Optimizer, LambdaLR]:
        """Optimizer over the trainable parameters and its per-epoch schedule."""
        self.apply_freeze(network)
        groups = self.parameter_groups(network)
        if not groups:
            raise ConfigError(f"freeze={list(self.freeze)} leaves no parameter to train. Freeze less.")
        try:
            optimizer = self.optimizer([{"params": g["params"]} for g in groups])
        except ValueError as error:  # how torch refuses a learning rate, momentum or weight decay below 0
            raise ConfigError(f"optim.optimizer does not work: {error}.") from error
        for made, wanted in zip(optimizer.param_groups, groups, strict=True):
            made["lr"] *= wanted["lr_factor"]
            made["weight_decay"] *= wanted["decay_factor"]
            made["name"] = wanted["name"]
        return optimizer, LambdaLR(optimizer, lambda epoch: self.schedule.factor(epoch, epochs))

    def check_same(self, network: nn.Module, state: Mapping[str, Any]) -> None:
        """Raise `ConfigError` unless an optimizer of this state can be continued: one of the same kind, groups and settings."""
        ours, theirs = self.build(network, 1)[0].param_groups, state["param_groups"]
        # versions of torch add settings to a kind, other kinds have others
        same_kind = ours[0].keys() >= theirs[0].keys() or theirs[0].keys() >= ours[0].keys()
        if not same_kind or [len(one["params"]) for one in ours] != [len(one["params"]) for one in theirs]:
            raise ConfigError(
                "the checkpoint's training has moved its weights with another optimizer, or with other groups of parameters "
                "(optim.layer_decay, freeze, factors). ckpt_path continues a training with its own; with another one, begin a "
                "new training from these weights: init_from in place of ckpt_path."
            )
        other = sorted({name for pair in zip(ours, theirs, strict=True) for name in _unequal(*pair)})
        if other:
            raise ConfigError(
                f"the checkpoint's training has moved its weights with another {' and another '.join(other)} (optim.*), and a "
                "training is continued with its own. Leave them as they were; with others, begin a new training from these "
                "weights: init_from in place of ckpt_path."
            )

    def apply_freeze(self, network: nn.Module) -> None:
        """Turn off the gradient of the frozen backbone parameters. Raises `ConfigError` for what the backbone does not have."""
        for name in self.freeze:
            inside = f"backbone.{name.rstrip('.')}."
            frozen = [p for known, p in network.named_parameters() if f"{known}.".startswith(inside)]
            if not frozen:
                raise ConfigError(
                    f"freeze={name!r} names nothing of the backbone; use names such as 'patch_embed' or 'blocks.0'."
                )
            for parameter in frozen:
                parameter.requires_grad_(False)

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """Trainable parameters grouped by equal factors, each parameter in exactly one group."""
        depth = max(layer_of(name, depth=0) for name, _ in network.named_parameters())
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:
                continue
            lr_factor = self.layer_decay ** (depth + 1 - layer_of(name, depth))
            if name.endswith(".bias"):
                lr_factor *= self.bias_lr_factor
            if name.startswith("part_"):
                lr_factor *= self.part_lr_factor
            if name.startswith(("heads.", "heights.")):
                lr_factor *= self.head_lr_factor
            is_matrix = parameter.ndim > 1 and not name.endswith(("_token", "_tokens", "pos_embed"))
            decay_factor = 1.0 if self.decay_all or is_matrix else 0.0
            group = groups.setdefault(
                (lr_factor, decay_factor), {"params": [], "lr_factor": lr_factor, "decay_factor": decay_factor}
            )
            group["params"].append(parameter)
            group.setdefault("of", {})[self._place(name, depth)] = None
        for (lr_factor, decay_factor), group in groups.items():
            times = "" if lr_factor == 1 else f" x {lr_factor:.4g}"
            group["name"] = f"{' + '.join(group.pop('of'))}{times}{'' if decay_factor else ', no decay'}"
        return list(groups.values())

    def _place(self, name: str, depth: int) -> str:
        """Where in the network a parameter is, as far as learning rates tell places apart."""
        if name.startswith("part_"):
            return "part tokens"
        if name.startswith(("heads.", "heights.")):
            return "heads"
        layer = layer_of(name, depth)
        if self.layer_decay == 1 or layer > depth:
            return "backbone"
        return f"block {layer}" if layer else "embeddings"


def _unequal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Settings of a parameter group that differ, by their names in torch; not how they are computed."""
    passing = {"params", "name", "lr", "fused", "foreach", "capturable", "differentiable"}
    return [
        {"initial_lr": "lr"}.get(name, name)
        for name in (ours.keys() & theirs.keys()) - passing
        if not _alike(ours[name], theirs[name])
    ]


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):  # powers of `layer_decay` differ in the last bit by machine
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(np.array_equal(one, other))


def layer_of(name: str, depth: int) -> int:
    """Depth of a parameter: 0 for the backbone's embeddings, i + 1 for block i, depth + 1 for all that comes after.

    TransReID's second last block (`local_block`) is as deep as the last, whose weights it starts with.
    """
    if name.startswith("backbone.blocks."):
        return int(name.split(".")[2]) + 1
    if name.startswith("local_block."):
        return depth
    embeddings = ("cls_token", "dist_token", "reg_token", "pos_embed", "patch_embed", "norm_pre")
    return 0 if name.removeprefix("backbone.").startswith(embeddings) else depth + 1
