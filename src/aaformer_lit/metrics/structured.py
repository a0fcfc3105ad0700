"""StructuredMetric: a torchmetrics Metric whose result is a named, frozen object."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torchmetrics import Metric


class StructuredMetric(Metric):
    """`torchmetrics.Metric` clones the tensors inside a result, and refuses frozen dataclasses on its way: so it gets the
    result in an envelope that it does not look into. Synchronization and caching stay the base class's."""

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        synced = super()._wrap_compute(lambda: _Opaque(compute()))

        @functools.wraps(compute)
        def structured() -> Any:
            return synced().content

        return structured


class _Opaque:
    def __init__(self, content: object) -> None:
        self.content = content
