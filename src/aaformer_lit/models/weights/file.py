"""A file of weights, read without running code from it: tensors by name, and what they lay wrapped in.

Training scripts save their weights beside an optimizer, an epoch and their arguments. Those of DINO, PASS and TransReID-SSL
hold the arguments as an `argparse.Namespace` and the optimizer's rate as a float64 of numpy's, which are plain data: these are
allowed, and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from aaformer_lit.errors import CheckpointError, first_line

CONTAINERS = ("teacher", "student", "state_dict", "model", "model_state_dict", "state_dict_ema")
THREE_WAYS = (
    "Give the weights as model.backbone.weights=timm (downloads once, then cached), "
    "model.backbone.weights=FILE.safetensors or FILE.pth (a local file), or model.backbone.weights=null (none)."
)


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds.

    `state`: tensors by name; `wrapper`: the keys that they lay under, such as `teacher`; `about`: what one of our own
    files says of its network; `sha256`: of the file.
    """

    path: Path
    state: Mapping[str, Tensor]
    wrapper: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""


# what training scripts save beside the weights: their arguments, and rates of the optimizer that come from a numpy schedule
_NUMBER = np.float64(0).__reduce__()[0]  # numpy's function for it, which it has called otherwise in other versions
_PLAIN: list[Any] = [
    argparse.Namespace,
    (_NUMBER, "numpy._core.multiarray.scalar"),
    (_NUMBER, "numpy.core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float64DType,
]


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a .safetensors or torch file.

    Raises:
        CheckpointError: not there, broken, of code, or not named tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}. {THREE_WAYS}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_PLAIN):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own exceptions for a broken file
        if _is_torchscript(path):
            raise CheckpointError(
                f"{path} is a TorchScript archive, which is code and is refused; OpenAI's CLIP is such. Save its tensors "
                "where you trust it, torch.save(torch.jit.load(FILE).state_dict(), OTHER), and give that file."
            ) from error
        raise CheckpointError(
            f"{path} cannot be read as weights{_reason(error)}. "
            "It must be a whole .safetensors or torch file of tensors; files that need code to load are refused."
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not named tensors. {THREE_WAYS}")
    return dict(content)


def open_file(path: Path) -> WeightsFile:
    """Read a file and take off what its tensors are wrapped in: containers, and the `module.` of data parallel training."""
    content: Mapping[str, Any] = read_weights(path)
    about = content.get("aaformer_lit")
    wrapper: list[str] = []
    while inner := next((c for c in CONTAINERS if isinstance(content.get(c), Mapping)), None):
        wrapper.append(inner)
        content = content[inner]
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    if not state:
        raise CheckpointError(f"{path} holds no tensors{f' under {wrapper[-1]}' if wrapper else ''}. {THREE_WAYS}")
    return WeightsFile(path, state, ".".join(wrapper), about if isinstance(about, Mapping) else {}, sha256(path))


def _reason(error: Exception) -> str:
    # of what is no pickle torch's reader says the number of a byte or that its stack is empty, or advises to load it unsafely
    return "" if isinstance(error, LookupError | pickle.UnpicklingError) else f" ({first_line(error)})"


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
