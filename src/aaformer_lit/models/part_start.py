"""Where the part tokens start: at random, at CLS, or at CLS moved towards a stripe or cluster of patches.

The paper does not say. A token that starts as CLS already knows how to sum up an image, and one that is moved towards a
region is closer to that region's patches than to others, so that its first subsets are body parts rather than chance.
"""

from __future__ import annotations

import logging
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn
from torch.nn import functional as F

from aaformer_lit.assign import Stripes
from aaformer_lit.errors import check_choice
from aaformer_lit.models.aaformer import AAformer
from aaformer_lit.models.evaluating import evaluating

logger = logging.getLogger(__name__)

PartStart = Literal["normal", "cls", "stripes", "kmeans"]


@torch.no_grad()
def start_parts(
    network: nn.Module, start: PartStart, images: Float[Tensor, "batch 3 height width"], part_mask: Tensor | None = None
) -> None:
    """Set the part tokens of a new network, whose backbone has its weights, in place.

    Args:
        network: an `AAformer`; a network without part tokens is left as it is, so that the rows of a sweep can share a start.
        start: `normal` leaves what the constructor drew (std 0.02); `cls` adds CLS, position included, to that; `stripes`
            is CLS, moved by its own length towards the mean patch (position included) of a horizontal stripe; `kmeans`
            likewise, towards a cluster of the patches' features before the last layer, numbered from top to bottom.
        images: normalized images for `stripes` and `kmeans`; a hundred are plenty.
        part_mask: (B, H, W) part of each pixel, for the parsing assigner.

    Raises:
        ConfigError: no such start.
    """
    check_choice("part_start", start, get_args(PartStart))
    if start == "normal":
        return
    if not isinstance(network, AAformer):
        logger.info("part_start=%s: %s has no part tokens to start", start, type(network).__name__)
        return
    before, features, cls = _seen(network, images, part_mask)
    if start == "cls":
        network.part_tokens.add_(cls)
        return
    patches, tokens = before.flatten(0, 1), []
    for parts in network.granularities:
        member = _stripes(before, network.grid, parts) if start == "stripes" else _clusters(features, parts)
        mean = member.float() @ patches / member.sum(dim=1, keepdim=True).clamp_min(1)
        direction = F.normalize(mean - patches.mean(dim=0), dim=-1)
        tokens.append(cls + cls.norm() * direction)
    network.part_tokens.copy_(torch.cat(tokens))


def _seen(network: AAformer, images: Tensor, part_mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Patches (B, N, D) as they enter the first block and as the last block sees them, and CLS (D) as it enters."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    blocks = network.backbone.blocks
    handles = [
        blocks[0].norm1.register_forward_hook(lambda _module, args, _output: inputs.append(args[0])),
        blocks[-1].norm1.register_forward_hook(lambda _module, _args, output: outputs.append(output)),
    ]
    try:
        with evaluating(network):
            network(images, part_mask)
    finally:
        for handle in handles:
            handle.remove()
    first = network.prefix + network.part_tokens.shape[1]
    return inputs[0][:, first:], outputs[0][:, first:], inputs[0][0, 0]


def _stripes(patches: Float[Tensor, "batch count dim"], grid: tuple[int, int], parts: int) -> Bool[Tensor, "parts all"]:
    batch, count, _ = patches.shape
    return Stripes().forward(patches.new_zeros(parts, count), grid).repeat(1, batch)


def _clusters(features: Float[Tensor, "batch count dim"], parts: int) -> Bool[Tensor, "parts all"]:
    batch, count, _ = features.shape
    points = features.flatten(0, 1).double().cpu().numpy()
    cluster = torch.from_numpy(kmeans2(points, parts, minit="++", rng=0)[1]).to(features.device)
    member = cluster == torch.arange(parts, device=features.device)[:, None]
    place = torch.arange(count, device=features.device).repeat(batch)
    height = (member * place).sum(dim=1) / member.sum(dim=1).clamp_min(1)
    return member[height.argsort()]
