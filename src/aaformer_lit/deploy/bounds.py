"""How far a file may be from its network, by the numbers that it computes with.

In float32 a file must compute what the network does, on any image. With fewer bits it cannot; then it must still find the same
people, and is judged on one's own images and those of a data set alone: noise, single colors and drawn people lie outside of
what int8 was calibrated on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from aaformer_lit.errors import ConfigError, check_choice

DType = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Bounds:
    """What a file must keep to.

    Args:
        tolerance: of a channel at equal assignments, tokens scaled to length 1.
        max_flipped: share of the patches that may go to another part.
        min_top_k: share of the first ten answers that must be among the network's own (0 to 1).
        max_mAP_change: of the data set's people, either way.
        any_image: whether all holds on drawn people, too, the first two on noise, and the tolerance on single colors.
    """

    tolerance: float
    max_flipped: float
    min_top_k: float
    max_mAP_change: float
    any_image: bool

    def __post_init__(self) -> None:
        for name in ("tolerance", "max_flipped", "min_top_k", "max_mAP_change"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"check.{name} must be between 0 and 1; got {value}.")

    @classmethod
    def of(cls, dtype: DType, **given: float | None) -> Bounds:
        """Those of a dtype; what is given and not None takes their place."""
        check_choice("format.dtype", dtype, get_args(DType))
        return replace(_OF[dtype], **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


_OF: dict[DType, Bounds] = {
    "fp32": Bounds(1e-4, 1e-3, 0.99, 0.001, True),
    "fp16": Bounds(1e-2, 5e-3, 0.95, 0.005, False),
    "int8": Bounds(2e-1, 2e-2, 0.9, 0.01, False),
}
