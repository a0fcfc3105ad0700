"""Part pooling (Table IV, "Pool"): the CNNs' way to part features, carried over to a plain ViT.

PCB, MGN and SPReID average the feature map over stripes or over parsed body parts. Here the patches of the last layer are
averaged over the subsets of the same assigners that guide AAformer's part tokens, so that a row "Pool" and a row "part
tokens" differ in how a part feature is made and in nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from jaxtyping import Bool, Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.assign import Assigner, Parsing, Stripes
from aaformer_lit.errors import ConfigError
from aaformer_lit.models.base import Encoding, Options, ReIDViT


class PooledViT(ReIDViT):
    """A plain ViT with the means of its last layer's patches as part features.

    Args:
        backbone: timm name (built without weights) or a built timm ViT.
        parts: granularities; [6] pools like PCB, [2, 3] like MGN.
        assigner: whose subsets are pooled, `Stripes` (None) or `Parsing`.
        options: those of `ReIDViT` but `descriptor`.
    """

    # the other schemes compare patches with part tokens, and there are none
    schemes = (Stripes, Parsing)

    def __init__(
        self,
        backbone: str | VisionTransformer = "vit_base_patch16_224",
        parts: Sequence[int] = (6,),
        assigner: Assigner | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.parts, self.granularities = list(parts), tuple(parts)
        super().__init__(backbone, **options)
        assigner = Stripes() if assigner is None else assigner
        if not isinstance(assigner, self.schemes):
            raise ConfigError(
                f"pooling needs a scheme that fixes the parts by itself; {type(assigner).__name__} compares patches with "
                "part tokens, which this network does not have. Use model/assigner=stripes or parsing, or model=aaformer."
            )
        assigner.validate(self.parts, self.grid)
        self.assigner = assigner

    def encode(
        self, images: Tensor, part_mask: Tensor | None, return_assignments: bool, return_scores: bool = False
    ) -> Encoding:
        self.backbone.set_grad_checkpointing(self.grad_checkpointing and self.training)
        sequence = self.backbone.forward_features(images)
        cls, patches = sequence[:, :1], sequence[:, self.backbone.num_prefix_tokens :]
        membership = self._membership(cls.detach(), patches.detach(), part_mask)
        tokens = torch.cat([cls, pool(patches, membership)], dim=1)
        return Encoding(tokens, (membership[:, None],) if return_assignments else ())

    def _membership(
        self, cls: Float[Tensor, "batch 1 dim"], patches: Float[Tensor, "batch patches dim"], part_mask: Tensor | None
    ) -> Bool[Tensor, "batch parts patches"]:
        # a body part that the image does not show takes the one patch that is most like the whole
        likeness = F.cosine_similarity(cls.float(), patches.float(), dim=-1)[:, None, None]
        groups = [self.assigner(likeness.expand(-1, -1, p, -1), self.grid, part_mask) for p in self.parts]
        return torch.cat(groups, dim=2)[:, 0]


def pool(
    patches: Float[Tensor, "batch patches dim"], membership: Bool[Tensor, "batch parts patches"]
) -> Float[Tensor, "batch parts dim"]:
    """Mean of each part's patches; zeros for a part without any."""
    weights = membership.to(patches.dtype)
    return weights @ patches / weights.sum(dim=-1, keepdim=True).clamp_min(1)
