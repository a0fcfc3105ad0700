"""The paper's tables out of run folders: collect runs, join them to rows by their config, compare, write.

Everything here is pure but `collect`, which reads files. A mean is only taken over runs that differ in nothing but the seed.
"""

from aaformer_lit.tables.bootstrap import PairedDifference, paired_bootstrap
from aaformer_lit.tables.collect import Run, collect
from aaformer_lit.tables.compare import Comparison, compare_rows
from aaformer_lit.tables.join import Cell, Column, join
from aaformer_lit.tables.paper import PaperTable, Row
from aaformer_lit.tables.publish import publish_runs
from aaformer_lit.tables.render import FORMATS, Report

__all__ = [
    "FORMATS",
    "Cell",
    "Column",
    "Comparison",
    "PairedDifference",
    "PaperTable",
    "Report",
    "Row",
    "Run",
    "collect",
    "compare_rows",
    "join",
    "paired_bootstrap",
    "publish_runs",
]
