"""AAformer: a ViT with part tokens that attend to their own share of the patches (Zhu et al., TNNLS 2023).

With another assigner the same network is an ablation: `Nearest` (Table V), `Stripes` (PCB, MGN), `Parsing` (SPReID),
`Everyone` (6 x CLS).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aaformer_lit.assign import Assigner, Placed, Sinkhorn
from aaformer_lit.errors import ConfigError
from aaformer_lit.models.attention import Attended, AutoAlignedAttention, Visibility
from aaformer_lit.models.base import Descriptor, Encoding, NeckFeature, ReIDViT
from aaformer_lit.models.heights import BodyHeights
from aaformer_lit.ops import Similarity


class AAformer(ReIDViT):
    """A plain ViT whose attention layers are MAA layers.

    Args:
        backbone: timm name (built without weights) or a built timm ViT, whose attentions are replaced in place.
        parts: granularities; [2, 3] adds 5 part tokens in two independent groupings.
        assigner: who belongs to which part, shared by all layers; None is the paper's `Sinkhorn()`.
        num_classes: training identities; 0 for a network that only embeds.
        image_size: (height, width) in pixels, used when `backbone` is a name.
        similarity: what the assigner compares: `cosine`, `dot` (Eq. 3 as printed), `scaled`.
        visibility: whether CLS and patches see the part tokens: `mutual` or `isolated`.
        part_pos_embed: learn a position embedding for the part tokens.
        neck_feature, normalize, grad_checkpointing, descriptor: as in `ReIDViT`.
        follow_body: number of last blocks whose cost of place goes by where on the body the patches are, as estimated before
            the first of them (`BodyHeights`); in the others it goes by where in the image they are.
    """

    def __init__(
        self,
        backbone: str | VisionTransformer = "vit_base_patch16_224",
        parts: Sequence[int] = (2, 3),
        assigner: Assigner | None = None,
        num_classes: int = 0,
        image_size: Sequence[int] = (256, 128),
        similarity: Similarity = "cosine",
        visibility: Visibility = "mutual",
        part_pos_embed: bool = False,
        neck_feature: NeckFeature = "after",
        normalize: bool = True,
        grad_checkpointing: bool = False,
        descriptor: Descriptor = "tokens",
        follow_body: int = 0,
    ) -> None:
        self.parts, self.granularities = list(parts), tuple(parts)
        super().__init__(backbone, num_classes, image_size, neck_feature, normalize, grad_checkpointing, descriptor)
        assigner = Sinkhorn() if assigner is None else assigner
        assigner.validate(self.parts, self.grid)
        self.assigner = assigner
        self.prefix = int(self.backbone.num_prefix_tokens)
        for block in self.backbone.blocks:
            block.attn = AutoAlignedAttention(block.attn, self.parts, assigner, similarity, visibility, self.prefix)
        self.part_tokens = nn.Parameter(torch.empty(1, sum(self.parts), self.dim))
        nn.init.trunc_normal_(self.part_tokens, std=0.02)
        self.part_pos_embed = nn.Parameter(torch.zeros(1, sum(self.parts), self.dim)) if part_pos_embed else None
        self._check_follows(follow_body)
        self.follow_body = follow_body
        self.heights = BodyHeights(self.dim, self.grid) if follow_body else None

    def _check_follows(self, follow_body: int) -> None:
        depth = len(self.backbone.blocks)
        if not 0 <= follow_body <= depth:
            raise ConfigError(
                f"follow_body={follow_body} is the number of last blocks that go by the body. Use 0 (none) to {depth}."
            )
        if follow_body and not isinstance(self.assigner, Placed):
            raise ConfigError(
                f"follow_body={follow_body} moves the cost of place with the body; {type(self.assigner).__name__} has no cost "
                "of place. Use model/assigner=placed_soft or placed, or follow_body=0."
            )

    def encode(
        self, images: Tensor, part_mask: Tensor | None, return_assignments: bool, return_scores: bool = False
    ) -> Encoding:
        backbone, heights = self.backbone, None
        sequence = backbone.norm_pre(backbone.patch_drop(backbone._pos_embed(backbone.patch_embed(images))))
        parts = self.part_tokens if self.part_pos_embed is None else self.part_tokens + self.part_pos_embed
        parts = parts.expand(images.shape[0], -1, -1).to(sequence.dtype)
        sequence = torch.cat([sequence[:, : self.prefix], parts, sequence[:, self.prefix :]], dim=1)
        assignments, scores = [], []
        for number, block in enumerate(backbone.blocks):
            if self.heights is not None and number == len(backbone.blocks) - self.follow_body:
                heights = self.heights(sequence[:, self.prefix + sum(self.parts) :])
            asked = (block, sequence, part_mask, heights, return_assignments, return_scores)
            if self.grad_checkpointing and self.training:
                sequence, membership, compared = checkpoint(self._block, *asked, use_reentrant=False)
            else:
                sequence, membership, compared = self._block(*asked)
            if membership is not None:
                assignments.append(membership)
            if compared is not None:
                scores.append(compared)
        tokens = torch.cat([sequence[:, :1], sequence[:, self.prefix : self.prefix + sum(self.parts)]], dim=1)
        return Encoding(backbone.norm(tokens), tuple(assignments), tuple(scores), heights)

    @torch.no_grad()
    def part_attention_maps(
        self, images: Float[Tensor, "batch 3 height width"], layer: int = -1, part_mask: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch heads parts patches"], Tensor]:
        """Attention of the part tokens in one layer, and the subsets it is confined to (Figure 5)."""
        blocks = self.backbone.blocks
        if not -len(blocks) <= layer < len(blocks):
            raise ConfigError(f"layer must be between {-len(blocks)} and {len(blocks) - 1}; got {layer}.")
        attention, inputs = blocks[layer].attn, []
        handle = attention.register_forward_pre_hook(lambda _attention, args: inputs.extend(args[:4]))
        try:
            self.forward(images, part_mask)
        finally:
            handle.remove()
        weights, membership = attention.part_weights(*inputs)
        return weights, membership

    def _block(
        self,
        block: Block,
        sequence: Tensor,
        part_mask: Tensor | None,
        heights: Tensor | None,
        return_membership: bool,
        return_scores: bool,
    ) -> Attended:
        # timm's blocks pass on neither grid nor membership, so their two lines are written out here
        attended: Attended = block.attn(
            block.norm1(sequence), self.grid, part_mask, heights, return_membership, return_scores
        )
        sequence = sequence + block.drop_path1(block.ls1(attended.sequence))
        return attended._replace(sequence=sequence + block.drop_path2(block.ls2(block.mlp(block.norm2(sequence)))))
