"""torch.compile where it earns its place: compared with eager execution before the training, and left out if it fails."""

from __future__ import annotations

import logging
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from aaformer_lit.engine.estimate import timed_step
from aaformer_lit.errors import first_line
from aaformer_lit.models import ReIDViT
from aaformer_lit.models.evaluating import evaluating

log = logging.getLogger(__name__)
_LARGEST_DIFFERENCE = 0.02  # of CLS, relative; a regrouped patch moves parts, and CLS a little
_REPEATS = 3


def compile_if_it_pays(network: ReIDViT, batch_size: int, device: str | torch.device) -> dict[str, Any]:
    """Compile `network` in place, unless the compiled one fails, computes another CLS or is slower; says which in one line.

    Args:
        network: left on the device that it is on now.
        batch_size: images in the comparison.
        device: where it will be trained.

    Returns:
        `compiled`, `reason` and the milliseconds of both, for `metadata.json`.
    """
    home = next(network.parameters()).device
    network.to(device)
    images = torch.randn(batch_size, 3, *network.image_size, generator=torch.Generator().manual_seed(0)).to(device)
    with evaluating(network):
        expected, eager_ms = _measured(network, images)
        reason, compiled_ms = "equal and not slower", None
        network.compile()
        try:
            found, compiled_ms = _measured(network, images)
            difference = ((found - expected).norm() / expected.norm()).item()
            if not difference <= _LARGEST_DIFFERENCE:
                reason = f"its CLS differs by {100 * difference:.1f}%"
            elif compiled_ms > eager_ms:
                reason = f"it takes {compiled_ms:.0f} ms where eager execution takes {eager_ms:.0f}"
        except Exception as error:  # a compiler has many ways to fail
            reason = f"it failed with {type(error).__name__}: {first_line(error)}"
    compiled = reason == "equal and not slower"
    if not compiled:
        network._compiled_call_impl = None
        log.warning("compile=true is not used: %s. Training goes on without it.", reason)
    network.zero_grad()
    network.to(home)
    return {"compiled": compiled, "reason": reason, "compiled_ms": compiled_ms, "eager_ms": eager_ms}


def _measured(network: ReIDViT, images: Tensor) -> tuple[Float[Tensor, "batch dim"], float]:
    """CLS of the images, and the milliseconds of the fastest forward and backward pass after the first."""
    outputs, seconds = zip(*(timed_step(network, images) for _ in range(_REPEATS + 1)), strict=True)
    return outputs[-1].global_feat.detach(), 1e3 * min(seconds[1:])
