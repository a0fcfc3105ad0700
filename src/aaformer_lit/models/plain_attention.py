"""Self-attention of a plain ViT, built from timm's, whose projections it keeps; on a CPU in the dtype in which it is fast."""

from __future__ import annotations

from jaxtyping import Float
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from aaformer_lit.errors import ConfigError
from aaformer_lit.ops import attention


class PlainAttention(nn.Module):
    """timm's `Attention` with `ops.attention` in it: the same parameters under the same names, the same values.

    Args:
        taken: the attention module to take over.

    Raises:
        ConfigError: it is another kind of attention.
    """

    qkv: nn.Linear
    proj: nn.Linear
    q_norm: nn.Module
    k_norm: nn.Module
    norm: nn.Module
    gate: nn.Linear | None
    attn_drop: nn.Dropout
    proj_drop: nn.Dropout
    num_heads: int
    head_dim: int

    def __init__(self, taken: Attention | PlainAttention) -> None:
        super().__init__()
        if type(taken) not in (Attention, PlainAttention):
            raise ConfigError(f"part tokens need timm's plain Attention; this backbone has {type(taken).__name__}.")
        self.qkv, self.proj = taken.qkv, taken.proj
        self.q_norm, self.k_norm = taken.q_norm, taken.k_norm
        self.norm, self.gate = getattr(taken, "norm", nn.Identity()), getattr(taken, "gate", None)  # of newer timm
        self.attn_drop, self.proj_drop = taken.attn_drop, taken.proj_drop
        self.num_heads, self.head_dim = taken.num_heads, taken.head_dim
        self.training = taken.training

    def forward(
        self, sequence: Float[Tensor, "batch length dim"], attn_mask: None = None, is_causal: bool = False
    ) -> Float[Tensor, "batch length dim"]:
        """What timm's blocks ask for; a ViT's attention has no mask and looks both ways."""
        output = attention(*self.split(sequence), dropout=self.dropout)
        return self.project_out(output.transpose(1, 2), sequence)

    def split(self, sequence: Float[Tensor, "batch length dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of each head, (batch, heads, length, dim)."""
        q, k, v = self.packed(sequence).permute(2, 0, 3, 1, 4).unbind(0)
        return self.q_norm(q), self.k_norm(k), v

    def packed(self, sequence: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length 3 heads dim"]:
        """Queries, keys and values in one tensor, before their norms."""
        packed: Tensor = self.qkv(sequence).unflatten(-1, (3, self.num_heads, self.head_dim))
        return packed

    @property
    def dropout(self) -> float:
        """The share of attention weights that is dropped: none outside of training."""
        return float(self.attn_drop.p) if self.training else 0.0

    def project_out(self, output: Float[Tensor, "batch length heads dim"], sequence: Tensor) -> Tensor:
        """The heads' outputs, put together and projected; `sequence` is what the layer was given."""
        output = self.norm(output.reshape(*output.shape[:2], -1))
        if self.gate is not None:
            output = output * self.gate(sequence).sigmoid()
        projected: Tensor = self.proj_drop(self.proj(output))
        return projected
