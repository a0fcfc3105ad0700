"""MAE's pre-training checkpoints: an encoder in timm's names, and a decoder that is not needed.

The encoder's files (`mae_pretrain_vit_base.pth`) have timm's names alone. Those fine-tuned for ImageNet end in `fc_norm`, a
norm over the mean of the patches, and have no trained norm for CLS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from aaformer_lit.errors import CheckpointError
from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import CLASSIFIER, Translation
from aaformer_lit.models.weights.layouts.timm import ViTLayout


class Mae(ViTLayout):
    """With a decoder, or fine-tuned with mean pooling (refused)."""

    title = "MAE"
    drops: ClassVar[Mapping[str, str]] = {
        r"decoder_.*": "the decoder of its pre-training",
        r"mask_token": "stands for hidden patches in its pre-training",
        r"head\.(weight|bias)": CLASSIFIER,
    }
    together = (
        ("decoder_embed.weight", "decoder_embed.bias", "mask_token", "decoder_pos_embed", "decoder_norm.weight",
         "decoder_norm.bias", "decoder_pred.weight", "decoder_pred.bias"),
    )  # fmt: skip
    positions_of_tokens, square = True, True

    def matches(self, file: WeightsFile) -> bool:
        decoder = any(name.startswith("decoder_") for name in file.state)
        return super().matches(file) and (decoder or "fc_norm.weight" in file.state or "fc_norm.bias" in file.state)

    def translate(self, file: WeightsFile) -> Translation:
        if any(name.startswith("fc_norm.") for name in file.state):
            raise CheckpointError(
                f"{file.path} was trained with the mean of the patches in place of CLS (fc_norm), so that nothing trained its "
                "CLS and last norm. Use the weights before that fine-tuning: MAE's mae_pretrain_vit_*.pth."
            )
        out = super().translate(file)
        blocks = {name.split(".")[1]: name for name in out.dropped if name.startswith("decoder_blocks.")}
        parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for block in blocks:
            for name in (f"decoder_blocks.{block}.{part}.{kind}" for part in parts for kind in ("weight", "bias")):
                if name not in file.state:
                    out.warnings.append(f"the file lacks {name} of its decoder: was it edited?")
        return out
