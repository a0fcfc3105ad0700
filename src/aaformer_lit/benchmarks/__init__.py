"""The benchmark suites, one function each: it checks our result against a reference, then times ours and a
baseline, row by row, so that what is measured is kept whatever comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aaformer_lit.benchmarks.assignment import assignment
from aaformer_lit.benchmarks.attention import attention
from aaformer_lit.benchmarks.data import data
from aaformer_lit.benchmarks.extract import extract
from aaformer_lit.benchmarks.measure import Measurement, WrongResult
from aaformer_lit.benchmarks.peers import peers
from aaformer_lit.benchmarks.retrieval import evaluate, rerank
from aaformer_lit.benchmarks.startup import startup
from aaformer_lit.benchmarks.train_step import train_step

SUITES: dict[str, Callable[..., Iterator[Measurement]]] = {
    function.__name__: function
    for function in (startup, data, assignment, attention, train_step, extract, evaluate, rerank, peers)
}

__all__ = ["SUITES", "Measurement", "WrongResult"]
