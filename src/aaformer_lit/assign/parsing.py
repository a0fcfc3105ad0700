"""Human parsing (Table IV: SPReID): a patch belongs to every body part that one of its pixels shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.assign.base import Assigner, Grid
from aaformer_lit.errors import ConfigError
from aaformer_lit.ops import fill_empty


class Parsing(Assigner):
    """Membership from the data set's part masks; `parts` must hold the number of mask classes, `[6]` for six.

    A part that the image does not show takes the one patch with the highest score, so that its softmax exists.
    """

    def check_classes(
        self, parts: Sequence[int], classes: Sequence[str], trained_with: Sequence[str] | None = None
    ) -> None:
        """Raise `ConfigError` unless there is a part for each class of the masks, the same ones as in training.

        Args:
            parts: granularities of the network.
            classes: names of the mask table of the data; empty where they have no masks.
            trained_with: those that a checkpoint was trained with, if any.
        """
        if not classes:
            return  # an image without a mask says so itself
        if set(parts) != {len(classes)}:
            raise ConfigError(
                f"model.parts={list(parts)} are not the {len(classes)} body parts of data.mask_parts ({', '.join(classes)}), "
                f"for each of which the parsing assigner has one part. Use model.parts=[{len(classes)}]."
            )
        if trained_with and list(trained_with) != list(classes):
            raise ConfigError(
                f"the network was trained with the body parts {', '.join(trained_with)}, and data.mask_parts has "
                f"{', '.join(classes)}. Name the same parts in the same order, with the labels that they have in these masks."
            )

    def forward(
        self,
        scores: Float[Tensor, "batch heads parts patches"],
        grid: Grid,
        part_mask: UInt8[Tensor, "batch height width"] | None = None,
    ) -> Bool[Tensor, "batch heads parts patches"]:
        if part_mask is None:
            raise ConfigError(
                "the parsing assigner needs the body-part mask of every image, and these have none. Take images of a data set "
                "that has masks: data=synthetic, or others with data.masks=DIR and data.mask_parts."
            )
        classes = torch.arange(scores.shape[-2], device=scores.device)[None, :, None, None]
        shown = F.adaptive_max_pool2d((part_mask[:, None].to(scores.device) == classes).float(), grid) > 0
        return fill_empty(shown.flatten(2)[:, None].expand_as(scores), scores)
