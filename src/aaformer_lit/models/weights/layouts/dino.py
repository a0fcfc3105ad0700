"""DINO and iBOT checkpoints, with which LUPerson was pre-trained too (TransReID-SSL, PersonViT).

`teacher` holds `backbone.*` and the projection head `head.*`. LUPerson's images are 256x128, ImageNet's square.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import Translation
from aaformer_lit.models.weights.layouts.timm import ViTLayout

PROJECTION = "the projection head of its pre-training"
MLP = [f"head.mlp.{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")]


class Dino(ViTLayout):
    """A whole training checkpoint, or one whose backbone has been taken out together with iBOT's `masked_embed`."""

    title = "DINO / iBOT"
    prefixes = ("backbone.", "module.backbone.", "")
    drops: ClassVar[Mapping[str, str]] = {
        r"masked_embed": "stands for hidden patches in its pre-training",
        r"head\..*": PROJECTION,
    }
    beside: ClassVar[Mapping[str, str]] = {r"(module\.)?head\..*": PROJECTION}
    positions_of_tokens = True

    def matches(self, file: WeightsFile) -> bool:
        if not super().matches(file):
            return False
        heads = any(name.startswith(("head.mlp.", "head.last_layer", "module.head.")) for name in file.state)
        return heads or "masked_embed" in file.state or file.wrapper in ("teacher", "student")

    def translate(self, file: WeightsFile) -> Translation:
        out = super().translate(file)
        head = [name.removeprefix("module.") for name in file.state if name.removeprefix("module.").startswith("head.")]
        last = {"head.last_layer.weight_g", "head.last_layer.weight_v"}
        for missing in sorted(({*MLP, *last} if set(head) & {*MLP, *last} else set()) - set(head)):
            out.warnings.append(f"the file lacks {missing} of its projection head: was it edited?")
        return out
