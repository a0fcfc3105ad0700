"""A joined table as text, Markdown, LaTeX, HTML or CSV: ours as mean +- std (n), the paper's, the difference.

Where a column's data is not in the paper, the paper's numbers are not beside it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aaformer_lit.tables.compare import Comparison
from aaformer_lit.tables.document import FORMATS as document_formats
from aaformer_lit.tables.document import Document, Grid, Section
from aaformer_lit.tables.join import Cell, Column
from aaformer_lit.tables.paper import METRICS, PaperTable, Row

NOT_RUN = "not run"


@dataclass(frozen=True)
class Report:
    """A joined table: its columns, the comparisons in each (or none), and what is missing or was left out."""

    table: PaperTable
    columns: Sequence[Column]
    comparisons: Sequence[Sequence[Comparison]] = ()
    remarks: Sequence[str] = ()


def grid(table: PaperTable, column: Column) -> Grid:
    """Header and one line per row: label, seeds, then ours per metric, with the paper's and the difference where it has any."""
    published = {
        metric for metric in table.metrics for cell in column.shown if column.printed(cell, metric) is not None
    }
    header = ["", "seeds"]
    for metric in table.metrics:
        header += [METRICS[metric], *(["paper", "diff"] if metric in published else [])]
    lines = [header]
    for cell in column.shown:
        line = [cell.row.label, str(len(cell.runs)) if cell.runs else "-"]
        for metric in table.metrics:
            line += [ours(cell, metric), *(_beside(column, cell, metric) if metric in published else [])]
        lines.append(line)
    return lines


def _beside(column: Column, cell: Cell, metric: str) -> list[str]:
    """The paper's number and ours less it."""
    printed, mean = column.printed(cell, metric), cell.mean(metric)
    if printed is None:
        return ["-", "-"]
    return [f"{printed:.1f}", "-" if mean is None else f"{mean - printed:+.1f}"]


def ours(cell: Cell, metric: str) -> str:
    """`65.6 +- 0.2`, without the deviation for one seed; `not run`, or why there is nothing of ours."""
    mean, std = cell.mean(metric), cell.std(metric)
    if mean is None:
        return "not measured" if cell.runs else cell.row.note or NOT_RUN
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def paper_grid(table: PaperTable, paper_column: str) -> Grid:
    """What the paper prints for a data set of which there is no run."""
    header = ["", *(f"{METRICS[metric]} (paper)" for metric in table.metrics), "ours"]

    def numbers(row: Row) -> list[str]:
        printed = row.paper.get(paper_column, {})
        return ["-" if (value := printed.get(metric)) is None else f"{value:.1f}" for metric in table.metrics]

    return [header] + [[row.label, *numbers(row), row.note or NOT_RUN] for row in table.rows]


def comparison_grid(comparisons: Sequence[Comparison]) -> Grid:
    """One line per comparison."""
    lines = [["difference", "metric", "mean", "95% interval", "p", "seeds", "queries"]]
    for one in comparisons:
        d = one.difference
        cells = [one.problem, *"----"] if d is None else [*d.cells, str(d.seeds), str(d.queries)]
        lines.append([f"{one.row} - {one.reference}", METRICS[one.metric], *cells])
    return lines


def document(report: Report) -> Document:
    """Each column, the paper's columns without a run, and what was left out."""
    table, columns, remarks = report.table, report.columns, list(report.remarks)
    parts: list[Section] = []
    for column, compared in zip(columns, report.comparisons or [()] * len(columns), strict=True):
        grids, notes = [grid(table, column)], list(column.notes)
        if not column.paper:
            notes.append("these data are not in the paper's table, so its numbers are not beside them")
        if column.differs:
            shown = [f"{key}={_value(value)}" for key, value in list(column.differs.items())[:8]]
            more = f" and {len(column.differs) - 8} more" if len(column.differs) > 8 else ""
            notes.append(f"differs from the other column(s) in {', '.join(shown)}{more}")
        if compared:
            grids.append(comparison_grid(compared))
            if all(one.difference is None or one.difference.seeds == 1 for one in compared):
                notes.append("one seed: the intervals cover the choice of queries, not the chance in training")
        parts.append(Section(column.title, grids, notes))
    absent = [name for name in table.data if name not in {column.paper for column in columns}]
    if columns:
        remarks += [f"no runs on {', '.join(absent)}"] if absent else []
    else:
        parts += [Section(name, [paper_grid(table, name)]) for name in absent]
    parts += [Section("Missing or left out", [], remarks)] if remarks else []
    return Document(table.title, f"Paper: {table.source}", parts)


def comma_separated(report: Report) -> str:
    """One line per column, row and metric, numbers unrounded; an empty mean is a row that was not run."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["table", "data", "row", "metric", "seeds", "mean", "std", "paper", "difference"])
    for column in report.columns:
        for cell in column.shown:
            for metric in report.table.metrics:
                mean, std, printed = cell.mean(metric), cell.std(metric), column.printed(cell, metric)
                difference = None if mean is None or printed is None else mean - printed
                seeds = " ".join(map(str, sorted(cell.runs)))
                writer.writerow(
                    [report.table.name, column.title, cell.row.label, metric, seeds, mean, std, printed, difference]
                )
    return file.getvalue()


def _as(write: Callable[[Document], str]) -> Callable[[Report], str]:
    return lambda report: write(document(report))


FORMATS: dict[str, Callable[[Report], str]] = {
    **{form: _as(write) for form, write in document_formats.items()},
    "csv": comma_separated,
}


def _value(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value).lower()
