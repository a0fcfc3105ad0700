"""timm's own names: `cls_token`, `pos_embed`, `patch_embed.proj`, `blocks.0.attn.qkv`, ..., `norm`, `head`.

Most projects of this field build on them (DeiT, DINO, MAE, TransReID, PASS), so their layouts are this one with a prefix and
a few names of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import CLASSIFIER, Layout, State, Translation

LANDMARKS = ("cls_token", "pos_embed", "patch_embed.proj.weight")


class ViTLayout(Layout):
    """A layout with timm's names behind a prefix.

    Attributes:
        prefixes: that the names may have.
        beside: patterns of names without that prefix that are left out, and why.
        renames: names of this layout that are called otherwise in timm.
        positions_of_tokens, square: of its `Translation`.
    """

    prefixes: ClassVar[Sequence[str]] = ("",)
    beside: ClassVar[Mapping[str, str]] = {}
    renames: ClassVar[Mapping[str, str]] = {}
    positions_of_tokens: ClassVar[bool | None] = None
    square: ClassVar[bool] = False

    def prefix(self, state: State) -> str | None:
        """The prefix of the ViT's names in this file; None if it holds no ViT under these names."""
        return next((p for p in self.prefixes if any(p + landmark in state for landmark in LANDMARKS)), None)

    def names(self, file: WeightsFile) -> dict[str, str]:
        """Name without the prefix, and with it, of each tensor of the ViT."""
        prefix = self.prefix(file.state)
        if prefix is None:
            return {}
        return {name.removeprefix(prefix): name for name in file.state if name.startswith(prefix)}

    def matches(self, file: WeightsFile) -> bool:
        return self.prefix(file.state) is not None

    def rename(self, name: str) -> str:
        """timm's name of a tensor."""
        return self.renames.get(name, name)

    def translate(self, file: WeightsFile) -> Translation:
        out = Translation(self.title, positions_of_tokens=self.positions_of_tokens, square=self.square)
        names = self.names(file)
        for name, full in names.items():
            why = self.dropped(name)
            if why is None:
                out.take(self.rename(name), file.state[full], full)
            else:
                out.dropped[full] = why
        for full in file.state.keys() - set(names.values()):
            why = next((why for pattern, why in self.beside.items() if re.fullmatch(pattern, full)), None)
            out.dropped[full] = why or "not of the backbone"
            if why is None:
                out.warnings.append(f"{full} is left out: it lies beside the backbone and is not of {self.title}")
        self.check_together(file.state, out, self.prefix(file.state) or "")
        return out


class Timm(ViTLayout):
    """timm, DeiT, and whatever else saves a ViT under timm's names: MAE's encoder alone, DINO's backbone alone."""

    title = "timm"
    prefixes = ("", "backbone.", "encoder.", "model.", "visual.trunk.")
    drops: ClassVar[Mapping[str, str]] = {
        r"head\.(weight|bias)": CLASSIFIER,
        r"pre_logits\.fc\.(weight|bias)": "a layer before the classifier of its pre-training",
        r"mask_token": "stands for hidden patches in its pre-training",
    }
    together = (("head.weight", "head.bias"), ("pre_logits.fc.weight", "pre_logits.fc.bias"))
