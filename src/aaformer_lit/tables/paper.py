"""A table as the paper prints it: its rows, what each is in terms of our config, and the paper's numbers.

They are data (conf/table/*.yaml); here they get names and are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.identity import flatten

METRICS = {
    "rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "mAP": "mAP", "mINP": "mINP",
    "mAP_global": "mAP, CLS alone", "mAP_parts": "mAP, parts alone",
    "alignment/nmi": "NMI", "alignment/purity": "purity", "alignment/background_share": "background",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row.

    Args:
        key: its name on the command line.
        label: its name in the paper.
        pins: the config values (dotted key -> value) that make a run this row; all others must agree within a column.
        paper: percent per paper column and metric; None where the paper prints a dash.
        note: why there is nothing of ours for a row of others' published results.
    """

    key: str
    label: str
    pins: Mapping[str, Any]
    paper: Mapping[str, Mapping[str, float | None]]
    note: str = ""


@dataclass(frozen=True)
class PaperTable:
    """Args as in the YAML: `data` maps a paper column to the fingerprint (name, variants) of its data set."""

    name: str
    title: str
    source: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    data: Mapping[str, Mapping[str, Any]]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], ablation: Callable[[str], Mapping[str, Any]]) -> PaperTable:
        """Check and name what a YAML file of conf/table says.

        A row of ours names its `ablation`, states values of its own (`config`), or both; `ablation` here gives the config
        values of one by its name.
        """
        metrics = tuple(config["metrics"])
        unknown = [metric for metric in metrics if metric not in METRICS]
        if unknown:
            raise ConfigError(f"table.metrics has {unknown[0]!r}; known are {', '.join(METRICS)}.")
        rows = []
        for key, row in config["rows"].items():
            paper = {}
            for column, values in (row.get("paper") or {}).items():
                if column not in config["data"] or len(values) != len(metrics):
                    raise ConfigError(
                        f"table.rows.{key}.paper.{column} must be one of the columns {', '.join(config['data'])} "
                        f"with {len(metrics)} values ({', '.join(metrics)}); got {values}."
                    )
                paper[column] = dict(zip(metrics, values, strict=True))
            pins = flatten(ablation(row["ablation"])) if row.get("ablation") else {}
            pins |= flatten(row.get("config") or {})
            rows.append(Row(str(key), row["label"], pins, paper, row.get("note") or ""))
        return cls(config["name"], config["title"], config["source"], metrics, tuple(rows), config["data"] or {})

    def paper_column(self, fingerprint: Mapping[str, Any]) -> str | None:
        """The paper's column for that data: the same data set in the published split, else None."""
        for column, wanted in self.data.items():
            variants: Sequence[str] = wanted.get("variants") or [fingerprint.get("variant", "")]
            same = wanted["name"] == fingerprint.get("name") and fingerprint.get("variant") in variants
            if same and fingerprint.get("as_published"):
                return column
        return None
