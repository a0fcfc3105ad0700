"""Pictures of what a checkpoint sees: `python -m aaformer_lit.visualize ckpt=... kind=[assignment,attention] images=DIR`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from aaformer_lit.cli.console import console
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.lean_imports import networks_are_enough
from aaformer_lit.utils.sequences import listed, spread


def visualize(cfg: DictConfig) -> list[Path]:
    """Draw the configured kinds; returns the files."""
    from aaformer_lit.checkpoints.load import load
    from aaformer_lit.data.listing import find_images
    from aaformer_lit.engine.training_data import run_folder, use_training_data
    from aaformer_lit.pictures.kinds import FROM_A_TEST, KINDS, check_drawable, check_place, draw
    from aaformer_lit.pictures.scene import Scene, model_names, prepared_data, scene_of_test, tested
    from aaformer_lit.structures import Record

    kinds = listed(cfg.kind)
    if not kinds:
        raise ConfigError(f"kind=[] draws nothing. Kinds: {', '.join(KINDS)}.")
    if cfg.other and "rankings" not in kinds:
        raise ConfigError(f"other={cfg.other} is a second model for ranking lists; ask for kind=rankings.")
    own = [Record(path, -1, -1) for path in find_images(cfg.images)]
    network, about = load(cfg.ckpt)
    training, needs_none = run_folder(cfg.ckpt), set(kinds) <= {"curves"}
    check_drawable(kinds, network, training)  # before a test is run for the others
    check_place(network, cfg.layer, cfg.head)
    options = {"layer": cfg.layer, "head": cfg.head, "answers": cfg.answers, "queries": cfg.count}
    if FROM_A_TEST & set(kinds) or not (own or needs_none):
        use_training_data(cfg, cfg.ckpt, about)
    about = about["data"]
    if FROM_A_TEST & set(kinds):
        module, data = tested(cfg, network, about)
        scene = replace(scene_of_test(module, data, about, training, cfg.count), **options)
        if cfg.other:
            other, its = load(cfg.other)
            first, second = model_names((network, other), (cfg.ckpt, cfg.other))
            rival, _ = tested(cfg, other, its["data"])
            scene = replace(scene, name=first, rivals={second: next(iter(rival.feature_metrics.values()))})
        scene = replace(scene, records=spread(own, cfg.count)) if own else scene
    else:
        scene = Scene(network, about["mean"], about["std"], spread(own, cfg.count), run_dir=training, **options)
        if not (own or needs_none):
            data = prepared_data(cfg, about)
            query = data.query_records
            scene = replace(scene, records=spread(query, cfg.count), query=query, part_table=data.part_table)
    files = draw(kinds, scene, Path(cfg.run_dir))
    for file in files:
        console.print(str(file), highlight=False)
    return files


def main() -> None:
    networks_are_enough()
    run(visualize, "visualize")


if __name__ == "__main__":
    main()
