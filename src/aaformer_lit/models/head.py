"""The re-ID head of each token: BNNeck and a bias-free classifier, not shared between tokens (BoT; Eq. 6)."""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from aaformer_lit.ops.distributed import gather_batch, is_distributed


class TokenHeads(nn.Module):
    """One BNNeck and classifier per token, computed together; or one over all tokens side by side (`joined`).

    The necks are one batch norm over all tokens' channels, which is the same arithmetic. While training on several
    ranks it sees the gathered batch, on CPU and GPU alike, so that the statistics are those of the global batch.

    Args:
        tokens: number of tokens (1 + P).
        dim: channels of a token.
        num_classes: training identities; 0 leaves the classifiers out.
        joined: one classifier of all tokens: its logits are the sums of theirs.
    """

    def __init__(self, tokens: int, dim: int, num_classes: int, joined: bool = False) -> None:
        super().__init__()
        self.joined = joined
        self.neck = nn.BatchNorm1d(tokens * dim)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Parameter(torch.empty(tokens, num_classes, dim)) if num_classes else None
        if self.classifier is not None:
            nn.init.normal_(self.classifier, std=0.001)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> tuple[Float[Tensor, "batch tokens dim"], Float[Tensor, "batch classifiers ids"] | None]:
        """Features after the neck, and logits (None in eval mode)."""
        after = self._normalize(tokens.flatten(1)).view_as(tokens)
        if not self.training or self.classifier is None:
            return after, None
        logits = torch.einsum("btd,tcd->btc", after, self.classifier)
        return after, logits.sum(dim=1, keepdim=True) if self.joined else logits

    def _normalize(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        if not self.training or not is_distributed():
            return self.neck(features)  # type: ignore[no-any-return]
        first = dist.get_rank() * len(features)
        return self.neck(gather_batch(features))[first : first + len(features)]  # type: ignore[no-any-return]
