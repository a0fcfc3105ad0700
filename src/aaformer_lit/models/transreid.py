"""TransReID without side information (He et al., ICCV 2021): what the paper's Figure 4 and Table II compare with.

A plain ViT up to its last block, which exists twice. The global branch is the ViT itself. The local branch is the jigsaw
patch module (JPM): patches are shifted and shuffled, cut into groups that each hold patches from all over the body, and
every group passes with the CLS through the second last block, whose CLS outputs are the local features.

As in TransReID's code the necks and classifiers are one per feature and local features count 1/groups each at test.
Different here: the local triplet loss sees the local features side by side (Eq. 7), theirs is a mean over features.
"""

from __future__ import annotations

import copy
from typing import Unpack, cast

import torch
from jaxtyping import Float, Int
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aaformer_lit.errors import ConfigError
from aaformer_lit.models.base import Encoding, Options, ReIDViT


class TransReID(ReIDViT):
    """A plain ViT with a jigsaw branch.

    Args:
        backbone: timm name (built without weights) or a built timm ViT.
        groups: local features.
        shift: how many patches move from the front to the back before the shuffle. Their paper says 5; their code counts
            CLS among them and so moves 4.
        shuffle: the shuffle takes turns between so many consecutive stretches of the image.
        options: those of `ReIDViT` but `descriptor`.
    """

    def __init__(
        self,
        backbone: str | VisionTransformer = "vit_base_patch16_224",
        groups: int = 4,
        shift: int = 5,
        shuffle: int = 2,
        **options: Unpack[Options],
    ) -> None:
        self.groups, self.granularities = groups, (groups,)
        super().__init__(backbone, **options)
        patches = self.grid[0] * self.grid[1]
        if not 1 <= groups <= patches or not 1 <= shuffle <= patches or shift < 0:
            raise ConfigError(
                f"groups={groups} and shuffle={shuffle} must be between 1 and the {patches} patches "
                f"(grid {self.grid[0]}x{self.grid[1]}), shift={shift} at least 0."
            )
        self.register_buffer("order", jigsaw(patches, shift, shuffle), persistent=False)
        self.local_block = copy.deepcopy(self.backbone.blocks[-1])
        self.local_norm = copy.deepcopy(self.backbone.norm)

    def encode(
        self, images: Tensor, part_mask: Tensor | None, return_assignments: bool, return_scores: bool = False
    ) -> Encoding:
        backbone = self.backbone
        sequence = backbone.norm_pre(backbone.patch_drop(backbone._pos_embed(backbone.patch_embed(images))))
        for block in backbone.blocks[:-1]:
            sequence = self._run(block, sequence)
        tokens = [backbone.norm(self._run(backbone.blocks[-1], sequence)[:, :1])]
        prefix = backbone.num_prefix_tokens
        cls, patches = sequence[:, :1], sequence[:, prefix:]
        for members in self.members:
            local = self._run(self.local_block, torch.cat([cls, patches[:, members]], dim=1))
            tokens.append(self.local_norm(local[:, :1]))
        return Encoding(torch.cat(tokens, dim=1), (self._membership(images.shape[0]),) if return_assignments else ())

    def weighed(self, descriptor: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        return torch.cat([descriptor[:, :1], descriptor[:, 1:] / self.groups], dim=1)

    @property
    def members(self) -> tuple[Int[Tensor, " group"], ...]:
        """Patch numbers of each group; sizes differ by one where the patches do not divide."""
        return cast(Tensor, self.order).tensor_split(self.groups)

    def _membership(self, batch: int) -> Tensor:
        membership = torch.zeros(
            self.groups, self.grid[0] * self.grid[1], dtype=torch.bool, device=self.members[0].device
        )
        for row, members in zip(membership, self.members, strict=True):
            row[members] = True
        return membership.expand(batch, 1, -1, -1)

    def _run(self, block: nn.Module, sequence: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training:
            return cast(Tensor, checkpoint(block, sequence, use_reentrant=False))
        return cast(Tensor, block(sequence))


def jigsaw(patches: int, shift: int = 5, shuffle: int = 2) -> Int[Tensor, " patches"]:
    """The order of the patches after shift and shuffle: dealt out in turn from `shuffle` equal stretches."""
    order = torch.arange(patches).roll(-shift)
    rows = -(-patches // shuffle)
    # the last stretch may be shorter; the places it lacks are dropped again
    padded = torch.cat([order, order.new_full((rows * shuffle - patches,), -1)])
    dealt = padded.view(shuffle, rows).t().flatten()
    return dealt[dealt >= 0]
