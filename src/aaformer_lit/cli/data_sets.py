"""Several data sets on one command line, `data=[market1501,site.csv]`, each with a config of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from aaformer_lit.cli.options import composed, options_of
from aaformer_lit.cli.suggestions import did_you_mean_option
from aaformer_lit.errors import ConfigError

_ABSENT = object()


def several_data(argument: str) -> str:
    """`data=[a,b]`, `data.cut=[0,0.2]` and `data.KEY=VALUE` of a command line under names that are no config group's: Hydra
    would try to make one config of the two. `+data.KEY=VALUE`, as `train` takes it, is the same.
    """
    names = {"=": "data_sets=", ".cut=": "cuts=", ".": "+data_options."}
    return re.sub(r"^\+{0,2}data(=|\.cut=|\.)", lambda match: names[match[1]], argument)


def data_configs(names: Sequence[str], overrides: Sequence[str], tables: Sequence[str]) -> dict[str, DictConfig]:
    """The config of each data set, with the `data_options` (see `several_data`) that it has, `paths.*` and `seed`.

    A table, by its suffix one of `tables`, is `data=folder data.table=site.csv`, and goes by the name `site`.

    Raises:
        ConfigError: no data set of that name, the same name twice, or an option that none of them has.
    """
    common = [one for one in overrides if one.startswith(("paths.", "seed="))]
    options = [one.removeprefix("+data_options.") for one in overrides if one.startswith("+data_options.")]
    used: set[str] = set()
    configs: dict[str, DictConfig] = {}
    for given in names:
        name, chosen = _named(given, tables)
        if name in configs:
            raise ConfigError(
                f"data=[{','.join(names)}] has two that are called {name}. Give each once, under its own name."
            )
        plain = composed("evaluate", [*chosen, *common]).data
        own = [one for one in options if OmegaConf.select(plain, one.partition("=")[0], default=_ABSENT) is not _ABSENT]
        used |= set(own)
        whole = [*chosen, *common, *(f"data.{one}" for one in own)]
        content: Any = OmegaConf.to_container(composed("evaluate", whole).data, resolve=True)
        configs[name] = OmegaConf.create(content)
    if strange := [one for one in options if one not in used]:
        raise ConfigError(
            f"data.{strange[0].partition('=')[0]} is no option of {', '.join(names)}. See --cfg job of evaluate."
        )
    return configs


def _named(given: str, tables: Sequence[str]) -> tuple[str, list[str]]:
    """What to call a data set, and the overrides that choose it."""
    if Path(given).suffix in tables:
        return Path(given).stem, ["data=folder", f"data.table='{given}'"]
    if given not in options_of("data"):
        hint = did_you_mean_option("data", given)
        raise ConfigError(
            f"there is no data={given}.{hint} Options: {', '.join(options_of('data'))}; or a table of one's own, NAME.csv."
        )
    return given, [f"data={given}"]
