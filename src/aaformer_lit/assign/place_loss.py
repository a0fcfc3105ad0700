"""What an assigner's scores can be taught without labels: which stripe of the image a patch is from. Not in the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from aaformer_lit.assign.placed import patch_heights
from aaformer_lit.errors import ConfigError
from aaformer_lit.structures import NO_PART, ReIDOutput

Place = UInt8[Tensor, "batch height width"]


class PlaceLoss(nn.Module):
    """What a part's place teaches its scores: cross entropy of each patch's parts with the one that its place belongs to.

    Not in the paper, where nothing teaches the scores. A patch belongs to part i of P if it lies in stripe i of the image;
    where boxes are moved (`data.transforms.box`), of the unmoved one: the place in the image given does not tell then, so
    that looks have to. The mean over layers, heads, granularities and patches that lie in the image.

    Args:
        weight: of the term beside the others.
        epsilon: of the softmax over parts, in the units of the scores (that of the transport: 0.05).
        heights_weight: of the error of an estimate of the patches' heights on the body, where a network makes one.
    """

    def __init__(self, weight: float = 0.3, epsilon: float = 0.05, heights_weight: float = 10.0) -> None:
        super().__init__()
        if min(weight, heights_weight) < 0 or epsilon <= 0:
            raise ConfigError(
                f"the place loss needs weights >= 0 and epsilon > 0; got weight={weight}, epsilon={epsilon}, "
                f"heights_weight={heights_weight}."
            )
        self.weight, self.epsilon, self.heights_weight = weight, epsilon, heights_weight

    def forward(
        self, output: ReIDOutput, granularities: Sequence[int], grid: tuple[int, int], place: Place | None = None
    ) -> dict[str, Tensor]:
        """The terms by name, all of which are logged, and their weighted sum as `loss`.

        Args:
            output: of a network that was asked for its scores.
            granularities: parts per granularity, in the scores' order.
            grid: rows and columns of patches.
            place: how far down in the original image each pixel was; None where each is where it is in the image given.
        """
        terms = {"place": self.score_error(output.scores, granularities, grid, place)}
        loss = self.weight * terms["place"]
        if output.heights is not None:
            terms["heights"] = self.height_error(output.heights, grid, place)
            loss = loss + self.heights_weight * terms["heights"]
        return terms | {"loss": loss}

    def score_error(
        self,
        scores: Sequence[Float[Tensor, "batch heads parts patches"]],
        granularities: Sequence[int],
        grid: tuple[int, int],
        place: Place | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cross entropy of the patches' parts, by each layer's scores, with those that their places belong to."""
        heights = _true_heights(place, grid, scores[0].device)
        terms = []
        for layer in scores:
            logits = layer / self.epsilon  # float32 or better, as similarity_scores has them
            for group in logits.split(list(granularities), dim=-2):
                parts = group.shape[-2]
                labels = (heights * parts).long().clamp_max(parts - 1).masked_fill(heights.isnan(), -1)
                # (batch, heads, parts, patches) as cross_entropy has it: classes second
                labels = labels[:, None].expand(len(group), group.shape[1], -1)
                error = F.cross_entropy(group.transpose(1, 2), labels, ignore_index=-1, reduction="sum")
                terms.append(error / (labels >= 0).sum().clamp_min(1))  # torch's mean of no patch is NaN
        return torch.stack(terms).mean()

    def height_error(
        self,
        heights: Float[Tensor, "batch patches"],
        grid: tuple[int, int],
        place: Place | None = None,
    ) -> Float[Tensor, ""]:
        """Mean absolute error of an estimate over the patches that lie in the image, in shares of the body's height."""
        true = _true_heights(place, grid, heights.device).expand_as(heights)
        known = ~true.isnan()
        return (heights - true.nan_to_num()).abs().mul(known).sum() / known.sum().clamp_min(1)


def patch_places(place: Place, grid: tuple[int, int]) -> Float[Tensor, "batch patches"]:
    """How far down in the original image, from 0 to 1, the middle of each patch was; NaN where it was not in it."""
    rows, columns = (
        ((torch.arange(count, device=place.device) + 0.5) * size / count).long()
        for count, size in zip(grid, place.shape[1:], strict=True)
    )
    middle = place[:, rows[:, None], columns].flatten(1)
    return (middle.float() / NO_PART).masked_fill(middle == NO_PART, torch.nan)


def _true_heights(place: Place | None, grid: tuple[int, int], device: torch.device) -> Float[Tensor, "*batch patches"]:
    return patch_heights(grid, device)[None] if place is None else patch_places(place, grid)
