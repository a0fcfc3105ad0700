"""The convolution stem of TransReID-SSL (ICS): what its LUPerson ViTs see an image through.

Three convolutions with instance-batch norm (IBN: half of the channels normalized per image, which takes the camera's
colors out, half per batch) at half the resolution, then the patches. Module names are those of the published files.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float
from timm.layers import PatchEmbed
from torch import Tensor, nn

from aaformer_lit.errors import ConfigError
from aaformer_lit.ops.distributed import gather_batch, is_distributed

CHANNELS = 64


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics, while several ranks train, are those of all; torch's own does that on GPUs alone."""

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        if not self.training or not is_distributed():
            return super().forward(x)
        full = x.to(torch.promote_types(x.dtype, torch.float32))
        own = torch.cat([full.mean(dim=(0, 2, 3)), full.square().mean(dim=(0, 2, 3))])
        mean, square = gather_batch(own[None]).mean(dim=0).chunk(2)
        variance = (square - mean.square()).clamp_min(0)
        self._remember(mean.detach(), variance.detach(), dist.get_world_size() * x.numel() // x.shape[1])
        scale = self.weight / (variance + self.eps).sqrt()
        return (full * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), self.momentum)


class InstanceBatchNorm(nn.Module):
    """Instance norm of the first half of the channels, batch norm of the others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.IN = nn.InstanceNorm2d(channels // 2, affine=True)
        self.BN = GlobalBatchNorm(channels - channels // 2)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        first, second = x.split([self.IN.num_features, self.BN.num_features], dim=1)
        return torch.cat([self.IN(first.contiguous()), self.BN(second.contiguous())], dim=1)


class ICSPatchEmbed(PatchEmbed):  # type: ignore[misc]
    """timm's patch embedding behind the stem; the arguments are timm's, and the patch size is in pixels of the image."""

    def __init__(
        self,
        img_size: int | tuple[int, int] | None = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        bias: bool = True,
        **options: object,
    ):
        super().__init__(img_size, patch_size, in_chans, embed_dim, bias=bias, **options)
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
            GlobalBatchNorm(CHANNELS),
            nn.ReLU(inplace=True),
        )
        side = tuple(side // 2 for side in self.patch_size)
        self.proj = nn.Conv2d(CHANNELS, embed_dim, kernel_size=side, stride=side, bias=bias)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch patches dim"]:
        return self.norm(self.proj(self.conv(x)).flatten(2).transpose(1, 2))  # type: ignore[no-any-return]
