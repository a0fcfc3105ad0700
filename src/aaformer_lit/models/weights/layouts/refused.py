"""Layouts that cannot be taken, each with its reason and what to use instead."""

from __future__ import annotations

import re

from aaformer_lit.errors import CheckpointError
from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import Layout, Translation


class Refused(Layout):
    """A layout known by a pattern that one of its names matches."""

    def __init__(self, title: str, pattern: str, reason: str) -> None:
        self.title, self.pattern, self.reason = title, re.compile(pattern), reason

    def matches(self, file: WeightsFile) -> bool:
        return any(self.pattern.search(name) for name in file.state)

    def translate(self, file: WeightsFile) -> Translation:
        raise CheckpointError(f"{file.path} holds {self.title}: {self.reason}")


_PARTS = "part tokens would need attention with rotary positions, which is not written yet"
REFUSED = (
    Refused(
        "DINOv3",
        r"rope_embed\.periods|storage_tokens|qkv\.bias_mask|embeddings\.register_tokens",
        f"its positions are rotary, inside the attention; {_PARTS}. Use DINOv2 (model/backbone=dinov2_base) or PASS.",
    ),
    Refused(
        "EVA-02",
        r"rope\.freqs_(cos|sin)|attn\.inner_attn_ln\.|mlp\.ffn_ln\.|mlp\.fc1_g\.",
        f"its positions are rotary, inside the attention, and its MLPs gated; {_PARTS}. Use CLIP (model/backbone=clip_base).",
    ),
    Refused(
        "a Swin Transformer (SOLIDER, TransReID-SSL's Swin)",
        r"layers\.\d+\.blocks\.\d+\.|stages\.\d+\.blocks\.\d+\.attn\.w_msa\.",
        "its attention sees windows, not the image, and it has no CLS, so that part tokens have no place in it. Use a ViT of "
        "LUPerson: TransReID-SSL (model/backbone=vit_small_ics), PASS or PersonViT.",
    ),
    Refused(
        "BEiT",
        r"relative_position_bias_table|attn\.q_bias$",
        "its positions are biases of the attention. Use a ViT with absolute positions: DINO, iBOT, MAE or DeiT-III.",
    ),
    Refused(
        "a ViT in the names of Hugging Face transformers",
        r"embeddings\.(cls_token|class_embedding|patch_embeddings)|encoder\.layers?\.\d+\.",
        "they are not read. Use the same model in timm's or its authors' names: weights=timm, or their own file.",
    ),
    Refused(
        "a ResNet",
        r"(^|\.)layer[1-4]\.\d+\.conv1\.weight",
        "our networks are ViTs. Use a ViT of LUPerson (TransReID-SSL, PASS) or of ImageNet.",
    ),
)
