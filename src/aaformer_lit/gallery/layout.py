"""What the numbers of a stored descriptor mean: which token they belong to, and which tokens make up a group.

A gallery keeps the tokens of every image apart and not normalized, as the network gives them. So any group can be ranked
by alone, with the very features that the evaluation compares: its tokens side by side, then L2-normalized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from aaformer_lit.errors import check_choice
from aaformer_lit.models import ReIDViT
from aaformer_lit.structures import compared_features

ALL = "all"


@dataclass(frozen=True)
class Layout:
    """The descriptor of one network.

    `granularities`: parts per granularity, in token order; token 0 is global. `groups`: tokens by name: `all`, the groups
    that the evaluation reports (`global`, `parts`, `parts_2`, ...), and each part token alone (`part_1` is token 1).
    """

    tokens: int
    dim: int
    granularities: tuple[int, ...]
    groups: Mapping[str, tuple[int, ...]]
    normalize: bool

    @classmethod
    def of(cls, network: ReIDViT) -> Layout:
        """The layout of what this network puts out."""
        tokens, dim = network.descriptor_shape
        groups = {ALL: tuple(range(tokens)), **network.token_groups}
        if not network.joined:
            groups |= {f"part_{token}": (token,) for token in range(1, tokens)}
        return cls(tokens, dim, network.granularities if tokens > 1 else (), groups, network.normalize)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Layout:
        """The inverse of `as_dict`."""
        groups = {name: tuple(tokens) for name, tokens in content["groups"].items()}
        return cls(**dict(content) | {"groups": groups, "granularities": tuple(content["granularities"])})

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def select(
        self, descriptors: Float[Tensor, "images tokens dim"], group: str = ALL
    ) -> Float[Tensor, "images features"]:
        """The float32 features of one token group, normalized where the network's are. Raises as `members`."""
        return compared_features(descriptors, self.normalize, self.members(group))

    def members(self, group: str) -> tuple[int, ...]:
        """The tokens of a group. Raises `ConfigError` where there is no such group."""
        check_choice("tokens", group, self.groups)
        return self.groups[group]

    def __str__(self) -> str:
        return f"{self.tokens} x {self.dim}"
