"""DINOv2 as Meta publishes it: LayerScale, `mask_token`, and `register_tokens` in the files with registers.

There CLS has a position and registers have none; timm's `*_reg4_dinov2` expects both in the tokens. Training checkpoints
cut the blocks into chunks (`blocks.1.7.` for block 7).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from aaformer_lit.errors import CheckpointError
from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import Translation
from aaformer_lit.models.weights.layouts.dino import PROJECTION
from aaformer_lit.models.weights.layouts.timm import ViTLayout


class DinoV2(ViTLayout):
    """Square images; the registers' positions are zero."""

    title = "DINOv2"
    prefixes = ("", "backbone.")
    drops: ClassVar[Mapping[str, str]] = {
        r"mask_token": "stands for hidden patches in its pre-training",
        r"(dino|ibot)_head\..*": PROJECTION,
    }
    beside: ClassVar[Mapping[str, str]] = {r"(dino|ibot)_head\..*": PROJECTION}
    renames: ClassVar[Mapping[str, str]] = {"register_tokens": "reg_token"}
    positions_of_tokens, square = True, True

    def matches(self, file: WeightsFile) -> bool:
        names = self.names(file)
        scaled = "mask_token" in names and any(name.endswith(".ls1.gamma") for name in names)
        return scaled or "register_tokens" in names or any(re.match(r"blocks\.\d+\.\d+\.", name) for name in names)

    def rename(self, name: str) -> str:
        return super().rename(re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name))

    def translate(self, file: WeightsFile) -> Translation:
        if any(".mlp.w12." in name for name in file.state):
            raise CheckpointError(
                f"{file.path} is a DINOv2 ViT-g, whose MLPs are gated (SwiGLU). Use the S, B or L model of DINOv2."
            )
        out = super().translate(file)
        if "reg_token" in out.backbone and "pos_embed" in out.backbone:
            registers, positions = out.backbone["reg_token"], out.backbone["pos_embed"]
            if registers.ndim == 3 and positions.ndim == 3:
                out.backbone["pos_embed"] = _with_rows_for(registers, positions)
        return out


def _with_rows_for(registers: Tensor, positions: Tensor) -> Tensor:
    """Positions of CLS, registers (zero) and patches."""
    zeros = positions.new_zeros(1, registers.shape[1], positions.shape[2])
    return torch.cat([positions[:, :1], zeros, positions[:, 1:]], dim=1)
