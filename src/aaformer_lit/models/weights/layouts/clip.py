"""CLIP's image tower in OpenAI's names (`visual.*`), and in those of CLIP-ReID (`image_encoder.*`).

A norm before the blocks, no bias in the patch embedding, and QuickGELU, which no tensor shows: the backbone to use is
`model/backbone=clip_base` (timm's `vit_base_patch16_clip_quickgelu_224`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import Layout, Translation

_WORDS = (
    (r"^conv1\.", "patch_embed.proj."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
TEXT = "CLIP's text side"
SIDE = "side information (camera or view), which our networks do not have: the authors' numbers are with it"


class Clip(Layout):
    """Positions start with that of CLS. CLIP-ReID's are of people, OpenAI's square."""

    title = "CLIP"
    drops: ClassVar[Mapping[str, str]] = {
        r"(transformer|token_embedding|ln_final|text_encoder|prompt_learner)\..*": TEXT,
        r"positional_embedding|text_projection|logit_scale": TEXT,
        r"(input_resolution|context_length|vocab_size)": TEXT,
        r"(bottleneck|classifier)(_proj)?\..*": "the re-ID head of CLIP-ReID, over CLS and its projection",
        r"cv_embed": SIDE,
    }

    def prefix(self, file: WeightsFile) -> str | None:
        landmarks = ("class_embedding", "positional_embedding", "conv1.weight", "ln_pre.weight")
        prefixes = ("visual.", "image_encoder.", "")
        return next((p for p in prefixes if sum(p + landmark in file.state for landmark in landmarks) > 1), None)

    def matches(self, file: WeightsFile) -> bool:
        return self.prefix(file) is not None

    def translate(self, file: WeightsFile) -> Translation:
        prefix = self.prefix(file) or ""
        out = Translation(f"{self.title}-ReID" if prefix == "image_encoder." else self.title)
        out.positions_of_tokens, out.square = True, prefix != "image_encoder."
        for full, tensor in file.state.items():
            why = None if full.startswith(prefix) else self.dropped(full) or "not of the image tower"
            name = full.removeprefix(prefix)
            if why is not None:
                out.dropped[full] = why
                if full == "cv_embed" or why.startswith("not of"):
                    out.warnings.append(f"{full} is left out: {why}")
            elif name == "proj":
                out.dropped[full] = "the projection into the space that CLIP shares with text"
            elif name == "class_embedding":
                out.take("cls_token", tensor.float()[None, None], full)
            elif name == "positional_embedding":
                out.take("pos_embed", tensor.float()[None], full)
            else:
                for pattern, word in _WORDS:
                    name = re.sub(pattern, word, name)
                out.take(name, tensor.float(), full)
        if prefix + "proj" not in file.state:
            out.warnings.append(f"the file lacks {prefix}proj, which CLIP's files have: was it edited?")
        return out
