"""The config groups of a command and their options, read off conf/; what an ablation fixes, and data sets of a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from aaformer_lit.cli.paths import CONF_DIR


def options_of(group: str) -> list[str]:
    """The options of a config group; what only others build on (`_base`) is none."""
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml") if not path.stem.startswith("_"))


def groups_of(command: str, choices: Mapping[str, Any]) -> list[str]:
    """The config groups that a command uses: Hydra's record of its choices, and groups of which it takes several options."""
    defaults: Any = OmegaConf.to_container(OmegaConf.load(CONF_DIR / f"{command}.yaml"))
    defaults = defaults["defaults"]
    several = [
        group for one in defaults if isinstance(one, dict) for group, option in one.items() if isinstance(option, list)
    ]
    used = {group for group in {*choices, *several} if group != "hydra" and not group.startswith("hydra/")}
    return sorted(group for group in used if "/_" not in group)


def groups_help(*, _root_: DictConfig) -> str:
    """What `--help` says of the groups that this command uses, with the options of each; nothing where it uses none."""
    groups = groups_of(_root_.hydra.job.config_name, _root_.hydra.runtime.choices)
    lines = [f"  {group}: {', '.join(options_of(group))}\n" for group in groups]
    return "".join(["Groups (choose one option each, group=option):\n\n", *lines, "\n"]) if lines else ""


@cache
def ablation_pins(name: str) -> dict[str, Any]:
    """The config values that make a training this ablation: network, parts, assigner, and where part tokens start.

    What the data decide (`parts: ${one_part_per_mask:}`) is not among them.
    """
    composed: Any = OmegaConf.to_container(_composed("train", [f"ablation={name}"]))
    model, usual = composed["model"], OmegaConf.load(CONF_DIR / "train.yaml")
    pins: dict[str, Any] = {
        key: model[key] for key in ("_target_", "parts", "assigner") if key in model and "${" not in str(model[key])
    }
    start = composed["part_start"]
    return {"model": pins} | ({"part_start": start} if start != usual.part_start else {})


def several_of(command: str, group: str, overrides: Sequence[str]) -> list[str]:
    """The options of a group of which the command takes several, which Hydra does not record among its choices."""
    defaults: Any = OmegaConf.to_container(OmegaConf.load(CONF_DIR / f"{command}.yaml"))
    chosen: Any = next(one[group] for one in defaults["defaults"] if isinstance(one, dict) and group in one)
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.key_or_group == group:
            chosen = override.value()
    return [chosen] if isinstance(chosen, str) else list(map(str, chosen))


def data_config(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The config of a data set by its name, with those of a command line's `data.*` that it has, `paths.*` and `seed`."""
    common = [one for one in overrides if one.startswith(("paths.", "seed="))]
    plain = _composed("evaluate", [f"data={name}", *common])
    own = [
        one
        for one in overrides
        if one.startswith("data.") and OmegaConf.select(plain, one.partition("=")[0], default=_ABSENT) is not _ABSENT
    ]
    data = _composed("evaluate", [f"data={name}", *common, *own]).data if own else plain.data
    return OmegaConf.create(OmegaConf.to_container(data, resolve=True))  # type: ignore[return-value]  # a mapping


_ABSENT = object()


def _composed(command: str, overrides: Sequence[str]) -> DictConfig:
    inside = GlobalHydra.instance().is_initialized()  # of a command, where Hydra knows conf/ already
    with nullcontext() if inside else initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(command, list(overrides))
