"""What names a descriptor: a digest of all that leads from pixels to it. Equal fingerprints, comparable features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from aaformer_lit.models import ReIDViT


def fingerprint(network: ReIDViT, about: Mapping[str, Any]) -> str:
    """Sixteen hex digits of all that makes a descriptor: weights, the model's config, preprocessing.

    Not in it: the classifiers and the number of training ids, which the descriptor does not see, where the backbone's
    first weights came from, and how gradients are computed.
    """
    model = {key: value for key, value in about["model"].items() if key not in ("backbone", "grad_checkpointing")}
    backbone = about["model"].get("backbone")
    if isinstance(backbone, Mapping):
        model["backbone"] = {key: value for key, value in backbone.items() if key != "weights"}
    data = {key: [float(v) for v in about["data"][key]] for key in ("image_size", "mean", "std")}
    digest = hashlib.sha256(json.dumps([model, data], sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        if not name.endswith(("heads.classifier", "num_batches_tracked")):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
