"""Shorter descriptors: the first principal components of what distances compare (PCA), fitted once and part of the network.

Descriptors of L2-normalized tokens lie close to a space of fewer dimensions. PCA keeps the directions in which those of the
fitted images differ most, so distances change little. The first k of n components are the fit of k: one fit serves all lengths.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aaformer_lit.errors import ConfigError


class Compression(nn.Module):
    """Features minus their mean, projected on the principal components.

    Args:
        features: numbers of the descriptor as it is.
        size: numbers of the compressed one.
    """

    mean: Float[Tensor, " features"]
    components: Float[Tensor, "features size"]

    def __init__(self, features: int, size: int) -> None:
        super().__init__()
        if not 1 <= size < features:
            raise ConfigError(f"compress={size} must be 1 or more, and less than the {features} numbers there are now.")
        self.size = size
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("components", torch.zeros(features, size))

    @classmethod
    def fit(cls, features: Float[Tensor, "images features"], size: int) -> Compression:
        """The PCA of these features, as they are compared. Raises `ConfigError` where they are fewer than `size` + 1."""
        from sklearn.decomposition import PCA

        compression = cls(features.shape[1], size)
        if len(features) <= size:
            raise ConfigError(
                f"compress={size} needs more than {size} training images to be fitted on; there are {len(features)}. "
                f"Use compress={max(1, len(features) - 1)} or less."
            )
        fitted = PCA(size, random_state=0).fit(features.double().numpy())
        compression.mean.copy_(torch.from_numpy(fitted.mean_))
        compression.components.copy_(torch.from_numpy(fitted.components_.T))
        return compression

    def shortened(self, size: int) -> Compression:
        """The fit of fewer components."""
        shorter = Compression(len(self.mean), size)
        shorter.mean.copy_(self.mean)
        shorter.components.copy_(self.components[:, :size])
        return shorter

    def forward(self, features: Float[Tensor, "images features"]) -> Float[Tensor, "images size"]:
        """In the features' dtype also under autocast, since distances are taken from the result."""
        with torch.autocast(features.device.type, enabled=False):
            return (features - self.mean) @ self.components.to(features.dtype)
