"""TransReID and TransReID-SSL, fine-tuned: `base.*` is the ViT, beside it necks, classifiers and perhaps a jigsaw branch.

With the jigsaw patch module (JPM) the ViT's own last block and norm (`base.blocks.<last>`, `base.norm`) are what training
started from and are never run: the global branch is `b1.0` (block) and `b1.1` (norm), the local branch `b2.0` and
`b2.1`. Camera and view embeddings (SIE) cannot be taken: our networks do not know the camera.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from aaformer_lit.errors import CheckpointError
from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import CLASSIFIER, Translation
from aaformer_lit.models.weights.layouts.heads import take_classifiers, take_necks
from aaformer_lit.models.weights.layouts.timm import ViTLayout
from aaformer_lit.utils.text import some

_NOT_RUN = "never run with JPM: b1 is in its place"


class TransReIDLayout(ViTLayout):
    """The backbone as the global branch computes it; beside it the local branch and a head per feature."""

    title = "TransReID"
    prefixes = ("base.",)
    drops: ClassVar[Mapping[str, str]] = {r"fc\.(weight|bias)": CLASSIFIER}
    beside: ClassVar[Mapping[str, str]] = {r"(b1|b2|bottleneck|classifier).*": "taken apart"}
    together = (("fc.weight", "fc.bias"),)
    positions_of_tokens = True

    def translate(self, file: WeightsFile) -> Translation:
        out = super().translate(file)
        state = file.state
        if out.backbone.pop("sie_embed", None) is not None:
            del out.sources["sie_embed"]
            out.dropped["base.sie_embed"] = "camera or view embeddings (SIE), which our networks do not have"
            out.warnings.append(
                "base.sie_embed is left out: this network was trained with an embedding of the camera or view (SIE) added to "
                "every token, and without it its features are not those of the authors' numbers; fine-tune before testing"
            )
        for name in [name for name in out.dropped if name.startswith(("b1.", "b2.", "bottleneck", "classifier"))]:
            del out.dropped[name]  # said by what takes them
        if any(name.startswith(("b1.", "b2.")) for name in state):
            self._take_branches(file, out)
        self._take_heads(file, out)
        return out

    def _take_branches(self, file: WeightsFile, out: Translation) -> None:
        numbers = {int(name.split(".")[1]) for name in out.backbone if name.startswith("blocks.")}
        if not numbers:
            raise CheckpointError(f"{file.path} has JPM's branches b1 and b2, but no blocks base.blocks.*.")
        last = f"blocks.{max(numbers)}."
        ends = {re.sub(r"^b[12]\.", "", name) for name in file.state if name.startswith(("b1.", "b2."))}
        originals = [f"base.{last if end[0] == '0' else 'norm.'}{end[2:]}" for end in sorted(ends)]
        lacking = [name for name in (*originals, *(f"b2.{end}" for end in sorted(ends))) if name not in file.state]
        if lacking:
            out.warnings.append(f"the file lacks {some(lacking, 10)}, which come with b1: was it edited?")
        for name in [name for name in out.backbone if name.startswith((last, "norm."))]:
            if (
                f"b1.{'1' if name.startswith('norm.') else '0'}.{name.removeprefix(last).removeprefix('norm.')}"
                in file.state
            ):
                out.dropped[out.sources.pop(name)[0]] = _NOT_RUN
            else:
                del out.sources[name]  # its place stays empty, which is an error: the trained tensor is missing
            del out.backbone[name]
        for full, tensor in file.state.items():
            branch = re.fullmatch(r"(b[12])\.([01])\.(.+)", full)
            if branch is None:
                continue
            which, module, name = branch.groups()
            if which == "b1":
                out.take((last if module == "0" else "norm.") + name, tensor, full)
            else:
                out.take_beside(("local_block." if module == "0" else "local_norm.") + name, tensor, full)
        features = {int(n) for name in file.state for n in re.findall(r"^(?:bottleneck|classifier)_(\d+)\.", name)}
        out.granularities = (max(features, default=4),)

    def _take_heads(self, file: WeightsFile, out: Translation) -> None:
        features = ["", *(f"_{i}" for i in range(1, 1 + sum(out.granularities)))]
        lacking = take_necks(file.state, out, features) + take_classifiers(file.state, out, features)
        known = {name for sources in out.sources.values() for name in sources} | out.dropped.keys()
        for name in sorted(file.state.keys() - known):
            out.dropped[name] = "a head that our networks do not have"
            out.warnings.append(f"{name} is left out: our networks have no such head")
        if lacking:
            out.warnings.append(f"the file lacks {some(lacking, 10)}, which TransReID's files have: was it edited?")
