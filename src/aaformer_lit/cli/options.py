"""The config groups of a command and their options, read off conf/; what an ablation fixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
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
    """The config values that make a training this ablation: network, parts, assigner, what follows the body, how part
    tokens start and are taught.

    What the data decide (`parts: ${one_part_per_mask:}`) is not among them.
    """
    content: Any = OmegaConf.to_container(composed("train", [f"ablation={name}"]))
    usual: Any = OmegaConf.load(CONF_DIR / "train.yaml")
    model = content["model"]
    pins: dict[str, Any] = {
        key: model[key] for key in ("_target_", "parts", "assigner") if key in model and "${" not in str(model[key])
    }
    if model.get("follow_body"):
        pins["follow_body"] = model["follow_body"]
    return {"model": pins} | {key: content[key] for key in ("part_start", "place_loss") if content[key] != usual[key]}


def composed(command: str, overrides: Sequence[str]) -> DictConfig:
    """A command's config, within a command or outside of one."""
    inside = GlobalHydra.instance().is_initialized()  # of a command, where Hydra knows conf/ already
    with nullcontext() if inside else initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(command, list(overrides))
