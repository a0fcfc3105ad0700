"""Gumbel-softmax (GroupViT, Xu et al., CVPR 2022): a sampled hard choice that lets a gradient through to the scores.

The paper argues against it; here to be measured.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aaformer_lit.assign.base import Assigner, Grid
from aaformer_lit.errors import ConfigError
from aaformer_lit.ops import round_argmax


class Gumbel(Assigner):
    """Straight-through Gumbel-softmax over the parts while training, plain argmax at test.

    Args:
        temperature: of the softmax, in the units of the scores.
    """

    differentiable = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"the Gumbel assigner's temperature must be positive; got {temperature}.")
        self.temperature = temperature

    def forward(
        self, scores: Float[Tensor, "batch heads parts patches"], grid: Grid, part_mask: Tensor | None = None
    ) -> Float[Tensor, "batch heads parts patches"]:
        if not self.training:
            return round_argmax(scores)
        return F.gumbel_softmax(scores, tau=self.temperature, hard=True, dim=-2)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"
