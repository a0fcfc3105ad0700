"""What makes a run another one: its config without all that cannot change results.

Two runs of one identity train and test the same thing. So a run is continued, a sweep's job is finished, and a table's
columns belong together by this rule alone. Classes count by their name and files by theirs, wherever they lie; a checkpoint,
which is called as all others are, by its run's too. Benchmarks are the same in any folder, own images are those of theirs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

_CANNOT_CHANGE_RESULTS = (
    "paths", "hydra", "logger", "run_dir", "resume", "ckpt_path", "sweep", "pictures", "compile", "ops",
    "data.root", "data.options.*.root", "data.num_workers", "data.pin_memory", "data.cache", "data.eval_batch_size",
    "model.grad_checkpointing", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy",
    "trainer.deterministic", "trainer.benchmark", "trainer.enable_*", "trainer.log_every_n_steps",
    "trainer.use_distributed_sampler", "trainer.num_sanity_val_steps", "optim.optimizer.fused", "*._convert_", "*._recursive_",
)  # fmt: skip
# what every run had before there was a key to say it
_UNSAID: Mapping[str, Any] = {
    "model.backbone.init": "timm",
    "model.descriptor": "tokens",
    "model.follow_body": 0,
    "place_loss.heights_weight": 10.0,
    "optim.schedule.first_epoch": 0,
    "data.spec.box_width": 1.0,
    "data.cut": 0.0,
    "data.transforms.box": 0.0,
    "data.transforms.move_box": 0.75,
}
_CALLBACKS = ("callbacks.ema",)  # the others watch and write
_OWN_IMAGES = "FolderDataModule"


def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a training's config that can change its results; files are named without their folders."""
    kept: dict[str, Any] = _filtered(config, "")
    data = config.get("data")
    if isinstance(data, Mapping) and "root" in data and _class_name(data.get("_target_")) == _OWN_IMAGES:
        kept["data"]["root"] = Path(str(data["root"])).name
    return kept


def read_config(path: Path) -> dict[str, Any]:
    """A run's config.yaml; empty where there is none, or none that can be read."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception:  # of yaml and omegaconf, which share no base
        return {}
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same as dotted keys and values, equal for runs that train and test the same thing.

    Args:
        config: nested, of plain values: a composed config, a run's config.yaml, or the config of its metadata.json. A
            value of null is as good as none, so that older runs may lack a key that has come since.
    """
    flat = flatten(relevant(config)).items()
    said = ((k, v) for k, v in flat if v is not None and (k not in _UNSAID or v != _UNSAID[k]))
    return {k: _class_name(v) if k.endswith("_target_") else v for k, v in said}


def identity_hash(config: Mapping[str, Any]) -> str:
    """Eight hex digits of the identity."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True, default=str).encode()).hexdigest()[:8]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The keys in which two configs' identities differ, with both values."""
    first, second = identity(one), identity(other)
    for key in sorted(first.keys() | second.keys()):
        if first.get(key) != second.get(key):
            yield key, first.get(key), second.get(key)


def matters(key: str) -> bool:
    """Whether a config value, by its dotted key, can change what a run measures."""
    if key.startswith("callbacks."):
        return key.startswith(_CALLBACKS)
    return not any(fnmatchcase(key, pattern) for pattern in _CANNOT_CHANGE_RESULTS)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys; lists are values (tuples)."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _hashable(value)
    return flat


def _filtered(value: object, key: str) -> Any:
    if isinstance(value, Mapping):
        prefix = f"{key}." if key else ""
        return {name: _filtered(one, f"{prefix}{name}") for name, one in value.items() if matters(f"{prefix}{name}")}
    if isinstance(value, list | tuple):
        return [_filtered(one, key) for one in value]
    return _file_name(Path(value)) if isinstance(value, str) and Path(value).is_absolute() else value


def _file_name(path: Path) -> str:
    of_a_run = path.suffix == ".ckpt" and path.parent.name == "checkpoints"
    return f"{path.parents[1].name}/{path.name}" if of_a_run else path.name


def _class_name(target: object) -> str:
    """Of our own classes, which have moved and may move again, the bare name."""
    name = str(target)
    return name.rpartition(".")[2] if name.startswith("aaformer_lit.") else name


def _hashable(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple(_hashable(one) for one in value)
    return tuple(sorted(flatten(value).items())) if isinstance(value, Mapping) else value
