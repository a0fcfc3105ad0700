"""Our own checkpoints and exported folders: `backbone.*`, part tokens, necks and classifiers of a whole network.

As backbone weights they give their backbone; `init_from` takes the network.
"""

from __future__ import annotations

import math

from aaformer_lit.models.weights.file import WeightsFile
from aaformer_lit.models.weights.layout import Grid, Layout, State, Translation


class Ours(Layout):
    """Training checkpoints (`network.` before each name) and `model.safetensors`."""

    title = "aaformer_lit"

    def matches(self, file: WeightsFile) -> bool:
        names = file.state
        return any(name.startswith("network.backbone.") for name in names) or (
            any(name.startswith("backbone.") for name in names) and any(name.startswith("heads.") for name in names)
        )

    def translate(self, file: WeightsFile) -> Translation:
        out = Translation(self.title)
        whole = any(name.startswith("network.") for name in file.state)
        for full, tensor in file.state.items():
            name = full.removeprefix("network.")
            if whole and name == full:
                out.dropped[full] = "not of the network"
            elif name.startswith("backbone."):
                out.take(name.removeprefix("backbone."), tensor, full)
            else:
                out.take_beside(name, tensor, full)
        model = file.about.get("model")
        out.granularities = _granularities(model, out.network)
        out.joined = isinstance(model, dict) and model.get("descriptor") == "cls_mean" and bool(out.granularities)
        out.grid = _grid(model, out.backbone)
        return out


def _granularities(model: object, network: State) -> tuple[int, ...]:
    parts = model.get("parts", model.get("groups")) if isinstance(model, dict) else None
    if isinstance(parts, int):
        return (parts,)
    if isinstance(parts, list) and all(isinstance(p, int) for p in parts):
        return tuple(parts)
    return (network["part_tokens"].shape[1],) if "part_tokens" in network else ()


def _grid(model: object, backbone: State) -> Grid | None:
    """From the image size and stride of its config; None where the file does not hold one, or it is not of these weights."""
    config = model.get("backbone") if isinstance(model, dict) else None
    kernel = backbone.get("patch_embed.proj.weight")
    if not isinstance(config, dict) or kernel is None or not config.get("image_size"):
        return None
    patch = tuple(2 * side for side in kernel.shape[2:]) if kernel.shape[1] > 3 else tuple(kernel.shape[2:])
    stride = config.get("stride") or patch[0]
    rows, columns = ((int(size) - side) // stride + 1 for size, side in zip(config["image_size"], patch, strict=True))
    positions = backbone["pos_embed"].shape[1] if "pos_embed" in backbone else 0
    return (rows, columns) if 0 <= positions - math.prod((rows, columns)) <= 16 else None
