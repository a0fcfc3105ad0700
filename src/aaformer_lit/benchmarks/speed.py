"""Images per second of several networks, each on images of its own size that lie in memory, run in turns."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aaformer_lit.benchmarks.measure import Run, in_turns
from aaformer_lit.models import ReIDViT


@torch.inference_mode()
def images_per_second(networks: Sequence[ReIDViT], batch: int, repeats: int) -> list[float]:
    """Of the fastest turn of each, on a GPU where there is one; the networks stay there."""
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def one_pass(network: ReIDViT) -> Run:
        size = network.to(device).image_size
        images = torch.rand(batch, 3, *size, device=device)
        masks = torch.randint(6, (batch, *size), dtype=torch.uint8, device=device)  # for those that go by body parts
        return lambda: network(images, masks)

    seconds = in_turns([one_pass(network) for network in networks], repeats)
    return [batch / min(times) for times in seconds]
