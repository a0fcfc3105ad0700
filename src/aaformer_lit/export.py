"""A trained network for other programs: `python -m aaformer_lit.export ckpt=RUN/checkpoints/last.ckpt format=onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.table import Table

from aaformer_lit.cli.console import console
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError

if TYPE_CHECKING:
    from aaformer_lit.deploy import People
    from aaformer_lit.deploy.bounds import DType


def export(cfg: DictConfig) -> Path:
    """Write the file, compare it with the network, and keep it; returns its path."""
    from hydra.utils import instantiate

    from aaformer_lit.deploy import Bounds, export_network

    form = instantiate(cfg.format)
    check = cfg.check
    bounds = Bounds.of(
        form.dtype,
        tolerance=check.tolerance,
        max_flipped=check.max_flipped,
        min_top_k=check.min_top_k,
        max_mAP_change=check.max_mAP_change,
    )
    target = Path(cfg.output or Path(cfg.run_dir, form.file_name))
    network, about = _network(cfg)
    report = export_network(
        network,
        about,
        form,
        target,
        source=cfg.ckpt or cfg.init_from,
        images=check.images,
        people=_people(cfg, form.dtype, about),
        bounds=bounds,
        seed=cfg.seed,
    )
    console.print(_table(report))
    speed = report["images_per_second"]
    console.print(
        f"{report['megabytes']} MB, {speed['file']:,} images/s on this CPU ({speed['file'] / speed['network']:.2f} x torch)",
        highlight=False,
    )
    for path in (target, target.with_name(f"{target.name}.report.json")):
        console.print(str(path), highlight=False)
    return target


def _network(cfg: DictConfig) -> tuple[Any, dict[str, Any]]:
    """The network of `ckpt`, or the one that `model` names with the weights of another project's file."""
    from aaformer_lit.checkpoints.init_from import whole_network
    from aaformer_lit.checkpoints.load import load

    if bool(cfg.ckpt) == bool(cfg.init_from):
        raise ConfigError(
            "say what to export: ckpt=RUN, FOLDER or hub id, or init_from=FILE of another project (docs/weights.md)."
        )
    model = cfg.get("model")
    if bool(cfg.init_from) != bool(model):
        raise ConfigError(
            "model= says which network a file of init_from is of, as in init_from=FILE model=transreid; a ckpt says it itself."
        )
    return load(cfg.ckpt) if cfg.ckpt else whole_network(model, cfg.init_from, cfg.data)


def _people(cfg: DictConfig, dtype: DType, about: dict[str, Any]) -> People:
    """Photos to judge the file on; fewer bits than 32 need some: those of the network's own test unless others are given."""
    from hydra.utils import instantiate

    from aaformer_lit.data.listing import find_images
    from aaformer_lit.deploy import choose_people
    from aaformer_lit.engine.training_data import use_training_data

    own, data = find_images(cfg.check.own_images), None
    if "_target_" not in cfg.data and dtype != "fp32" and not own:
        use_training_data(cfg, cfg.ckpt or cfg.init_from, about)
    if "_target_" in cfg.data:
        data = instantiate(cfg.data)
        data.prepare_data()
        data.setup("test")
    return choose_people(
        own,
        data,
        test_images=cfg.check.test_images,
        calibration_images=cfg.check.calibration_images if dtype == "int8" else 0,
        seed=cfg.seed,
    )


def _table(report: dict[str, Any]) -> Table:
    """The comparison: one row for all images, one per kind."""
    table = Table(title="largest deviation from torch, at equal assignments; and whom the file finds")
    for column in ("images", "how many", "flipped", "CLS", "parts", "same top 10", "mAP", "of the file"):
        table.add_column(column, justify="left" if column == "images" else "right")
    for kind, summary in {"all": report["all"], **report["kinds"]}.items():
        deviation, agreement = summary["deviation_at_equal_assignments"], report["agreement"].get(kind, {})
        values = (summary["flipped_assignments"], deviation["cls"], deviation["parts"])
        shares = (agreement.get(name) for name in ("top_k", "network_mAP", "file_mAP"))
        table.add_row(
            kind,
            str(summary["images"]),
            *("-" if v is None else f"{v:.1e}" if v else "0" for v in values),
            *("-" if share is None else f"{share:.1%}" for share in shares),
        )
    return table


def main() -> None:
    run(export, "export")


if __name__ == "__main__":
    main()
