"""What every network here is made of: a timm ViT whose tokens are trained and compared as BoT does it.

The networks add tokens or blocks, and inherit the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from aaformer_lit.errors import ConfigError, check_choice
from aaformer_lit.models.backbone import build_backbone, check_plain_vit, patch_grid
from aaformer_lit.models.head import TokenHeads
from aaformer_lit.structures import ReIDOutput, compared_features

NeckFeature = Literal["after", "before"]


class ReIDViT(nn.Module):
    """A ViT with a re-ID head for each token of its descriptor: CLS, and the parts that a network adds.

    Args:
        backbone: timm name (built without weights) or a built timm ViT.
        num_classes: training identities; 0 for a network that only embeds.
        image_size: (height, width) in pixels, used when `backbone` is a name.
        neck_feature: what is compared at test, `after` the BNNeck or `before` it.
        normalize: whether `embed` L2-normalizes the concatenated tokens.
        grad_checkpointing: recompute blocks in the backward pass, for less memory.
    """

    def __init__(
        self,
        backbone: str | VisionTransformer = "vit_base_patch16_224",
        num_classes: int = 0,
        image_size: Sequence[int] = (256, 128),
        neck_feature: NeckFeature = "after",
        normalize: bool = True,
        grad_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_choice("neck_feature", neck_feature, get_args(NeckFeature))
        self.backbone = build_backbone(backbone, image_size) if isinstance(backbone, str) else backbone
        check_plain_vit(self.backbone)
        self.backbone.head = nn.Identity()
        self.grid = patch_grid(self.backbone)
        height, width = self.backbone.patch_embed.img_size
        self.image_size = (int(height), int(width))
        self.dim = int(self.backbone.embed_dim)
        self.neck_feature, self.normalize = neck_feature, normalize
        self.grad_checkpointing = grad_checkpointing
        self.num_classes = num_classes
        self.heads = TokenHeads(self.num_tokens, self.dim, num_classes)

    @property
    def granularities(self) -> tuple[int, ...]:
        """Part tokens per granularity, in token order."""
        return ()

    @property
    def num_tokens(self) -> int:
        """Tokens of the descriptor: the global one and the parts."""
        return 1 + sum(self.granularities)

    @property
    def token_groups(self) -> dict[str, tuple[int, ...]]:
        """Descriptor tokens that are also evaluated alone: `global`, `parts`, and each granularity as `parts_P`."""
        if not self.granularities:
            return {}
        groups = {"global": (0,), "parts": tuple(range(1, self.num_tokens))}
        first = 1
        for parts in self.granularities:
            if len(self.granularities) > 1:
                groups[f"parts_{parts}"] = tuple(range(first, first + parts))
            first += parts
        return groups

    def encode(
        self, images: Tensor, part_mask: Tensor | None, return_assignments: bool
    ) -> tuple[Float[Tensor, "batch tokens dim"], tuple[Tensor, ...]]:
        """Descriptor tokens before the neck, and the membership of each layer where asked for."""
        self.backbone.set_grad_checkpointing(self.grad_checkpointing and self.training)
        return self.backbone.forward_features(images)[:, :1], ()

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        part_mask: Tensor | None = None,
        return_assignments: bool = False,
    ) -> ReIDOutput:
        """All that training, evaluation and pictures need of one pass.

        Args:
            images: normalized images of this network's `image_size`.
            part_mask: (B, H, W) part of each pixel, for the parsing assigner.
            return_assignments: keep each layer's membership (B, h, P, N).
        """
        if tuple(images.shape[-2:]) != self.image_size:
            raise ConfigError(
                f"this network was built for {self.image_size[0]}x{self.image_size[1]} images; got "
                f"{images.shape[-2]}x{images.shape[-1]}. Resize the images, or build it with that image_size."
            )
        tokens, assignments = self.encode(images, part_mask, return_assignments)
        after, logits = self.heads(tokens)
        return ReIDOutput(
            global_feat=tokens[:, 0],
            part_feats=tokens[:, 1:],
            descriptor=after if self.neck_feature == "after" else tokens,
            logits=logits,
            assignments=assignments,
        )

    def embed(
        self, images: Float[Tensor, "batch 3 height width"], part_mask: Tensor | None = None
    ) -> Float[Tensor, "batch features"]:
        """The descriptor of each image: all tokens side by side, L2-normalized as configured (float32)."""
        return compared_features(self.forward(images, part_mask).descriptor, self.normalize)

    @torch.no_grad()
    def assignments(self, images: Tensor, part_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Membership (B, h, P, N) of every layer; empty for a network without part tokens."""
        return self.forward(images, part_mask, return_assignments=True).assignments


def descriptors(
    network: Callable[..., ReIDOutput],
    images: Float[Tensor, "batch 3 height width"],
    part_mask: Tensor | None = None,
    flip: bool = False,
) -> Float[Tensor, "batch tokens dim"]:
    """The descriptors in float32; with `flip`, their means with those of the mirrored images (test-time augmentation)."""
    descriptor = network(images, part_mask).descriptor.float()
    if not flip:
        return descriptor
    mirrored = network(images.flip(-1), None if part_mask is None else part_mask.flip(-1))
    return (descriptor + mirrored.descriptor.float()) / 2
