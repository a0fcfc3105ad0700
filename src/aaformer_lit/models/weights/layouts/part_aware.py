"""PASS (Zhu et al., ECCV 2022), part-aware pre-training on LUPerson: a ViT with three part tokens beside CLS.

Each token has a position of its own (`cls_pos`, `part1_pos`, ...); `pos_embed` holds the patches' alone. The part tokens are
ordinary tokens of one sequence, so that `model/assigner=everyone` with `parts=[3]` computes what PASS computes, and
AAformer's parts start from tokens that already look at parts of people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import torch

from aaformer_lit.errors import CheckpointError
from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import CLASSIFIER, Translation
from aaformer_lit.models.weights.layouts.dino import PROJECTION
from aaformer_lit.models.weights.layouts.timm import ViTLayout

_HEAD = r"(module\.)?head\..*"


class PartAware(ViTLayout):
    """The backbone, and `part_tokens` with `part_pos_embed`."""

    title = "PASS"
    prefixes = ("", "backbone.", "module.backbone.", "base.")
    drops: ClassVar[Mapping[str, str]] = {r"fc\.(weight|bias)": CLASSIFIER}
    beside: ClassVar[Mapping[str, str]] = {
        _HEAD: PROJECTION,
        r"(bottleneck|classifier).*": "the re-ID head of its fine-tuning, over CLS and the mean of the parts",
    }
    together = (("fc.weight", "fc.bias"),)

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
        out.positions_of_tokens = True
        return out
