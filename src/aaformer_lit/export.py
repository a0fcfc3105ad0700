"""A trained network for other programs: `python -m aaformer_lit.export ckpt=RUN/checkpoints/last.ckpt format=onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.table import Table

from aaformer_lit.cli.console import console
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError


def export(cfg: DictConfig) -> Path:
    """Write the file, compare it with the network, and keep it; returns its path."""
    from hydra.utils import instantiate

    from aaformer_lit.data.listing import find_images
    from aaformer_lit.deploy import export_network

    form = instantiate(cfg.format)
    target = Path(cfg.output or Path(cfg.run_dir, form.file_name))
    network, about = _network(cfg)
    report = export_network(
        network,
        about,
        form,
        target,
        source=cfg.ckpt or cfg.init_from,
        images=cfg.check.images,
        paths=find_images(cfg.check.own_images),
        tolerance=cfg.check.tolerance,
        max_flipped=cfg.check.max_flipped,
        seed=cfg.seed,
    )
    console.print(_table(report))
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


def _table(report: dict[str, Any]) -> Table:
    """The comparison: one row for all images, one per kind."""
    table = Table(title="largest deviation from torch, at equal assignments")
    for column in ("images", "how many", "flipped", "CLS", "parts"):
        table.add_column(column, justify="left" if column == "images" else "right")
    for kind, summary in {"all": report["all"], **report["kinds"]}.items():
        deviation = summary["deviation_at_equal_assignments"]
        values = (summary["flipped_assignments"], deviation["cls"], deviation["parts"])
        table.add_row(kind, str(summary["images"]), *("-" if v is None else f"{v:.1e}" if v else "0" for v in values))
    return table


def main() -> None:
    run(export, "export")


if __name__ == "__main__":
    main()
