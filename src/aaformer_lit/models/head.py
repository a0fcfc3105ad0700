"""The re-ID head of each token: BNNeck and a bias-free classifier, not shared between tokens (BoT; Eq. 6)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class TokenHeads(nn.Module):
    """One BNNeck and classifier per token, computed together.

    The necks are one batch norm over all tokens' channels, which is the same arithmetic and synchronises in one go.

    Args:
        tokens: number of tokens (1 + P).
        dim: channels of a token.
        num_classes: training identities; 0 leaves the classifiers out.
    """

    def __init__(self, tokens: int, dim: int, num_classes: int) -> None:
        super().__init__()
        self.neck = nn.BatchNorm1d(tokens * dim)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Parameter(torch.empty(tokens, num_classes, dim)) if num_classes else None
        if self.classifier is not None:
            nn.init.normal_(self.classifier, std=0.001)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> tuple[Float[Tensor, "batch tokens dim"], Float[Tensor, "batch tokens ids"] | None]:
        """Features after the neck, and logits (None in eval mode)."""
        after = self.neck(tokens.flatten(1)).view_as(tokens)
        if not self.training or self.classifier is None:
            return after, None
        return after, torch.einsum("btd,tcd->btc", after, self.classifier)
