"""`trainer=fsdp`: weights, gradients and optimizer state divided among the processes (torch's FSDP2, through Lightning).

Every process computes on its own images, as under `ddp`; a layer's weights are gathered just before it is needed. Checkpoints
are whole and in one file, as everywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.seed import isolate_rng
from timm.models.vision_transformer import Block
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from aaformer_lit.checkpoints.load import build_network, check_same_model, read_checkpoint

Network = TypeVar("Network", bound=nn.Module)


class Sharded(ModelParallelStrategy):
    """Lightning's FSDP2 strategy over all processes, with checkpoints like those of other strategies."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        # torch warns of what would break if such a view were changed in place, which nothing here does
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        assert self.model is not None
        known, module = read_checkpoint(checkpoint_path), self.lightning_module
        check_same_model(self.model.state_dict(), known["state_dict"])
        if self.optimizers and known.get("optimizer_states"):  # before its state is told from parameter to parameter
            module.optimization.check_same(module.network, known["optimizer_states"][0])  # type: ignore[union-attr, operator]
        # without them, as Lightning would number their states by the model's parameters
        optimizers, self.optimizers = self.optimizers, []
        content = super().load_checkpoint(checkpoint_path, weights_only)
        self.optimizers = optimizers
        for optimizer, state in zip(optimizers, content.get("optimizer_states", ()), strict=False):
            self._continue(optimizer, state)
        return content

    def _continue(self, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        """Load the state of a whole optimizer, which numbers parameters group by group."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        assert self.model is not None
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        ours = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
        theirs = [number for group in state["param_groups"] for number in group["params"]]
        name_of = dict(zip(theirs, ours, strict=True))
        named: dict[str, Any] = {
            "state": {name_of[number]: moments for number, moments in state["state"].items()},
            "param_groups": [g | {"params": [name_of[n] for n in g["params"]]} for g in state["param_groups"]],
        }
        whole = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_optimizer_state_dict(self.model, optimizer, optim_state_dict=named, options=whole)


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Divide the parameters among the processes of `mesh`, once; attention and MLP of each block come and go by themselves."""
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if isinstance(network, FSDPModule):
        return
    for block in [module for module in network.modules() if isinstance(module, Block)]:
        # not whole blocks, whose forward an AAformer does not use
        fully_shard(block.attn, mesh=mesh)
        fully_shard(block.mlp, mesh=mesh)
    fully_shard(network, mesh=mesh)


def unsharded(network: Network, about: Mapping[str, Any]) -> Network | None:
    """The network for one process alone: itself or, where it is sharded, a whole copy on the first process (None elsewhere).

    Every process must call, for each gives its share.

    Args:
        network: sharded or not.
        about: what a checkpoint would say of it (`aaformer_lit.checkpoints.load.describe`).
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.fsdp import FSDPModule

    if not isinstance(network, FSDPModule):
        return network
    device = next(network.parameters()).device
    state = get_model_state_dict(network, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if dist.get_rank() != 0:
        return None
    with isolate_rng():  # or the training would go on with other random numbers than without
        copy = build_network(about)
    copy.load_state_dict(state)
    return cast(Network, copy.to(device).train(network.training))
