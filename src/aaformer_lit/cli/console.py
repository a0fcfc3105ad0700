"""What a command says: its console, the options it was composed of, and its table of results."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from rich.console import Console
from rich.table import Table

from aaformer_lit.cli.options import groups_of

# a file has no width: tables there are as wide as they need
console = Console(soft_wrap=True, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)


def choices() -> dict[str, Any]:
    """The option chosen in each config group of this job; empty where the config was not composed by Hydra."""
    if not HydraConfig.initialized():
        return {}
    config = HydraConfig.get()
    ours = groups_of(str(config.job.config_name), config.runtime.choices)
    return {group: option for group, option in config.runtime.choices.items() if group in ours}


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], object]]:
    """A bar that goes when it is full; gives the function that tells it how many are done, of how many."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_results(metrics: Mapping[str, float], run_dir: Path) -> None:
    """A small table of the test metrics, alignment and stability where they were measured, and where all was written."""
    table = Table(title=None)
    for column in ("tokens", "mAP", "Rank-1", "Rank-5", "Rank-10", "mINP"):
        table.add_column(column, justify="left" if column == "tokens" else "right")
    for key in metrics:
        subset = re.fullmatch(r"(test/(?:.+/)?)mAP(_(?!trapezoid).+)?", key)
        if subset:
            prefix, suffix = subset.group(1), subset.group(2) or ""
            names = ("mAP", "rank1", "rank5", "rank10", "mINP")
            values = [metrics.get(f"{prefix}{name}{suffix}") for name in names]
            label = f"{prefix.removeprefix('test/')}{suffix.removeprefix('_') or 'all'}"
            table.add_row(label, *("-" if v is None else f"{100 * v:.1f}" for v in values))
    console.print(table)
    for line in (_alignment(metrics), _stability(metrics)):
        if line:
            console.print(line, highlight=False)
    console.print(f"written to {run_dir}:", markup=False, emoji=False)
    for path in sorted(p for p in run_dir.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if ".hydra" not in path.parts:
            console.print(f"  {path.relative_to(run_dir)}", highlight=False, markup=False, emoji=False)


def _alignment(metrics: Mapping[str, float]) -> str:
    """Of the last layer, mean over granularities and heads."""
    names = {
        "nmi": "NMI",
        "purity": "purity",
        "background_share": "attention on background",
        "background_patches": "patches on background",
    }
    known = {label: metrics.get(f"test/alignment/{name}") for name, label in names.items()}
    values = [f"{label} {100 * value:.1f}" for label, value in known.items() if value is not None]
    return f"parts and body parts (%): {', '.join(values)}" if values else ""


def _stability(metrics: Mapping[str, float]) -> str:
    """How far the descriptor moves, and what that is of the distance between people."""
    names = {"jpeg95": "JPEG 95", "grey1": "one gray level", "shift1": "one pixel"}
    moves = {label: metrics.get(f"test/stability/{name}") for name, label in names.items()}
    values = [f"{label} {value:.3f}" for label, value in moves.items() if value is not None]
    people = metrics.get("test/stability/people")
    if values and people is not None:
        values.append(f"between people {people:.3f}")
    return f"the descriptor moves by: {', '.join(values)}" if values else ""
