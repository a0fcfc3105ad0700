"""Speed as a ratio to a baseline in the same run: `python -m aaformer_lit.benchmark suite=data`; `--help` lists the suites."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.table import Table

from aaformer_lit.cli.console import console
from aaformer_lit.cli.run import run
from aaformer_lit.errors import check_choice
from aaformer_lit.utils.sequences import listed

if TYPE_CHECKING:
    from aaformer_lit.benchmarks import Measurement


def benchmark(cfg: DictConfig) -> list[Measurement]:
    """Run the suites, print their table and write `benchmark.json`, again after each row: one that is interrupted, or a
    suite that fails, leaves the rows before it.
    """
    import torch

    from aaformer_lit.benchmarks import SUITES
    from aaformer_lit.utils.environment import machine
    from aaformer_lit.utils.files import write_json

    names = listed(cfg.suite)
    for name in names:
        check_choice("suite", name, SUITES)
    check_choice("size", cfg.size, ("small", "full"))
    torch.manual_seed(cfg.seed)
    path = Path(cfg.run_dir, "benchmark.json")
    about = {"size": cfg.size, **machine(), "threads": torch.get_num_threads()}
    rows: list[Measurement] = []
    try:
        with console.status("") as status:
            for name in names:
                status.update(f"{name} ...")
                for row in SUITES[name](full=cfg.size == "full", repeats=cfg.repeats):
                    rows.append(row)
                    status.update(f"{name} ... ({row.what}: {row.ratio:.2f}x)")
                    write_json(path, {**about, "rows": [row.as_dict() for row in rows]})
    finally:
        if rows:
            console.print(_table(rows))
            console.print(str(path), highlight=False)
    return rows


def _table(rows: list[Measurement]) -> Table:
    """Minimum (median) of each; what it was compared with stands below, in the order of the rows."""
    compared = dict.fromkeys(f"{row.suite}: baseline is {row.against}; floor is {row.floor_is}" for row in rows)
    table = Table(caption="\n".join(compared), caption_justify="left")
    for column in ("suite", "what", "ours, ms", "baseline, ms", "ours / baseline", "ours / floor", "MB above"):
        table.add_column(column, justify="left" if column in ("suite", "what") else "right")
    for row in rows:
        ours, baseline = (f"{_ms(min(times))} ({_ms(median(times))})" for times in (row.ours, row.baseline))
        memory = "" if row.memory is None else f"{row.memory / 2**20:.0f}"
        table.add_row(row.suite, row.what, ours, baseline, f"{row.ratio:.2f}x", f"{row.floor_ratio:.2f}x", memory)
    return table


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.{0 if seconds > 0.1 else 1}f}"


def main() -> None:
    run(benchmark, "benchmark")


if __name__ == "__main__":
    main()
