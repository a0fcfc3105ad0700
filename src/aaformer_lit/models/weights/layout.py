"""What a layout of weights is: how a file of it is known, and what its tensors are called in our networks.

Each project saves the same ViT under names of its own. A layout translates them to timm's names (`Translation.backbone`)
and, for what lies beside the backbone, to those of our networks (`Translation.network`). Each tensor of the file is
taken, dropped for a stated reason, or makes the file unknown; none is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from aaformer_lit.models.weights.file import WeightsFile

State = Mapping[str, Tensor]
Grid = tuple[int, int]
TOKENS = ("cls_token", "dist_token", "reg_token")


@dataclass
class Translation:
    """A file's tensors under our names.

    Attributes:
        layout: the layout's title.
        backbone: tensors by timm's names; `pos_embed` as the file has it.
        network: tensors beside the backbone by the names of our networks: `part_tokens`, `local_block.*`, `heads.*`.
        sources: the names in the file that each of them comes from.
        dropped: name in the file and why it is not taken.
        warnings: what the user must know.
        granularities: of the part tokens in `network`.
        joined: its heads are of CLS and the mean of the parts, not of each token.
        positions_of_tokens: whether `pos_embed` starts with rows of the prefix tokens; None where the layout does not say.
        square: the layout's images are square, so that a square number of positions is a square grid.
        grid: patch rows and columns, where the file says them.
    """

    layout: str
    backbone: dict[str, Tensor] = field(default_factory=dict)
    network: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    granularities: tuple[int, ...] = ()
    joined: bool = False
    positions_of_tokens: bool | None = None
    square: bool = False
    grid: Grid | None = None

    @property
    def num_heads(self) -> int:
        """Tokens that a neck is of."""
        return 2 if self.joined else 1 + sum(self.granularities)

    def take(self, name: str, tensor: Tensor, *sources: str) -> None:
        """A tensor of the backbone."""
        self.backbone[name] = tensor
        self.sources[name] = sources or (name,)

    def take_beside(self, name: str, tensor: Tensor, *sources: str) -> None:
        """A tensor beside the backbone."""
        self.network[name] = tensor
        self.sources[name] = sources or (name,)


class Layout:
    """One project's names. A new layout is a file with a subclass, listed in `layouts/__init__.py`.

    Attributes:
        title: as in the log and the table of docs/weights.md.
        drops: patterns of whole names that are left out, and why.
        together: names that come together; a file with only some of them is warned of.
    """

    title: str
    drops: ClassVar[Mapping[str, str]] = {}
    together: ClassVar[Sequence[Sequence[str]]] = ()

    def matches(self, file: WeightsFile) -> bool:
        """Whether the file is of this layout."""
        raise NotImplementedError

    def translate(self, file: WeightsFile) -> Translation:
        """The file's tensors under our names.

        Raises:
            CheckpointError: the layout is refused; the message says why and what to use instead.
        """
        raise NotImplementedError

    def dropped(self, name: str) -> str | None:
        """Why a tensor of this name is left out; None if it is not."""
        return next((why for pattern, why in self.drops.items() if re.fullmatch(pattern, name)), None)

    def check_together(self, state: State, out: Translation, prefix: str = "") -> None:
        """Warn of tensors that the file lacks although their companions are there."""
        for names in self.together:
            missing = [prefix + name for name in names if prefix + name not in state]
            there = [prefix + name for name in names if prefix + name in state]
            if missing and there:
                comes = "comes" if len(missing) == 1 else "come"
                out.warnings.append(
                    f"the file lacks {', '.join(missing)}, which {comes} with {there[0]}: was it edited?"
                )


CLASSIFIER = "the classifier of its pre-training"
