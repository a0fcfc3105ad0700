"""Which data a checkpoint is tested on where none are asked for: those of its training.

The checkpoint carries the data config of its run; older ones have `config.yaml` of the run beside them. Only data modules of
this package are built from it, so that it runs no code of others.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from aaformer_lit.checkpoints.hub import PACKAGED, local_path
from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.files import write_text
from aaformer_lit.utils.identity import read_config

logger = logging.getLogger(__name__)
# data sets have moved to a folder of their own; runs from before name their old places
_MOVED = (
    re.compile(r"aaformer_lit\.data\.(market1501|dukemtmc|occluded_duke|msmt17|cuhk03|folder|joint)\.(?=\w+$)"),
    r"aaformer_lit.data.datasets.\1.",
)


def use_training_data(cfg: DictConfig, ckpt: str, about: Mapping[str, Any]) -> None:
    """Put the data config of the checkpoint's run in the place of `cfg.data`, unless the command line says `data=`.

    Single values of the command line (`data.num_workers=0`) still count, and so does `paths.data`.

    Args:
        cfg: the composed config; the copy of it that further processes read is written anew.
        ckpt: the checkpoint, exported folder or run.
        about: what it says of itself.

    Raises:
        ConfigError: the checkpoint does not say what it was trained on, or other data than this package's.
    """
    if not HydraConfig.initialized():
        return  # a further process, or a config made in Python: its data are chosen
    keys = [override.lstrip("+~").partition("=")[0] for override in HydraConfig.get().overrides.task]
    if "data" in keys:
        return
    trained_on, source = _find(ckpt, about)
    for key in (key for key in keys if key.startswith("data.")):
        _take_over(trained_on, key, OmegaConf.select(cfg, key))
    if "paths.data" in keys or not Path(trained_on["root"]).expanduser().exists():
        trained_on["root"] = cfg.paths.data
    with open_dict(cfg):
        cfg.data = trained_on
    written = Path(cfg.run_dir) / "config.yaml"
    if written.exists():
        write_text(written, OmegaConf.to_yaml(cfg, resolve=True), shared=True)
    name = trained_on["_target_"].rpartition(".")[2].removesuffix("DataModule")
    logger.info(
        "tested on the data of its training: %s in %s (%s). Choose others with data=NAME.",
        name,
        trained_on["root"],
        source,
    )


def run_folder(ckpt: str) -> Path:
    """The directory of the run that wrote a checkpoint; of an exported folder, itself."""
    path = local_path(ckpt).absolute()
    if path.is_dir() or (path.parent / "config.yaml").is_file():
        return path if path.is_dir() else path.parent
    return path.parent.parent


def _find(ckpt: str, about: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The data config of the training, and where it was found."""
    beside = run_folder(ckpt) / "config.yaml"
    config, source = about["data"].get("config"), "from the checkpoint"
    if config is None:
        config, source = read_config(beside).get("data"), f"from {beside}"
    if not isinstance(config, Mapping) or not {"_target_", "root"} <= config.keys():
        suggested = (
            "data=synthetic, drawn people like those of its training (data.spec.num_train_ids=12 data.spec.num_test_ids=12 "
            "for 576 pictures instead of 7,200)"
            if local_path(ckpt).parent == PACKAGED
            else "data=NAME, for example data=market1501"
        )
        raise ConfigError(
            f"{ckpt} does not say which data it was trained on, and there is no config.yaml of its run. "
            f"Say on which to test: {suggested}; for your own images data=folder paths.data=DIR."
        )
    tested = {key: value for key, value in config.items() if key != "sampler"}  # which a test does not draw by
    moved: dict[str, Any] = _checked(tested, ckpt)
    return moved, source


def _take_over(trained_on: dict[str, Any], key: str, value: object) -> None:
    """Set one value that the command line gives, where the training's data have it, or could have had it."""
    from aaformer_lit.data.datamodule import ReIDDataModule

    *inner, last = key.split(".")[1:]
    node: Any = trained_on
    for name in inner:
        node = node.get(name) if isinstance(node, Mapping) else None
    newer = not inner and last in inspect.signature(ReIDDataModule).parameters  # than the checkpoint
    if not isinstance(node, dict) or not (newer or last in node):
        raise ConfigError(
            f"{key} is no option of the data that the checkpoint was trained on ({trained_on['_target_']}). "
            "To test on others say data=NAME too."
        )
    node[last] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _checked(node: Any, ckpt: str) -> Any:
    """A copy with the names of today. Raises `ConfigError` for what is no data module of ours or a part of one."""
    from hydra.utils import get_object

    from aaformer_lit.data.datamodule import ReIDDataModule
    from aaformer_lit.data.synthetic.spec import SyntheticSpec
    from aaformer_lit.data.transforms import Transforms

    if isinstance(node, list):
        return [_checked(item, ckpt) for item in node]
    if not isinstance(node, Mapping):
        return node
    copied = {key: _checked(value, ckpt) for key, value in node.items()}
    if "_target_" in copied:
        pattern, replacement = _MOVED
        copied["_target_"] = target = pattern.sub(replacement, str(copied["_target_"]))
        try:
            found = get_object(target) if target.startswith("aaformer_lit.data.") else None
        except Exception:  # nothing of that name
            found = None
        if not (isinstance(found, type) and issubclass(found, ReIDDataModule | SyntheticSpec | Transforms)):
            raise ConfigError(
                f"{ckpt} was trained on data of {target!r}, which is no data module of aaformer_lit and is not built from a "
                "file. Choose the data with data=NAME."
            )
    return copied
