"""Runs side by side with the paper: `python -m aaformer_lit.report table=table5 runs=DIR`; `--help` says more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from aaformer_lit.cli.console import console
from aaformer_lit.cli.options import ablation_pins
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError, check_choice
from aaformer_lit.utils.sequences import listed

if TYPE_CHECKING:
    from aaformer_lit.tables.join import Column
    from aaformer_lit.tables.paper import PaperTable
    from aaformer_lit.tables.render import Report


def report(cfg: DictConfig) -> Report:
    """Collect, join, compare, write; returns what it printed."""
    from aaformer_lit.tables.collect import collect
    from aaformer_lit.tables.compare import compare_rows
    from aaformer_lit.tables.join import join
    from aaformer_lit.tables.paper import PaperTable
    from aaformer_lit.tables.publish import publish_runs
    from aaformer_lit.tables.render import FORMATS, Report
    from aaformer_lit.utils.files import write_text

    formats = listed(cfg.formats)
    for form in formats:
        check_choice("formats", form, (*FORMATS, "png"))
    table = PaperTable.from_config(OmegaConf.to_container(cfg.table, resolve=True), ablation_pins)  # type: ignore[arg-type]
    folders = listed(cfg.runs)
    runs = collect(folders)
    if not runs:
        raise ConfigError(
            f"there is no training in {', '.join(folders)}. Give the folder of your runs, runs=DIR, or train first."
        )
    columns, remarks = join(table, runs)
    comparisons = [
        compare_rows(column, cfg.reference, table.metrics, cfg.bootstrap.samples, cfg.bootstrap.seed)
        for column in columns
        if cfg.reference
    ]
    result = Report(table, columns, comparisons, remarks)
    console.print(FORMATS["txt"](result), markup=False, highlight=False)
    run_dir = Path(cfg.run_dir)
    for form in formats:
        if form != "png":
            write_text(run_dir / f"{table.name}.{form}", FORMATS[form](result))
    if "png" in formats:
        _plot(table, columns, run_dir)
    console.print(f"written to {run_dir}", highlight=False)
    if cfg.keep:
        kept = publish_runs(columns, Path(cfg.keep))
        console.print(f"{len(kept)} runs kept in {cfg.keep}", highlight=False)
    return result


def _plot(table: PaperTable, columns: list[Column], run_dir: Path) -> None:
    """One picture per column."""
    from aaformer_lit import viz
    from aaformer_lit.tables.paper import METRICS
    from aaformer_lit.tables.render import ours

    for number, column in enumerate(columns):
        panels = {
            METRICS[metric]: [
                viz.Dot(cell.mean(metric), cell.std(metric), column.printed(cell, metric), ours(cell, metric))
                for cell in column.shown
            ]
            for metric in table.metrics
        }
        figure = viz.table_plot([cell.row.label for cell in column.shown], panels, title=column.title)
        name = re.sub(r"\W+", "-", column.paper or str(column.setting.get("fingerprint.name")))
        viz.save(figure, run_dir / f"{table.name}-{name}{f'-{number + 1}' if len(columns) > 1 else ''}.png")


def main() -> None:
    run(report, "report")


if __name__ == "__main__":
    main()
