"""Pictures of what a checkpoint sees: `python -m aaformer_lit.visualize ckpt=... kind=[assignment,attention] images=DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from aaformer_lit import cli
from aaformer_lit.errors import ConfigError

if TYPE_CHECKING:
    from aaformer_lit.structures import Record

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def visualize(cfg: DictConfig) -> list[Path]:
    """Draw the configured kinds; returns the files."""
    from aaformer_lit.checkpoint import description, load_model
    from aaformer_lit.pictures import FROM_A_TEST, Scene, draw

    kinds = [cfg.kind] if isinstance(cfg.kind, str) else list(cfg.kind)
    if cfg.other and "rankings" not in kinds:
        raise ConfigError(f"other={cfg.other} is a second model for ranking lists; ask for kind=rankings.")
    about = description(cfg.ckpt)["data"]
    paths = image_files(cfg.images)
    how = {"layer": cfg.layer, "head": cfg.head, "answers": cfg.answers}
    if FROM_A_TEST & set(kinds):
        module, data = tested(cfg, cfg.ckpt)
        scene = scene_of_test(module, data, about, Path(cfg.ckpt).parent.parent, cfg.count, **how)
        if cfg.other:
            first, second = model_names(cfg.ckpt, cfg.other)
            rival, _ = tested(cfg, cfg.other)
            scene = replace(scene, name=first, rivals={second: next(iter(rival.feature_metrics.values()))})
        scene = replace(scene, paths=spread(paths, cfg.count)) if paths else scene
    else:
        network: Any = load_model(cfg.ckpt)
        paths = paths or [record.path for record in prepared_data(cfg, cfg.ckpt).query_records]
        training = Path(cfg.ckpt).parent.parent
        scene = Scene(network.eval(), about["mean"], about["std"], spread(paths, cfg.count), run_dir=training, **how)
    files = draw(kinds, scene, Path(cfg.run_dir))
    for file in files:
        cli.console.print(str(file), highlight=False)
    return files


def prepared_data(cfg: DictConfig, ckpt: str) -> Any:
    """The data module, with images as this checkpoint's network takes them."""
    from hydra.utils import instantiate

    from aaformer_lit.checkpoint import description
    from aaformer_lit.evaluate import prepare_like_training

    prepare_like_training(cfg, description(ckpt)["data"])
    data = instantiate(cfg.data)
    data.prepare_data()
    data.setup("test")
    return data


def tested(cfg: DictConfig, ckpt: str) -> tuple[Any, Any]:
    """The module of a checkpoint after its test, and the data it was tested on."""
    from hydra.utils import instantiate

    from aaformer_lit.alignment import AlignmentTest
    from aaformer_lit.checkpoint import load_model
    from aaformer_lit.module import ReIDModule

    network: Any = load_model(ckpt)
    data = prepared_data(cfg, ckpt)
    module = ReIDModule(network)
    quiet = {"logger": False, "enable_checkpointing": False, "default_root_dir": cfg.run_dir}
    trainer = instantiate(cfg.trainer, callbacks=[AlignmentTest()] if "alignment" in cfg.kind else [], **quiet)
    trainer.test(module, datamodule=data, verbose=False)
    return module, data


def model_names(*checkpoints: str) -> list[str]:
    """What to call models that are compared: the network's class and parts, and where they are equal the checkpoint's run."""
    from aaformer_lit.checkpoint import description

    models = [description(checkpoint)["model"] for checkpoint in checkpoints]
    names = [model["_target_"].rpartition(".")[2] + f" {list(model.get('parts', ())) or ''}" for model in models]
    if len(set(names)) < len(names):
        folders = [Path(checkpoint).resolve().parts for checkpoint in checkpoints]
        # the first place where the paths differ: run, time of the run, or file
        place = next((i for i, several in enumerate(zip(*folders, strict=False)) if len(set(several)) > 1), None)
        if place is None:
            raise ConfigError(f"ckpt and other are the same file, {checkpoints[0]}; give two models to compare.")
        names = [f"{name.strip()} ({folder[place]})" for name, folder in zip(names, folders, strict=True)]
    return [name.strip() for name in names]


def scene_of_test(
    module: Any, data: Any, preprocessing: dict[str, Any], run_dir: Path, count: int = 6, **how: Any
) -> Any:
    """The scene of a run that has just been tested: its first test set, and queries spread over it."""
    from aaformer_lit.alignment import AlignmentTest
    from aaformer_lit.pictures import Scene

    name = next(iter(module.results))
    query: Sequence[Record] = data.query_records
    alignment = AlignmentTest.of(module.trainer)
    return Scene(
        module.network.eval(),
        preprocessing["mean"],
        preprocessing["std"],
        spread([record.path for record in query], count),
        run_dir=run_dir,
        query=query,
        gallery=data.gallery_records,
        metric=module.feature_metrics[name],
        metrics=module.results[name],
        alignments=() if alignment is None else alignment.results.get(name, ()),
        **how,
    )


def image_files(images: str | Sequence[str] | None) -> list[Path]:
    """The image files that are meant: a file, several, or all in a folder; none for None."""
    if images is None:
        return []
    files: list[Path] = []
    for path in map(Path, [images] if isinstance(images, str) else images):
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not path.exists() or not found:
            raise ConfigError(f"no image at {path}. Give an image file, or a folder with {', '.join(SUFFIXES)} files.")
        files += found
    return files


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` items, evenly spread."""
    step = max(len(items) / max(count, 1), 1)
    return [items[int(i * step)] for i in range(min(count, len(items)))]


def main() -> None:
    cli.run(visualize, "visualize")


if __name__ == "__main__":
    main()
