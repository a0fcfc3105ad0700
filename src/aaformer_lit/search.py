"""Who in a gallery looks like a query: `python -m aaformer_lit.search gallery=gallery query=IMAGE_OR_FOLDER k=10`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from aaformer_lit.cli.console import console
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.lean_imports import networks_are_enough

FORMATS = ("png", "json", "html")


def search(cfg: DictConfig) -> dict[str, Any]:
    """Rank as configured; returns what it wrote to `ranking.json`."""
    from hydra.utils import instantiate

    from aaformer_lit.gallery import Extractor, Gallery, check_same_model, find_crops, rank
    from aaformer_lit.gallery.extractor import checkpoint_of
    from aaformer_lit.gallery.report import PAGES, as_json, as_page, as_picture, page_name
    from aaformer_lit.utils.files import write_json, write_text
    from aaformer_lit.utils.sequences import spread, tiles

    formats = [cfg.formats] if isinstance(cfg.formats, str) else list(cfg.formats)
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ConfigError(f"there is no formats={unknown[0]}. Use some of {', '.join(FORMATS)}.")
    if cfg.query is None and cfg.boxes is None:
        raise ConfigError("no query is given. Give query=IMAGE, query=FOLDER, or boxes=FILE.csv for whole frames.")
    queries = find_crops(cfg.query, cfg.boxes, cfg.data.pattern)
    gallery = Gallery.open(cfg.gallery, cfg.images)
    gallery.layout.members(cfg.tokens)
    extractor = Extractor.from_checkpoint(
        checkpoint_of(cfg.ckpt, gallery),
        flip_test=gallery.about["flip_test"],
        precision=cfg.precision,
        batch_size=cfg.data.eval_batch_size,
        num_workers=cfg.data.num_workers,
    )
    check_same_model(gallery, extractor)
    features = gallery.layout.select(extractor.features(queries), cfg.tokens)
    index = gallery.indexed(instantiate(cfg.index), cfg.tokens)
    camids = None if cfg.camids is None else [cfg.camids] if isinstance(cfg.camids, str | int) else list(cfg.camids)
    found = rank(gallery, index, features, cfg.k, queries=queries, camids=camids, like_evaluation=cfg.like_evaluation)
    content = as_json(gallery, queries, found, cfg.tokens)
    run_dir = Path(cfg.run_dir)
    shown = spread(list(range(len(queries))), cfg.count)
    some = [queries[row] for row in shown], type(found)(found.distances[shown], found.rows[shown])
    if "json" in formats:
        write_json(run_dir / "ranking.json", content)
    if "png" in formats:
        from aaformer_lit.viz import save

        save(as_picture(gallery, *some), run_dir / "ranking.png")
    if "html" in formats:
        pages = list(tiles(len(queries), max(1, cfg.count)))[:PAGES]
        for number, rows in enumerate(pages, start=1):
            answers = type(found)(found.distances[rows], found.rows[rows])
            page = as_page(gallery, queries[rows], answers, cfg.tokens, len(queries), number, len(pages))
            write_text(run_dir / page_name(number), page)
    _print(content)
    for name in formats:
        console.print(str(run_dir / f"ranking.{name}"), highlight=False)
    return content


def _print(content: dict[str, Any], limit: int = 10) -> None:
    """The best answer to the first queries."""
    for result in content["results"][:limit]:
        best = result["answers"][0] if result["answers"] else None
        answer = "nobody" if best is None else f"{best['path']} ({best['distance']:.3f})"
        console.print(f"{Path(result['query']['path']).name}: {answer}", highlight=False)


def main() -> None:
    networks_are_enough()
    run(search, "search")


if __name__ == "__main__":
    main()
