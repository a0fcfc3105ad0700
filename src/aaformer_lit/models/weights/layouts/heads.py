"""The re-ID heads of fine-tuned files: `bottleneck`, `bottleneck_1`, ... are BNNecks, `classifier`, ... have no bias.

Ours lie side by side, as `TokenHeads` holds them. What a file has only in part is left out, and named.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aaformer_lit.models.weights.layout import State, Translation

NECK = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def take_necks(state: State, out: Translation, features: Sequence[str]) -> list[str]:
    """The necks of the features, which their names end with; the names that the file lacks are returned."""
    lacking: list[str] = []
    for kind in NECK:
        names = [f"bottleneck{feature}.{kind}" for feature in features]
        there = [name for name in names if name in state]
        if len(there) == len(names):
            tensors = [state[name] for name in names]
            whole = tensors[0] if kind == "num_batches_tracked" else torch.cat([tensor.flatten() for tensor in tensors])
            out.take_beside(f"heads.neck.{kind}", whole, *names)
        else:
            lacking += _incomplete(out, names, there)
    return lacking


def take_classifiers(state: State, out: Translation, features: Sequence[str]) -> list[str]:
    """The classifiers of the features; the names that the file lacks are returned."""
    names = [f"classifier{feature}.weight" for feature in features]
    there = [name for name in names if name in state]
    if len(there) < len(names) or len({state[name].shape for name in there}) > 1:
        return _incomplete(out, names, there)
    out.take_beside("heads.classifier", torch.stack([state[name] for name in names]), *names)
    return []


def _incomplete(out: Translation, names: list[str], there: list[str]) -> list[str]:
    out.dropped |= dict.fromkeys(there, "the other features' heads of its kind are missing")
    return [name for name in names if name not in there]
