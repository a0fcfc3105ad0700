"""Pictures of what a checkpoint sees: `python -m aaformer_lit.visualize ckpt=... kind=[assignment,attention] images=DIR`."""

from __future__ import annotations

from collections.abc import Sequence
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
    from hydra.utils import instantiate

    from aaformer_lit.checkpoint import description, load_model
    from aaformer_lit.evaluate import prepare_like_training
    from aaformer_lit.module import ReIDModule
    from aaformer_lit.pictures import FROM_A_TEST, Scene, draw

    kinds = [cfg.kind] if isinstance(cfg.kind, str) else list(cfg.kind)
    network: Any = load_model(cfg.ckpt)
    about = description(cfg.ckpt)["data"]
    tested: dict[str, Any] = {}
    paths = image_files(cfg.images)
    if FROM_A_TEST & set(kinds) or not paths:
        prepare_like_training(cfg, about)
        data = instantiate(cfg.data)
        data.prepare_data()
        data.setup("test")
        paths = paths or spread([record.path for record in data.query_records], cfg.count)
        tested = {"query": data.query_records, "gallery": data.gallery_records}
    if FROM_A_TEST & set(kinds):
        module = ReIDModule(network)
        trainer = instantiate(cfg.trainer, logger=False, enable_checkpointing=False, default_root_dir=cfg.run_dir)
        trainer.test(module, datamodule=data, verbose=False)
        name = next(iter(module.results))
        tested |= {"metric": module.feature_metrics[name], "metrics": module.results[name]}
    training = Path(cfg.ckpt).parent.parent
    scene = Scene(
        network.eval(),
        about["mean"],
        about["std"],
        spread(paths, cfg.count),
        cfg.layer,
        cfg.head,
        cfg.answers,
        training,
        **tested,
    )
    files = draw(kinds, scene, Path(cfg.run_dir))
    for file in files:
        cli.console.print(str(file), highlight=False)
    return files


def scene_of_test(module: Any, data: Any, preprocessing: dict[str, Any], run_dir: Path, count: int = 6) -> Any:
    """The scene of a run that has just been tested: its first test set, and queries spread over it."""
    from aaformer_lit.pictures import Scene

    name = next(iter(module.results))
    query: Sequence[Record] = data.query_records
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
