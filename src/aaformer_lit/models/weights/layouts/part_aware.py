"""PASS (Zhu et al., ECCV 2022), part-aware pre-training on LUPerson: a ViT with three part tokens beside CLS.

Each token has a position of its own (`cls_pos`, `part1_pos`, ...); `pos_embed` holds the patches' alone. The part tokens are
ordinary tokens of one sequence, so that `model/assigner=everyone` with `parts=[3]` computes what PASS computes, and
AAformer's parts start from tokens that already look at parts of people.

A fine-tuned file (`base.*`) has a neck of CLS and one of each part, as our descriptor `tokens` has them; or, trained with
`MULTI_NECK` off, one neck of CLS and the mean of the parts side by side and their classifier, which are `cls_mean`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import torch

from aaformer_lit.errors import CheckpointError
from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import CLASSIFIER, State, Translation
from aaformer_lit.models.weights.layouts.dino import PROJECTION
from aaformer_lit.models.weights.layouts.heads import take_necks
from aaformer_lit.models.weights.layouts.timm import ViTLayout
from aaformer_lit.utils.text import some

_HEAD = r"(module\.)?head\..*"


class PartAware(ViTLayout):
    """The backbone, and `part_tokens` with `part_pos_embed`."""

    title = "PASS"
    prefixes = ("", "backbone.", "module.backbone.", "base.")
    drops: ClassVar[Mapping[str, str]] = {r"fc\.(weight|bias)": CLASSIFIER}
    beside: ClassVar[Mapping[str, str]] = {
        _HEAD: PROJECTION,
        r"(bottleneck|classifier).*": "a head of its fine-tuning that our networks do not have",
    }
    together = (("fc.weight", "fc.bias"),)
    positions_of_tokens = True

    def matches(self, file: WeightsFile) -> bool:
        return any(re.fullmatch(r"part_token\d+|part\d+_pos", name) for name in self.names(file))

    def translate(self, file: WeightsFile) -> Translation:
        out = super().translate(file)
        prefix = self.prefix(file.state) or ""
        numbers = sorted(
            {int(n) for name in out.backbone for n in re.findall(r"^part(?:_token)?(\d+)(?:_pos)?$", name)}
        )
        wanted = ["cls_pos", *(name for n in numbers for name in (f"part_token{n}", f"part{n}_pos"))]
        missing = [prefix + name for name in wanted if name not in out.backbone]
        if missing or numbers != list(range(1, len(numbers) + 1)) or "pos_embed" not in out.backbone:
            lacks = ", ".join(missing) or "a part token or pos_embed"
            raise CheckpointError(f"{file.path} is a PASS model, but lacks {lacks}: it is not whole.")
        if "sie_embed" in out.backbone:
            raise CheckpointError(
                f"{file.path} is PASS with camera or view embeddings (sie_embed), which we cannot take."
            )
        for name, kind in (("part_tokens", "part_token{}"), ("part_pos_embed", "part{}_pos")):
            keys = [kind.format(n) for n in numbers]
            out.take_beside(
                name, torch.cat([out.backbone.pop(key) for key in keys], dim=1), *(prefix + key for key in keys)
            )
            for key in keys:
                del out.sources[key]
        out.granularities = (len(numbers),)
        positions = [out.backbone.pop("cls_pos"), out.backbone["pos_embed"]]
        if any(p.ndim != 3 or p.shape[-1] != positions[1].shape[-1] for p in positions):
            raise CheckpointError(f"{file.path} has positions of the shapes {[tuple(p.shape) for p in positions]}.")
        out.take("pos_embed", torch.cat(positions, dim=1), prefix + "cls_pos", prefix + "pos_embed")
        del out.sources["cls_pos"]
        self._take_heads(file.state, out, channels=positions[0].shape[-1])
        return out

    def _take_heads(self, state: State, out: Translation, channels: int) -> None:
        widths = {len(tensor) for name, tensor in state.items() if name.startswith("bottleneck.") and tensor.ndim}
        if any(name.startswith("bottleneck_") for name in state):
            lacking = take_necks(state, out, ["", *(f"_{n}" for n in range(1, 1 + sum(out.granularities)))])
            if "classifier.weight" in state:
                out.dropped["classifier.weight"] = "of CLS and the mean of the parts, where the necks are each token's"
            else:
                lacking.append("classifier.weight")
        elif 2 * channels in widths:
            out.joined = True
            lacking = take_necks(state, out, [""])
            classifier = state.get("classifier.weight")
            if classifier is None:
                lacking.append("classifier.weight")
            else:  # (ids, 2 * channels)
                halves = torch.stack(classifier.chunk(2, dim=1))
                out.take_beside("heads.classifier", halves, "classifier.weight")
        else:
            return
        for name in (name for sources in out.sources.values() for name in sources):
            out.dropped.pop(name, None)
        if lacking:
            out.warnings.append(
                f"the file lacks {some(lacking, 10)}, which PASS's fine-tuned files have: was it edited?"
            )
