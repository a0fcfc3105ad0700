"""Runs to rows and columns, by what they are and not by where they lie.

A run belongs to the row whose config values it has. All its other values (data and its counts, recipe, backbone, epochs,
...) are its setting, and a column is one setting: runs whose settings disagree in any value never share a column, so that
no mean and no difference is taken over data sets, variants or recipes. A value of the network that one row has and another
has not (the baseline has no `similarity`) is no disagreement. What cannot change results (workers, paths) is no setting.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from aaformer_lit.tables.collect import FINISHED, Run
from aaformer_lit.tables.paper import PaperTable, Row
from aaformer_lit.utils.identity import flatten, identity

# what may differ within a column: seeds, and the masks, which only the rows that read them have
_NOT_SETTING = ("seed", "data.seed", "data.on_bad_image", "data.masks", "data.mask_parts*", "test_untrained")
_NETWORK = "model."  # networks may lack each other's keys
Setting = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """The runs of one row in one column, by seed; `replaced` are older runs of the same seed."""

    row: Row
    runs: Mapping[int, Run]
    replaced: tuple[Run, ...] = ()

    def values(self, metric: str) -> list[float]:
        """Percent, one per seed; without the runs that did not compute that metric."""
        found = [self.runs[seed].metrics.get(f"test/{metric}") for seed in sorted(self.runs)]
        return [100 * value for value in found if value is not None]

    def mean(self, metric: str) -> float | None:
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def std(self, metric: str) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Column:
    """One setting: a data set in one variant under one recipe.

    Args:
        setting: the values that all its runs share.
        cells: one per row of the table.
        paper: the paper's column for this data, or None where there is none to set beside it.
        differs: the values in which it differs from the table's other columns.
        notes: what a reader must know to trust the numbers.
    """

    setting: Mapping[str, Any]
    cells: tuple[Cell, ...]
    paper: str | None
    differs: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[Cell, ...]:
        """The cells with something to show: others' published rows have nothing to say of data that are not the paper's."""
        return tuple(cell for cell in self.cells if cell.row.pins or self.paper)

    def printed(self, cell: Cell, metric: str) -> float | None:
        """The paper's number, where it has this data."""
        return cell.row.paper.get(self.paper, {}).get(metric) if self.paper else None

    @property
    def title(self) -> str:
        get = self.setting.get
        name, variant = get("fingerprint.name", "?"), get("fingerprint.variant")
        size = "x".join(map(str, get("data.image_size", ())))
        about = [get("recipe") and f"recipe {get('recipe')}", get("model.backbone.name"), size]
        about += [f"{get('trainer.max_epochs')} epochs"] if get("trainer.max_epochs") is not None else []
        return f"{name}{f' ({variant})' if variant else ''}: {', '.join(str(one) for one in about if one)}"


def join(table: PaperTable, runs: Sequence[Run]) -> tuple[list[Column], list[str]]:
    """The table's columns, and what is missing or was left out, in words.

    Only finished runs are in the columns. Runs that are no row of this table are counted.
    """
    finished: list[tuple[Row, Run, Setting]] = []
    remarks, strangers = [], 0
    for run in runs:
        row, setting = place(table, run)
        if row is None:
            strangers += bool(run.config)
        elif run.status == FINISHED:
            finished.append((row, run, setting))
        if run.status != FINISHED and (row is not None or not run.config):
            what = f"{row.label}, seed {run.seed}" if row is not None else "a run"
            remarks.append(f"{run.status}: {what} ({run.folder}): {run.problem}")
    if strangers:
        remarks.append(f"{strangers} run{'s are' if strangers > 1 else ' is'} no row of this table")
    settings = [setting for _, _, setting in finished]
    columns = [_column(table, setting, finished) for setting in merge(settings)]
    columns.sort(key=lambda c: (str(c.setting.get("fingerprint.name")), str(c.setting.get("fingerprint.variant"))))
    keys = sorted({key for column in columns for key in column.setting})
    varied = [key for key in keys if _varies(key, columns)]
    return [_explained(column, varied, table) for column in columns], remarks


def place(table: PaperTable, run: Run) -> tuple[Row | None, Setting]:
    """The row that a run is, and its setting. Of two rows that fit, the one that says more."""
    flat = flatten(run.config)
    fitting = [row for row in table.rows if row.pins and all(flat.get(k) == v for k, v in row.pins.items())]
    if not fitting:
        return None, {}
    row = max(fitting, key=lambda r: len(r.pins))
    setting = {key: value for key, value in setting_of(run.config).items() if key not in row.pins}
    return row, setting | flatten(run.fingerprint, "fingerprint.")


def setting_of(config: Mapping[str, Any]) -> Setting:
    """What all runs of a column share."""
    return {
        key: value
        for key, value in identity(config).items()
        if not any(fnmatchcase(key, pattern) for pattern in _NOT_SETTING)
    }


def merge(settings: Sequence[Setting]) -> list[Setting]:
    """Few settings such that each one given agrees with at least one of them, and those that agree with one agree with
    each other. The fullest come first, so that a setting that lacks a key joins those that have it.
    """
    ordered = sorted(settings, key=lambda s: (-len(s), str(sorted(s.items(), key=str))))
    merged: list[Setting] = []
    for setting in ordered:
        agreeing = [column for column in merged if agree(column, setting)]
        for column in agreeing:
            column |= setting
        if not agreeing:
            merged.append(dict(setting))
    for column in merged:  # a later column has not met the earlier settings yet
        for setting in ordered:
            if agree(column, setting):
                column |= setting
    return merged


def agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two settings have no key with different values. Networks may lack each other's keys; elsewhere to lack a
    key (no averaging of the weights, say) is to differ from what has it.
    """
    keys = one.keys() | other.keys()
    return all(
        one.get(key) == other.get(key) for key in keys if not key.startswith(_NETWORK) or (key in one and key in other)
    )


def _column(table: PaperTable, setting: Setting, finished: Sequence[tuple[Row, Run, Setting]]) -> Column:
    cells = []
    for row in table.rows:
        by_seed: dict[int, Run] = {}
        replaced = []
        runs = [run for whose, run, its in finished if whose is row and agree(setting, its)]
        for run in sorted(runs, key=lambda run: run.written):
            if run.seed in by_seed:
                replaced.append(by_seed[run.seed])
            by_seed[run.seed] = run  # the newest stays
        cells.append(Cell(row, by_seed, tuple(replaced)))
    prefix = "fingerprint."
    fingerprint = {key.removeprefix(prefix): value for key, value in setting.items() if key.startswith(prefix)}
    return Column(setting, tuple(cells), table.paper_column(fingerprint))


def _explained(column: Column, varied: Sequence[str], table: PaperTable) -> Column:
    notes = []
    seeds = sorted({seed for cell in column.cells for seed in cell.runs})
    for cell in column.cells:
        missing = [seed for seed in seeds if seed not in cell.runs]
        if cell.runs and missing:
            notes.append(f"{cell.row.label}: no result of seed {', '.join(map(str, missing))}, which other rows have")
        for metric in table.metrics:
            if 0 < len(cell.values(metric)) < len(cell.runs):
                notes.append(f"{cell.row.label}: {metric} of {len(cell.values(metric))} of {len(cell.runs)} runs only")
        if cell.replaced:
            notes.append(f"{cell.row.label}: {len(cell.replaced)} older run(s) of the same seed not used")
    commits = sorted({str(run.commit) for cell in column.cells for run in cell.runs.values()})
    if len(commits) > 1:
        notes.append(f"made by {len(commits)} versions of the code: {', '.join(commits)}")
    get = column.setting.get
    differs = {key: get(key) for key in varied if key in column.setting or not key.startswith(_NETWORK)}
    return Column(column.setting, column.cells, column.paper, differs, tuple(notes))


def _varies(key: str, columns: Sequence[Column]) -> bool:
    """Whether the columns differ in that value; what a column has no network for is no difference."""
    having = [column for column in columns if key in column.setting or not key.startswith(_NETWORK)]
    return len({column.setting.get(key) for column in having}) > 1
