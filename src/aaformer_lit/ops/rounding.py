"""From a soft plan to subsets: which patches belong to which part (the rounding procedure after Eq. 5).

`argmax` gives each patch to its heaviest part; `balanced` gives all parts equally many patches, sizes differing by one
at most. Either way no subset stays empty, because a softmax over nothing does not exist. `soft` attention rounds nothing
(`reference.soft_attention_weights`); the subsets that pictures and measures show of it are those of `argmax`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def fill_empty(
    membership: Bool[Tensor, "*batch parts patches"], mass: Float[Tensor, "*batch parts patches"]
) -> Bool[Tensor, "*batch parts patches"]:
    """Give each part without a patch the one patch where its mass is greatest (which also stays where it was)."""
    empty = ~membership.any(dim=-1, keepdim=True)
    heaviest = mass.argmax(dim=-1, keepdim=True)
    return membership | (empty & (torch.arange(mass.shape[-1], device=mass.device) == heaviest))


def round_argmax(mass: Float[Tensor, "*batch parts patches"]) -> Bool[Tensor, "*batch parts patches"]:
    """Each patch to the part with most of its mass; the lower part on a tie."""
    parts = torch.arange(mass.shape[-2], device=mass.device)[:, None]
    # max instead of argmax: the same first index on ties, and ten times as fast on a CPU along this dimension
    return fill_empty(mass.max(dim=-2, keepdim=True).indices == parts, mass)


def round_balanced(mass: Float[Tensor, "*batch parts patches"]) -> Bool[Tensor, "*batch parts patches"]:
    """Subsets of equal size (the first N mod P parts one larger), by deferred acceptance.

    Patches propose to their heaviest part that has not refused them; a full part keeps the patches with most mass.
    The result is stable in Gale and Shapley's sense: no patch and part would both rather have each other. It is not the
    exact assignment optimum, which needs a linear program per head.
    """
    parts, patches = mass.shape[-2:]
    capacity = torch.full((parts, 1), patches // parts, device=mass.device)
    capacity[: patches % parts] += 1
    part_index = torch.arange(parts, device=mass.device)[:, None]
    # -inf is for parts that have refused: with it for no mass too, a patch would ask a full part again and again
    mass = open_mass = mass.clamp_min(torch.finfo(mass.dtype).min)
    while True:
        proposal = open_mass.argmax(dim=-2, keepdim=True) == part_index
        queue = torch.where(proposal, mass, -torch.inf).argsort(dim=-1, descending=True, stable=True)
        place = torch.empty_like(queue).scatter_(-1, queue, torch.arange(patches, device=mass.device).expand_as(queue))
        refused = proposal & (place >= capacity)
        if not refused.any():
            return fill_empty(proposal, mass)
        open_mass = open_mass.masked_fill(refused, -torch.inf)


Rounding = Literal["argmax", "balanced", "soft"]
ROUNDING: dict[Rounding, Callable[[Tensor], Tensor]] = {
    "argmax": round_argmax,
    "balanced": round_balanced,
    "soft": round_argmax,
}
