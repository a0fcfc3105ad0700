"""What the configs leave to be worked out (`${config_hash:}` and the like): the names of runs, and a part per mask."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from aaformer_lit.errors import ConfigError

# what a run is about does not change with where it writes, what it logs to, or how it is continued
_NOT_IN_HASH = ("paths", "logger", "callbacks", "hydra", "resume", "run_dir", "ckpt_path", "sweep")


def config_hash(cfg: DictConfig) -> str:
    """Eight hex digits that two runs share exactly when they train and test the same thing."""
    content = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(content, dict)
    relevant = {key: value for key, value in content.items() if key not in _NOT_IN_HASH}
    if average := (content.get("callbacks") or {}).get("ema"):
        relevant["ema"] = average  # the one callback that changes what is tested
    return hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()[:8]


def is_sweep() -> bool:
    """Whether this job is one of a Hydra multirun."""
    return bool(HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN)


def _run_name(now: str, *, _root_: DictConfig) -> str:
    """`<what>/<hash>/<time>`; with `resume=auto` the time of the newest unfinished run of the same config, if there is one."""
    choices = _root_.hydra.runtime.choices
    experiment = choices.get("experiment")
    what = experiment if experiment not in (None, "null") else f"{choices.get('data')}-{choices.get('model')}"
    name = f"{what}/{config_hash(_root_)}".replace("None", "run")
    if _root_.get("resume") == "auto":
        started = sorted(Path(_root_.paths.runs, name).glob("*/config.yaml"))
        unfinished = [config.parent.name for config in started if not (config.parent / "metrics.json").exists()]
        if unfinished:
            return f"{name}/{unfinished[-1]}"
    # ranks that torchrun or SLURM start by themselves must agree on the name, to the second they do not
    launch = os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"{name}/{now if launch == 'none' else launch}"


def _sweep_name(now: str, *, _root_: DictConfig) -> str:
    """`<sweep>-<data>` for a sweep that has a name, so that starting it again finds its finished jobs; else the time."""
    sweep = _root_.get("sweep")
    return f"{sweep}-{_root_.hydra.runtime.choices.get('data')}" if sweep else now


def _sweep_group(*, _root_: DictConfig) -> str | None:
    """What the jobs of one sweep have in common, for loggers that group runs; None for a single run."""
    sweep = _root_.get("sweep")
    if sweep:
        return str(sweep)
    return Path(HydraConfig.get().sweep.dir).name if is_sweep() else None


def _one_part_per_mask(*, _root_: DictConfig) -> list[int]:
    """The granularity of SPReID's rows: as many parts as the data's mask table has."""
    masks = _root_.data.get("mask_parts")
    if not masks:
        raise ConfigError(
            "this model has one part for each body part of the data's mask table (data.mask_parts), and there is none. "
            "Give masks of your images with data.masks=DIR and data.mask_parts='{head: [1], torso: [2], ...}', "
            "or use data=synthetic."
        )
    return [len(masks)]


def register() -> None:
    """Make them known to OmegaConf."""
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("sweep_name", _sweep_name, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("sweep_group", _sweep_group, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("config_hash", lambda *, _root_: config_hash(_root_), replace=True)
    OmegaConf.register_new_resolver("one_part_per_mask", _one_part_per_mask, replace=True)


register()  # on import: the worker processes of a sweep's launcher never call `cli.run`
