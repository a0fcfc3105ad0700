"""Models side by side on several data sets: `python -m aaformer_lit.compare ckpt=[A,B] data=[market1501,synthetic]`.

With `data.cut=[0,0.2,0.4]` also on crops that are cut off, with a curve of what each model loses.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from aaformer_lit.cli.check import check_config
from aaformer_lit.cli.console import console
from aaformer_lit.cli.data_sets import data_configs, several_data
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError, check_choice
from aaformer_lit.utils.files import write_json, write_text
from aaformer_lit.utils.lean_imports import networks_are_enough
from aaformer_lit.utils.sequences import listed

if TYPE_CHECKING:
    from aaformer_lit.data.datamodule import ReIDDataModule
    from aaformer_lit.engine.comparison import Contestant
    from aaformer_lit.tables.models import ModelComparison, ModelFacts, ModelTest


def compare(cfg: DictConfig) -> ModelComparison:
    """Test all models on all data as configured; returns what it wrote to `comparison.json`."""
    from aaformer_lit.engine.comparison import load_contestants, open_data
    from aaformer_lit.tables.document import FORMATS, text
    from aaformer_lit.tables.models import ModelComparison, short_names
    from aaformer_lit.utils.environment import machine

    run_dir = Path(cfg.run_dir)
    formats = listed(cfg.formats)
    for form in formats:
        check_choice("formats", form, FORMATS)
    if cfg.trainer.devices != 1:
        raise ConfigError(f"trainer.devices={cfg.trainer.devices}: models are compared on one device. Leave it out.")
    cuts = _cuts(cfg)
    configs = _data_configs(cfg)
    models = load_contestants(listed(cfg.ckpt))
    names = short_names([model.ckpt for model in models])
    opened = {name: [open_data(config, model) for model in models] for name, config in configs.items()}
    facts, device = _facts(cfg, models, names), machine()["device"]
    tests = [
        test
        for name, modules in opened.items()
        for cut in cuts
        for test in _tests(cfg, name, cut, dict(zip(names, zip(models, modules, strict=True), strict=True)))
    ]
    comparison = ModelComparison(facts, tests, f"{cfg.speed.batch} at once, float32, {device}")
    about = {"data": {name: modules[0].fingerprint for name, modules in opened.items()}, "flip_test": cfg.flip_test}
    write_json(run_dir / "comparison.json", comparison.as_dict() | about | machine())
    document = comparison.document()
    for form in formats:
        write_text(run_dir / f"comparison.{form}", FORMATS[form](document))
    console.print(text(document), markup=False, highlight=False)
    for form in ("json", *formats):
        console.print(str(run_dir / f"comparison.{form}"), highlight=False)
    if len(cuts) > 1:
        _draw(comparison, run_dir)
    return comparison


def _tests(
    cfg: DictConfig, name: str, cut: float, models: Mapping[str, tuple[Contestant, ReIDDataModule]]
) -> list[ModelTest]:
    """Every model on one of the data, which may be several test sets, whose images lose the share `cut` of their height."""
    from hydra.utils import instantiate

    from aaformer_lit.engine.callbacks.alignment import AlignmentTest
    from aaformer_lit.engine.comparison import tested
    from aaformer_lit.tables.models import ModelTest, differences

    tests: dict[str, list[ModelTest]] = {}
    for number, (model, (contestant, data)) in enumerate(models.items(), start=1):
        console.print(f"{model} on {name}{f', {100 * cut:g}% cut off' if cut else ''}", highlight=False, markup=False)
        quiet = {"logger": False, "enable_checkpointing": False, "default_root_dir": cfg.run_dir}
        trainer = instantiate(cfg.trainer, callbacks=[AlignmentTest(cfg.alignment_images)], **quiet)
        data.cut = cut
        folder = Path(cfg.run_dir, f"{name}-{number}{f'-cut-{cut:g}' if cut else ''}")
        for test_set, (result, nmi) in tested(contestant, data, trainer, folder, cfg.flip_test).items():
            where = name if len(data.test_sets) == 1 else f"{name}/{test_set}"
            before = tests.setdefault(where, [])
            ahead = differences(result, before[0].result, cfg.bootstrap.samples, cfg.bootstrap.seed) if before else {}
            before.append(ModelTest(model, where, cut, result, nmi, ahead))
    return [test for each in tests.values() for test in each]


def _draw(comparison: ModelComparison, run_dir: Path) -> None:
    """The curve over the cuts, a picture per test set."""
    from aaformer_lit import viz

    for data in comparison.data:
        name = f"misalignment-{data.replace('/', '-')}.png" if len(comparison.data) > 1 else "misalignment.png"
        figure = viz.misalignment_curves(comparison.cuts, comparison.over_cuts(data))
        console.print(str(viz.save(figure, run_dir / name)), highlight=False)


def _cuts(cfg: DictConfig) -> list[float]:
    cuts = listed(cfg.cuts)
    shares = [cut for cut in cuts if isinstance(cut, int | float) and not isinstance(cut, bool) and 0 <= cut < 1]
    if not cuts or len(set(shares)) < len(cuts):
        raise ConfigError(
            f"data.cut={cfg.cuts} must be shares of the height, from 0 to below 1, each once. For example data.cut=[0,0.2]."
        )
    return sorted(float(cut) for cut in shares)


def _data_configs(cfg: DictConfig) -> dict[str, DictConfig]:
    """The config of each data set by its name; they also become the `data` of the config that is written."""
    from aaformer_lit.data.datasets.folder import TABLE_SUFFIXES

    names = [str(name) for name in listed(cfg.data_sets)]
    if not names:
        raise ConfigError("no data are given. Give one or more data sets: data=[market1501,synthetic].")
    configs = data_configs(names, list(HydraConfig.get().overrides.task), TABLE_SUFFIXES)
    for config in configs.values():
        check_config({"data": OmegaConf.to_container(config)}, {})
    with open_dict(cfg):
        cfg.data = configs
    write_text(Path(cfg.run_dir, "config.yaml"), OmegaConf.to_yaml(cfg, resolve=True))
    return configs


def _facts(cfg: DictConfig, models: Sequence[Contestant], names: Sequence[str]) -> list[ModelFacts]:
    """What each model costs; its speed is measured here."""
    from aaformer_lit.benchmarks.speed import images_per_second
    from aaformer_lit.tables.models import ModelFacts

    with console.status("measuring speed ..."):
        speeds = images_per_second([model.network for model in models], cfg.speed.batch, cfg.speed.repeats)
    return [
        ModelFacts(
            name=name,
            ckpt=model.ckpt,
            network=type(model.network).__name__,
            trained_on=model.trained_on,
            parameters=model.parameters,
            weight_bytes=model.weight_bytes,
            descriptor=model.descriptor,
            images_per_second=speed,
            speed=speed / speeds[0],
        )
        for name, model, speed in zip(names, models, speeds, strict=True)
    ]


def main() -> None:
    networks_are_enough()
    sys.argv[1:] = map(several_data, sys.argv[1:])
    run(compare, "compare")


if __name__ == "__main__":
    main()
