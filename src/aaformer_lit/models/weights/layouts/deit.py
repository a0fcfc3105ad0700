"""DeiT with a distillation token, and DeiT-III, in Meta's names.

Plain DeiT has timm's names. The distilled one has a second token, so that its positions are CLS, distillation, patches.
DeiT-III calls LayerScale `gamma_1` and `gamma_2`, and gives CLS no position.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import CLASSIFIER
from aaformer_lit.models.weights.layouts.timm import ViTLayout


class DistilledDeiT(ViTLayout):
    """198 positions for 14x14 patches. A backbone without the token takes the rest."""

    title = "DeiT, distilled"
    drops: ClassVar[Mapping[str, str]] = {r"head(_dist)?\.(weight|bias)": CLASSIFIER}
    together = (("head.weight", "head.bias", "head_dist.weight", "head_dist.bias"),)
    positions_of_tokens, square = True, True

    def matches(self, file: WeightsFile) -> bool:
        return super().matches(file) and ("dist_token" in file.state or "head_dist.weight" in file.state)


class DeiT3(ViTLayout):
    """196 positions for 14x14 patches, LayerScale in each block: timm's `deit3_*`."""

    title = "DeiT-III"
    drops: ClassVar[Mapping[str, str]] = {r"head\.(weight|bias)": CLASSIFIER}
    together = (("head.weight", "head.bias"),)
    positions_of_tokens, square = False, True

    def matches(self, file: WeightsFile) -> bool:
        gammas = any(re.fullmatch(r"blocks\.\d+\.gamma_[12]", name) for name in file.state)
        return super().matches(file) and gammas and "pos_embed" in file.state

    def rename(self, name: str) -> str:
        return re.sub(r"\.gamma_([12])$", r".ls\1.gamma", name)
