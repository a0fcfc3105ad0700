"""A trained network for other programs: `python -m aaformer_lit.export ckpt=RUN/checkpoints/last.ckpt format=onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.table import Table

from aaformer_lit.cli.console import console
from aaformer_lit.cli.run import run


def export(cfg: DictConfig) -> Path:
    """Write the file, compare it with the network, and keep it; returns its path."""
    from hydra.utils import instantiate

    from aaformer_lit.data.listing import find_images
    from aaformer_lit.deploy import export_checked

    form = instantiate(cfg.format)
    target = Path(cfg.output or Path(cfg.run_dir, form.file_name))
    report = export_checked(
        cfg.ckpt,
        form,
        target,
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
