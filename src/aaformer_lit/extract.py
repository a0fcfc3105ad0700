"""Put images into a gallery, or take some out: `python -m aaformer_lit.extract ckpt=... images=DIR out=gallery`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from aaformer_lit.cli.console import console, progress_bar
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError, check_choice
from aaformer_lit.utils.lean_imports import networks_are_enough
from aaformer_lit.utils.sequences import listed
from aaformer_lit.utils.text import plural

if TYPE_CHECKING:
    from aaformer_lit.gallery import Gallery


def extract(cfg: DictConfig) -> Gallery:
    """Extract or remove as configured; returns the gallery as it is now."""
    from aaformer_lit.data.images import may_be_skipped
    from aaformer_lit.gallery import Extractor, Gallery, create_for, find_crops, update
    from aaformer_lit.gallery.extractor import AUTOCAST
    from aaformer_lit.gallery.store import DTYPES

    if cfg.remove is not None or cfg.remove_pid is not None:
        return _remove(cfg)
    if cfg.ckpt is None:
        raise ConfigError("extracting needs a model. Give ckpt=RUN/checkpoints/last.ckpt or an exported folder.")
    check_choice("precision", cfg.precision, AUTOCAST)
    check_choice("dtype", cfg.dtype, DTYPES)
    check_choice("data.on_bad_image", cfg.data.on_bad_image, ("error", "skip"))
    crops = find_crops(cfg.images, cfg.boxes, cfg.data.pattern)  # mistakes here are told before the network is loaded
    extractor = Extractor.from_checkpoint(
        cfg.ckpt,
        flip_test=cfg.flip_test,
        precision=cfg.precision,
        batch_size=cfg.data.eval_batch_size,
        num_workers=cfg.data.num_workers,
    )
    root = _root(cfg)
    gallery = Gallery.open(cfg.out) if Gallery.exists(cfg.out) else create_for(extractor, cfg.out, root, cfg.dtype)
    if not gallery.root.is_dir():  # the images have moved
        gallery = Gallery.open(cfg.out, root)
    with may_be_skipped(), progress_bar("extracting") as progress:
        gallery, changes = update(
            gallery,
            extractor,
            crops,
            skip_bad_images=cfg.data.on_bad_image == "skip",
            progress=progress,
        )
    told = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in asdict(changes).items() if number)
    console.print(f"{cfg.out}: {plural(len(gallery), 'image')} ({told})", highlight=False)
    return gallery


def _remove(cfg: DictConfig) -> Gallery:
    from aaformer_lit.gallery import Gallery

    gallery = Gallery.open(cfg.out)
    before = len(gallery)
    paths = [str(path) for path in listed(cfg.remove)]  # 123 is a number to Hydra
    gallery = gallery.remove(paths=paths, pid=cfg.remove_pid)
    console.print(f"{cfg.out}: {before - len(gallery):,} removed, {len(gallery):,} left", highlight=False)
    return gallery


def _root(cfg: DictConfig) -> Path:
    """The folder that paths in the table start from."""
    if cfg.images is None:
        return Path(cfg.boxes).parent
    first = Path(cfg.images if isinstance(cfg.images, str) else cfg.images[0])
    return first if first.is_dir() else first.parent


def main() -> None:
    networks_are_enough()
    run(extract, "extract")


if __name__ == "__main__":
    main()
