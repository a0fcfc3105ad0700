"""Who in a gallery looks like a query: `python -m aaformer_lit.search gallery=gallery query=IMAGE_OR_FOLDER k=10`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from aaformer_lit.cli.console import console
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.lean_imports import networks_are_enough
from aaformer_lit.utils.sequences import listed
from aaformer_lit.utils.text import plural, significant, some

if TYPE_CHECKING:
    from aaformer_lit.metrics import Calibration

log = logging.getLogger(__name__)

FORMATS = ("png", "json", "html")


def search(cfg: DictConfig) -> dict[str, Any]:
    """Rank as configured; returns what it wrote to `ranking.json`."""
    from hydra.utils import instantiate

    from aaformer_lit.gallery import (
        Extractor,
        Gallery,
        check_same_model,
        find_calibration,
        find_crops,
        rank,
        reranked,
    )
    from aaformer_lit.gallery.decisions import HOW_TO
    from aaformer_lit.gallery.layout import ALL
    from aaformer_lit.gallery.region import parts_in_region, weighted
    from aaformer_lit.gallery.report import as_json, results_of
    from aaformer_lit.gallery.sources import Frames
    from aaformer_lit.utils.files import write_json, write_text
    from aaformer_lit.utils.sequences import spread

    formats = listed(cfg.formats)
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ConfigError(f"there is no formats={unknown[0]}. Use some of {', '.join(FORMATS)}.")
    if cfg.query is None and cfg.boxes is None:
        raise ConfigError("no query is given. Give query=IMAGE, query=FOLDER, or boxes=FILE.csv for whole frames.")
    if cfg.rerank and cfg.calibration is not None:
        raise ConfigError("thresholds are for plain distances, and rerank makes others of them. Leave one away.")
    queries = find_crops(cfg.query, cfg.boxes, cfg.data.pattern)
    gallery = Gallery.open(cfg.gallery, cfg.images)
    gallery.layout.members(cfg.tokens)
    if cfg.region is not None and (len(queries) != 1 or cfg.tokens != ALL):
        raise ConfigError(
            f"region= chooses the tokens for one query; there are {len(queries)} queries and tokens={cfg.tokens}. "
            "Give query=IMAGE, and leave tokens= out."
        )
    extractor = Extractor.for_gallery(
        gallery,
        cfg.ckpt,
        precision=cfg.precision,
        batch_size=cfg.data.eval_batch_size,
        num_workers=cfg.data.num_workers,
    )
    check_same_model(gallery, extractor)
    nobodies = [query.path.name for query in queries if not (query.pid and query.camid)]
    if cfg.like_evaluation and nobodies:
        log.warning(
            "of %s without pid or camid, like_evaluation=true leaves no images of the own camera out: %s. "
            "Give data.pattern, or boxes with both.",
            plural(len(nobodies), "query"),
            some(nobodies),
        )
    tokens, weights = cfg.tokens, None
    if cfg.region is not None:
        region = listed(cfg.region)
        tokens, weights = "parts", parts_in_region(extractor, Frames()(queries[0]), region)
        overlaps = [f"part_{part} {weight:.0%}" for part, weight in enumerate(weights.tolist(), start=1)]
        console.print(f"region: parts by their overlap with it: {', '.join(overlaps)}", highlight=False)
    calibration = None if cfg.rerank else find_calibration(cfg.calibration, gallery, extractor, tokens)
    descriptors = extractor.features(queries)
    features = gallery.layout.select(descriptors if weights is None else weighted(descriptors, weights), tokens)
    index = gallery.indexed(instantiate(cfg.index), tokens)
    camids = None if cfg.camids is None else listed(cfg.camids)
    wanted = max(cfg.k, cfg.candidates) if cfg.rerank else cfg.k
    found = rank(gallery, index, features, wanted, queries=queries, camids=camids, like_evaluation=cfg.like_evaluation)
    if cfg.rerank:
        found = reranked(found, features, gallery.rows(tokens), instantiate(cfg.rerank), cfg.k)
    answered = results_of(gallery, queries, found, calibration, cfg.same_cameras)
    content = as_json(gallery, answered, tokens)
    if calibration is not None:
        content["calibration"] = calibration.as_dict()
    if weights is not None:
        content["part_weights"] = weights.tolist()
    run_dir = Path(cfg.run_dir)
    if "json" in formats:
        write_json(run_dir / "ranking.json", content)
    if "png" in formats:
        from aaformer_lit.gallery.picture import as_picture
        from aaformer_lit.viz import save

        shown = spread(answered, cfg.count)
        save(as_picture(gallery, shown, found.rows.shape[1]), run_dir / "ranking.png")
    if "html" in formats:
        from aaformer_lit.gallery.pages import as_pages, page_name

        for number, page in enumerate(as_pages(gallery, answered, tokens, cfg.count), start=1):
            write_text(run_dir / page_name(number), page)
    _print(content)
    if cfg.k > len(gallery):
        console.print(f"The gallery has no more than {plural(len(gallery), 'image')}; k={cfg.k:,}.", highlight=False)
    if calibration is not None:
        console.print(_what_it_means(calibration.thresholds, len(gallery)), highlight=False)
    elif tokens == ALL and not cfg.rerank:
        console.print(HOW_TO.format(extractor.ckpt), highlight=False)
    for name in formats:
        console.print(str(run_dir / f"ranking.{name}"), highlight=False)
    return content


def _print(content: dict[str, Any], limit: int = 10) -> None:
    """All answers to one query, or the best answer to the first of several."""
    several = len(content["results"]) > 1
    for result in content["results"][:limit]:
        name, answers = Path(result["query"]["path"]).name, [_in_words(one) for one in result["answers"]]
        nobody = "nobody here; nearest: " if result.get("nobody") else ""
        best = f"{nobody}{answers[0]}" if answers else "nobody"
        console.print(f"{name}: {best}", highlight=False)
        for answer in answers[1:] if not several else ():
            console.print(f"{' ' * len(name)}  {answer}", highlight=False)


def _in_words(answer: dict[str, Any]) -> str:
    decision = f", {answer['decision']}" if "decision" in answer else ""
    return f"{answer['path']} ({answer['distance']:.3f}{decision})"


def _what_it_means(thresholds: Calibration, images: int) -> str:
    """What the threshold promises of this gallery."""
    wrong = significant(images * thresholds.accept.bound, 2)
    return (
        f"Accepted up to a distance of {thresholds.accept.distance:.3f}: for somebody who is in none of the {images:,} images, "
        f"at most {wrong} of them are accepted on average, if people here are like those of "
        "the calibration."
    )


def main() -> None:
    networks_are_enough()
    run(search, "search")


if __name__ == "__main__":
    main()
