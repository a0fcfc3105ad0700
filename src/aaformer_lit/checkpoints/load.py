"""From a file to a network: training checkpoints and exported safetensors folders, without running code from either.

The file says which network it holds (a plain config of class names and arguments); only classes of this package are built.
"""

from __future__ import annotations

import json
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aaformer_lit.checkpoints.calibration import with_calibration
from aaformer_lit.checkpoints.hub import local_path
from aaformer_lit.data.image_transform import ImageTransform
from aaformer_lit.errors import CheckpointError, first_line
from aaformer_lit.utils.text import separators_hint

if TYPE_CHECKING:
    from aaformer_lit.models import ReIDViT

FORMAT = 1
_KEY = "aaformer_lit"
_ALLOWED = ("aaformer_lit.models.", "aaformer_lit.assign.")


def describe(model: Mapping[str, Any], num_classes: int, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself: `model` is the config group, `data` the preprocessing (image size, mean, std)."""
    return {"format": FORMAT, "model": dict(model), "num_classes": num_classes, "data": dict(data)}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The whole training checkpoint, tensors and plain values only.

    Raises:
        CheckpointError: not there, truncated, not ours, or made by a newer version.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint at {path}. A run writes checkpoints/last.ckpt in its run directory.{separators_hint(path)}"
        )
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different one for each way a file can be broken
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({first_line(error)}). It is truncated, "
            "not a checkpoint, or needs code to load, which is refused."
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content or _KEY not in content:
        raise CheckpointError(
            f"{path} is not a checkpoint of aaformer_lit. Pre-trained backbones are given as model.backbone.weights={path}."
        )
    _check_format(content[_KEY], path)
    return content


def is_ours(path: Path) -> bool:
    """Whether a file says that it is a training checkpoint of ours; only the names in its pickle are looked at."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl")]
        return any(value == _KEY for content in pickles for _, value, _ in pickletools.genops(content))
    except (OSError, zipfile.BadZipFile, ValueError):  # not there, not torch's, broken
        return False


def check_same_model(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` unless both have the same names and shapes, so that a training can be continued."""
    odd = sorted(
        n for n in ours.keys() | theirs.keys() if n not in ours or n not in theirs or ours[n].shape != theirs[n].shape
    )
    if odd:
        raise CheckpointError(
            f"the checkpoint is of another model: {len(odd)} of {len(ours)} tensors differ in name or shape, such as "
            f"{odd[0]}. Continue with the settings that it was trained with; they are in config.yaml of its run."
        )


def description(path: str | Path) -> dict[str, Any]:
    """What the checkpoint, exported folder or hub model says of itself (see `describe`).

    Raises:
        CheckpointError: as `load`.
    """
    path = local_path(path)
    about = _read_config(path) if path.is_dir() else read_checkpoint(path)[_KEY]
    return _with_preprocessing(about, path)


def load(path: str | Path) -> tuple[ReIDViT, dict[str, Any]]:
    """The network as of `load_model`, and what its file says of itself (see `describe`); the file is read once.

    Raises:
        CheckpointError: as `load_model`, or it does not say how images are prepared for the network.
    """
    network, about = _load(path)
    return network, _with_preprocessing(about, path)


def load_model(path: str | Path) -> ReIDViT:
    """The network of a training checkpoint, or of an exported folder with config.json and model.safetensors, in eval mode.

    It knows how its images are prepared (`transform`), so that `embed_images` takes files, and the thresholds that were
    stored for it (`calibration`), if any.

    Args:
        path: of the checkpoint or folder; or `synthetic-small`, which comes with the package; or a Hugging Face hub id,
            `owner/name` or `owner/name@revision`.

    Raises:
        CheckpointError: the file is missing, broken, not ours, newer than this version, or does not fit its own config; or
            the hub does not give it.
    """
    return _load(path)[0]


def _load(path: str | Path) -> tuple[ReIDViT, Mapping[str, Any]]:
    path = local_path(path)
    if path.is_dir():
        from safetensors.torch import load_file

        about = _read_config(path)
        try:
            state = load_file(path / "model.safetensors")
        except Exception as error:  # missing and truncated alike
            raise CheckpointError(
                f"{path}/model.safetensors cannot be read: {error}. Export the model again."
            ) from error
    else:
        content = read_checkpoint(path)
        about = content[_KEY]
        state = {k.removeprefix("network."): v for k, v in content["state_dict"].items() if k.startswith("network.")}
    network = build_network(about)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit the model it names: {str(error).splitlines()[1].strip()}"
        ) from error
    if not _lacking(about):
        network.transform = ImageTransform.from_description(about["data"])
    network.eval()
    return network, with_calibration(network, about, path)


def _with_preprocessing(about: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    if lacking := _lacking(about):
        raise CheckpointError(f"{path} does not say how images are prepared for its network: no {', '.join(lacking)}.")
    return dict(about)


def build_network(about: Mapping[str, Any]) -> ReIDViT:
    """The network that a description names, without weights."""
    import hydra
    from hydra.errors import InstantiationException

    from aaformer_lit.models import ReIDViT
    from aaformer_lit.models.compression import Compression

    model = json.loads(json.dumps(about["model"]))
    _check_targets(model)
    if isinstance(model.get("backbone"), dict):
        model["backbone"]["weights"] = None  # they come from the checkpoint
    try:
        network = hydra.utils.instantiate(model, num_classes=about["num_classes"])
    except InstantiationException as error:  # arguments of another version, or edited by hand
        reason = first_line(error.__cause__ or error)
        raise CheckpointError(f"the checkpoint's own config cannot build the network it names: {reason}.") from error
    if not isinstance(network, ReIDViT):
        raise CheckpointError("the checkpoint does not name a network (a _target_ in its model config).")
    if about.get("compress"):
        network.compression = Compression(network.num_tokens * network.dim, int(about["compress"]))
    return network


def _lacking(about: Mapping[str, Any]) -> list[str]:
    """What the description does not say of the preparation of images."""
    return [name for name in ("image_size", "mean", "std") if name not in (about.get("data") or {})]


def _read_config(path: Path) -> dict[str, Any]:
    if not (path / "config.json").is_file():
        raise CheckpointError(
            f"{path} is no run with a checkpoint (checkpoints/last.ckpt, written when its first epoch ends) and no exported "
            "folder (config.json and model.safetensors). Give a checkpoint, a run, an exported folder or a hub id."
        )
    try:
        about = json.loads((path / "config.json").read_text())
        about = about.get(_KEY, about)
        _check_format(about, path)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no exported model: config.json cannot be read ({error}).") from error
    return dict(about)


def _check_sums(path: Path) -> None:
    """torch reads past a flipped bit, though its files are zip archives with check sums."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} in it is damaged")


def _check_format(about: object, path: Path) -> None:
    if not isinstance(about, dict) or not {"format", "model", "num_classes"} <= about.keys():
        raise CheckpointError(f"{path} does not say which model it holds; it was not written by aaformer_lit.")
    if not isinstance(about["format"], int) or not isinstance(about["model"], Mapping):
        raise CheckpointError(f"{path} does not say which model it holds in a way that can be read; it was edited.")
    if about["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {about['format']}, newer than this version reads ({FORMAT}). Update aaformer_lit."
        )


def _is_class_of_ours(target: str) -> bool:
    """Whether a name leads to one of our networks or assigners, and not through our modules to what these import."""
    from hydra.utils import get_object

    from aaformer_lit.models import build_backbone

    if not target.startswith(_ALLOWED):
        return False
    try:
        found = get_object(target)
    except Exception:  # nothing of that name
        return False
    is_network = isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith(_ALLOWED)
    return is_network or found is build_backbone


def _check_targets(node: object) -> None:
    """Refuse a config that would build anything but our networks: instantiating a class name is running code."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not _is_class_of_ours(str(target)):
            raise CheckpointError(
                f"the checkpoint asks to build {target!r}, which is not a network of aaformer_lit. Refused."
            )
        for value in node.values():
            _check_targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            _check_targets(value)
