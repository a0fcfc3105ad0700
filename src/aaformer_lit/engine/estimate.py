"""How long a training would take on this machine, said before it starts rather than found out after."""

from __future__ import annotations

import time

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aaformer_lit.structures import ReIDOutput
from aaformer_lit.utils.text import plural


def training_hours(network: nn.Module, image_size: tuple[int, int], images: int, batch: int = 8) -> float:
    """Hours to train on so many images (all epochs together), from one timed forward and backward pass.

    An estimate: optimizer, data loading and tests are not in it, and small batches are a little slower per image.
    """
    device = next(network.parameters()).device
    training = network.training
    network.train()
    state = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with torch.random.fork_rng():
        pictures = torch.rand(batch, 3, *image_size, device=device)
        seconds = min(timed_step(network, pictures)[1] for _ in range(2))
    for name, buffer in network.named_buffers():
        buffer.copy_(state[name])  # a look ahead must not leave traces in the batch-norm statistics
    network.zero_grad(set_to_none=True)
    network.train(training)
    return seconds / batch * images / 3600


def drawn_images(images: int, batch: int, limit: int | float | None) -> int:
    """Images that an epoch draws: all, or what Lightning's `limit_train_batches` (batches, or their share) leaves of them."""
    if limit is None:
        return images
    return min(images, limit * batch) if isinstance(limit, int) else int(images * limit)


def timed_step(network: nn.Module, images: Float[Tensor, "batch 3 height width"]) -> tuple[ReIDOutput, float]:
    """What the network finds in the images, and the seconds of a forward and a backward pass.

    Every pixel is of the first body part, for networks that need masks.
    """
    part_mask = torch.zeros(len(images), *images.shape[2:], dtype=torch.uint8, device=images.device)
    started = time.perf_counter()
    output: ReIDOutput = network(images, part_mask)
    (output.global_feat.sum() + output.part_feats.sum()).backward()
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return output, time.perf_counter() - started


def is_emulated(precision: str, cpu_capability: str) -> bool:
    """Whether a CPU of this `torch.backends.cpu.get_cpu_capability()` has no bf16 arithmetic, so that software does it.

    A product of 2,048 x 384 by 384 x 1,536 then took 37 times as long as in float32 (AVX2, torch 2.14, 2026-11-29).
    """
    return precision.startswith("bf16") and cpu_capability in ("NO AVX", "AVX2")


def in_words(hours: float) -> str:
    """`3 minutes`, `5 hours`, `12 days`."""
    for limit, unit, factor in ((1.5, "minute", 60), (48, "hour", 1)):
        if hours < limit:
            return plural(max(round(hours * factor), 1), unit)
    return plural(round(hours / 24), "day")
