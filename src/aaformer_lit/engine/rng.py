"""Random states of all ranks: each drops paths of its own, and goes on where it stopped when a training is continued."""

from __future__ import annotations

import torch
from torch import Tensor

from aaformer_lit.ops.distributed import gather_batch


def seed_rank(rank: int) -> None:
    """Ranks are seeded alike, so that they build the same network; from here on each but the first has numbers of its own."""
    if rank:
        torch.manual_seed(torch.initial_seed() + (rank << 32))


def random_states(device: torch.device) -> dict[str, Tensor]:
    """torch's generators for a checkpoint, one row for each rank: `cpu`, and on a GPU `cuda`. All ranks must call."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return {name: gather_batch(state[None].to(device)).cpu() for name, state in states.items()}


def restore_random_states(states: dict[str, Tensor], rank: int, world_size: int, device: torch.device) -> None:
    """Set the generators as they were on this rank; those of another number of ranks, or of another device, say nothing."""
    # cloned: torch takes a row for the whole storage, and reads from its start or past its end
    if "cpu" in states and len(states["cpu"]) == world_size:
        torch.set_rng_state(states["cpu"][rank].clone())
    if device.type == "cuda" and "cuda" in states and len(states["cuda"]) == world_size:
        torch.cuda.set_rng_state(states["cuda"][rank].clone(), device)
