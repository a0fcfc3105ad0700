"""The benchmark suites, one function each: it checks our result against a reference, then times ours and a baseline."""

from __future__ import annotations

from collections.abc import Callable

from aaformer_lit.suites.assignment import assignment
from aaformer_lit.suites.attention import attention
from aaformer_lit.suites.data import data
from aaformer_lit.suites.extract import extract
from aaformer_lit.suites.measure import Measurement, WrongResult
from aaformer_lit.suites.retrieval import evaluate, rerank
from aaformer_lit.suites.startup import startup
from aaformer_lit.suites.train_step import train_step

SUITES: dict[str, Callable[..., list[Measurement]]] = {
    function.__name__: function
    for function in (startup, data, assignment, attention, train_step, extract, evaluate, rerank)
}

__all__ = ["SUITES", "Measurement", "WrongResult"]
