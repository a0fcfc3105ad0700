"""The convolution stem of TransReID-SSL (ICS): what its LUPerson ViTs see an image through.

Three convolutions with instance-batch norm (IBN: half of the channels normalized per image, which takes the camera's
colors out, half per batch) at half the resolution, then the patches. Module names are those of the published files.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from timm.layers import PatchEmbed
from torch import Tensor, nn

from aaformer_lit.errors import ConfigError

CHANNELS = 64


class InstanceBatchNorm(nn.Module):
    """Instance norm of the first half of the channels, batch norm of the others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.IN = nn.InstanceNorm2d(channels // 2, affine=True)
        self.BN = nn.BatchNorm2d(channels - channels // 2)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        first, second = x.split([self.IN.num_features, self.BN.num_features], dim=1)
        return torch.cat([self.IN(first.contiguous()), self.BN(second.contiguous())], dim=1)


class ICSPatchEmbed(PatchEmbed):  # type: ignore[misc]
    """timm's patch embedding behind the stem; the arguments are timm's, and the patch size is in pixels of the image."""

    def __init__(
        self, img_size: Any = 224, patch_size: int = 16, in_chans: int = 3, embed_dim: int = 768, **options: Any
    ):
        super().__init__(img_size, patch_size, in_chans, embed_dim, **options)
        if any(side % 2 for side in self.patch_size):
            raise ConfigError(f"the ICS stem halves the image, so that patches must be even; got {self.patch_size}.")
        self.conv = nn.Sequential(
            nn.Conv2d(in_chans, CHANNELS, kernel_size=7, stride=2, padding=3, bias=False),
            InstanceBatchNorm(CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(CHANNELS, CHANNELS, kernel_size=3, padding=1, bias=False),
            InstanceBatchNorm(CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(CHANNELS, CHANNELS, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(inplace=True),
        )
        side = tuple(side // 2 for side in self.patch_size)
        bias = options.get("bias", True)
        self.proj = nn.Conv2d(CHANNELS, embed_dim, kernel_size=side, stride=side, bias=bias)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch patches dim"]:
        return self.norm(self.proj(self.conv(x)).flatten(2).transpose(1, 2))  # type: ignore[no-any-return]
