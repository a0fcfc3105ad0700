"""Nearest neighbor (Table V): each patch to the part it resembles most; nothing stops a part from taking all."""

from __future__ import annotations

from aaformer_lit.assign.sinkhorn import Sinkhorn


class Nearest(Sinkhorn):
    """Sinkhorn without iterations: the column step alone keeps every patch's order of preference."""

    def __init__(self) -> None:
        super().__init__(iterations=0)
