"""What the configs leave to be worked out (`${config_hash:}` and the like): names of runs, parts per mask, groups in --help."""

from __future__ import annotations

import os
from itertools import chain, count
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aaformer_lit.cli.options import groups_help
from aaformer_lit.cli.unfinished import same_job, same_run
from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.identity import identity_hash, matters


def config_hash(cfg: DictConfig) -> str:
    """Eight hex digits that two runs share exactly when they train and test the same thing."""
    return identity_hash(_plain(cfg))


def is_sweep() -> bool:
    """Whether this job is one of a Hydra multirun."""
    return bool(HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN)


def _launch() -> str | None:
    """The id of the job whose ranks torchrun or SLURM start by themselves."""
    return os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID")


def _started(now: str) -> str:
    """The time, which ends in microseconds; to the second where ranks must agree."""
    return now if _launch() is None else now.rpartition("-")[0]


def _run_name(now: str, *, _root_: DictConfig) -> str:
    """`<what>/<hash>/<time>`; with `resume=auto` the newest unfinished run of the same identity, if there is one."""
    choices = _root_.hydra.runtime.choices
    experiment = choices.get("experiment")
    what = experiment if experiment not in (None, "null") else f"{choices.get('data')}-{choices.get('model')}"
    what = what.replace("None", "run")
    if _root_.get("resume") == "auto":
        started = same_run(Path(_root_.paths.runs, what), _plain(_root_))
        if started is not None:
            return str(started.relative_to(_root_.paths.runs))
    # ranks that torchrun or SLURM start by themselves must agree on the name, to the second they do not
    launch = _launch() or "none"
    run = f"{what}/{config_hash(_root_)}"
    if launch == "none":
        return f"{run}/{now}"
    # in one interactive job the same may be trained twice, and the first run is finished
    names = (f"{run}/{launch}{suffix}" for suffix in chain([""], (f"-{number}" for number in count(2))))
    return next(name for name in names if not Path(_root_.paths.runs, name, "metrics.json").exists())


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """What matters of a config that is still being composed: the run's folder, which callbacks name, is not known yet."""
    content: dict[str, Any] = {"callbacks": {"ema": OmegaConf.select(cfg, "callbacks.ema")}}
    for key in map(str, cfg):
        if matters(key) and key not in content:
            try:
                value = cfg[key]
                content[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            except OmegaConfBaseException:  # told when the job starts, by the name of the key
                content[key] = "?"
    return content


def _job_name(*, _root_: DictConfig) -> str:
    """The config's hash, or the folder of the job of this identity that an older version has started in this sweep."""
    name, sweep = config_hash(_root_), Path(_root_.hydra.sweep.dir)
    started = None if (sweep / name).exists() else same_job(sweep, _plain(_root_))
    return name if started is None else started.name


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


def _run_labels(*, _root_: DictConfig) -> dict[str, Any]:
    """What a dashboard calls this run: name (with the seed), group (all seeds of it), tags (data, model and what else)."""
    if not HydraConfig.initialized():
        return {}
    choices = HydraConfig.get().runtime.choices
    chosen = {key: str(choices[key]) for key in ("experiment", "data", "model", "ablation") if choices.get(key)}
    tags = [option for option in dict.fromkeys(chosen.values()) if option not in ("None", "null")]
    what = " ".join(tags)
    return {"name": f"{what} seed {_root_.get('seed')}", "group": what, "tags": tags}


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
    OmegaConf.register_new_resolver("started", _started, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("sweep_name", _sweep_name, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("sweep_group", _sweep_group, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("run_labels", _run_labels, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("config_hash", _job_name, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("groups_help", groups_help, replace=True)
    OmegaConf.register_new_resolver("is_null", lambda value: value is None, replace=True)
    OmegaConf.register_new_resolver("one_part_per_mask", _one_part_per_mask, replace=True)


register()  # on import: the worker processes of a sweep's launcher never call `cli.run`
