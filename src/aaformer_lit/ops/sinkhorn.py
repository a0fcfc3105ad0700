"""Entropic optimal transport by Sinkhorn-Knopp in the log domain (AAformer, Eq. 3-5).

The plan spreads mass 1 over parts and patches: every part is to receive 1/P, every patch gives 1/N. One iteration
scales the rows (parts), then the columns (patches). Zero iterations are the column step alone: each patch's own softmax
over the parts, whose argmax is the nearest part. Always in float32 or better: exp(q.k / 0.05) overflows float16.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from aaformer_lit.errors import ConfigError

_EXP_RANGE = 60.0  # exp(-60) and its sums are normal numbers in float32
_CACHEFUL = 2**17  # scores: half a megabyte


def check_sinkhorn(epsilon: float, iterations: int) -> None:
    """Raise `ConfigError` for arguments that cannot work."""
    if epsilon <= 0 or iterations < 0:
        raise ConfigError(
            f"Sinkhorn needs epsilon > 0 and iterations >= 0; got epsilon={epsilon}, iterations={iterations}. "
            "The paper uses 0.05 and 3."
        )


def log_sinkhorn(
    scores: Float[Tensor, "*batch parts patches"],
    epsilon: float = 0.05,
    iterations: int = 3,
    log_shares: Float[Tensor, "*batch parts 1"] | None = None,
) -> Float[Tensor, "*batch parts patches"]:
    """Log of the transport plan Y* of Eq. 5 after `iterations` row and column steps.

    Args:
        scores: similarity of each part to each patch; higher is closer. Half precision is computed in float32.
        epsilon: smoothness (weight of the entropy in Eq. 3), in the units of the scores.
        iterations: row-then-column steps; 0 is the column step alone.
        log_shares: log of the share of the mass that each part is to receive; None is Eq. 4, 1/P each.
    """
    check_sinkhorn(epsilon, iterations)
    with torch.autocast(scores.device.type, enabled=False):
        log_plan = scores if scores.dtype == torch.float64 else scores.float()
        log_plan = log_plan / epsilon
        # a step divides each row (column) by its sum: log_softmax in the log domain. The marginals 1/P and 1/N of all
        # steps but the last cancel
        for _ in range(iterations):
            log_plan = log_plan.log_softmax(dim=-1)
            log_plan = (log_plan if log_shares is None else log_plan + log_shares).log_softmax(dim=-2)
        if iterations == 0:
            log_plan = log_plan.log_softmax(dim=-2)
        return log_plan - math.log(scores.shape[-1])


def sinkhorn(
    scores: Float[Tensor, "*batch parts patches"], epsilon: float = 0.05, iterations: int = 3
) -> Float[Tensor, "*batch parts patches"]:
    """The transport plan itself: sums to 1, columns to 1/N exactly, rows to 1/P in the limit (Eq. 4)."""
    check_sinkhorn(epsilon, iterations)
    if _exp_holds(scores, epsilon):
        return _scaled(scores, epsilon, iterations)
    return log_sinkhorn(scores, epsilon, iterations).exp()


def _exp_holds(scores: Tensor, epsilon: float) -> bool:
    """Whether one exp per score will do: their range is so small that no row or column of the plan can vanish.

    Only on a CPU, where looking at the range costs little, and without gradient, as the plan is then scaled in place.
    """
    if scores.device.type != "cpu" or torch.compiler.is_compiling() or not scores.numel():
        return False
    if scores.requires_grad and torch.is_grad_enabled():
        return False
    low, high = scores.aminmax()
    return bool((high - low).double() <= _EXP_RANGE * epsilon)


def _scaled(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Eq. 5 as printed: exp(scores / epsilon), rows and columns divided by their sums in turn; in chunks that fit the cache."""
    plan = scores.clone() if scores.dtype == torch.float64 else scores.to(torch.float32, copy=True)
    plan = plan.contiguous()
    problems = plan.view(-1, *plan.shape[-2:])
    for some in problems.split(max(1, _CACHEFUL // problems[0].numel())):
        some.sub_(some.amax(dim=(-2, -1), keepdim=True)).div_(epsilon).exp_()
        for _ in range(iterations):
            some.div_(some.sum(dim=-1, keepdim=True)).div_(some.sum(dim=-2, keepdim=True))
        if iterations == 0:
            some.div_(some.sum(dim=-2, keepdim=True))
        some.div_(plan.shape[-1])
    return plan
