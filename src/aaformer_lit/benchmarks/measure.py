"""How the benchmark measures: ours and a baseline turn by turn, the floor beside them, and no time for a wrong result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from aaformer_lit.errors import AAformerError
from aaformer_lit.utils.malloc import give_back

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Seconds of each repeat, of ours and of what it is compared with.

    Args:
        suite, what: which computation, at which size.
        against: what the baseline is.
        ours, baseline: seconds per repeat.
        floor: seconds that the unavoidable part takes on this machine, measured in the same run.
        floor_is: what that part is.
        memory: bytes that ours holds at its peak above what lay there before; None where it was not measured.
    """

    suite: str
    what: str
    against: str
    ours: tuple[float, ...]
    baseline: tuple[float, ...]
    floor: float
    floor_is: str
    memory: int | None = None

    @property
    def ratio(self) -> float:
        """Ours over baseline, of the fastest repeats: what disturbs a machine only ever adds time."""
        return min(self.ours) / min(self.baseline)

    @property
    def floor_ratio(self) -> float:
        """Ours over the floor."""
        return min(self.ours) / self.floor

    def as_dict(self) -> dict[str, Any]:
        seconds = {"ours_seconds": self.ours, "baseline_seconds": self.baseline, "floor_seconds": self.floor}
        names = {"suite": self.suite, "what": self.what, "against": self.against, "floor_is": self.floor_is}
        return {**names, "ratio": self.ratio, "floor_ratio": self.floor_ratio, "memory_bytes": self.memory, **seconds}


class WrongResult(AAformerError):
    """A suite's result differs from its reference; its time would be worthless."""


def compare(
    ours: Run, baseline: Run, repeats: int, warm_up: bool = True
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of both, run in turns (see `in_turns`)."""
    first, second = in_turns((ours, baseline), repeats, warm_up)
    return first, second


def in_turns(functions: Sequence[Run], repeats: int, warm_up: bool = True) -> list[tuple[float, ...]]:
    """Seconds of each function in each turn.

    By default each turn begins with a call that is not counted: what the others leave behind in caches and freed memory is
    not what a loop over one of them finds.
    """
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, times in zip(functions, seconds, strict=True):
            if warm_up:
                function()
            times.append(seconds_of(function))
    return [tuple(times) for times in seconds]


def fastest(function: Run, repeats: int) -> float:
    """Seconds of the fastest of some calls, after one to warm up."""
    return min([seconds_of(function) for _ in range(repeats + 1)][1:])


def seconds_of(function: Run) -> float:
    """Wall time of one call, the device's work included."""
    _synchronize()
    started = time.perf_counter()
    function()
    _synchronize()
    return time.perf_counter() - started


def flops_of(function: Run) -> int:
    """Floating-point operations of a call's matrix products and attentions."""
    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def product_rate(device: str, dtype: torch.dtype = torch.float32) -> float:
    """Operations per second of one large matrix product: what this device can do at best."""
    side = 8192 if device == "cuda" else 1536
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / fastest(lambda: matrix @ matrix, 5)


def check(suite: str, ours: torch.Tensor, reference: torch.Tensor, tolerance: float) -> None:
    """Raise `WrongResult` unless the two agree."""
    difference = (ours.double().cpu() - reference.double().cpu()).abs().max().item()
    if not difference <= tolerance:
        raise WrongResult(
            f"suite {suite}: the result differs from its reference by {difference:.3g} (> {tolerance:g})."
        )


def people_on_disk(folder: str, count: int) -> list[Path]:
    """JPEGs of so many synthetic people, 128x64 as Market-1501's."""
    from PIL import Image

    from aaformer_lit.data.synthetic import SyntheticSpec, render

    spec = SyntheticSpec(num_train_ids=count, num_test_ids=1)
    paths = [Path(folder, f"{pid}.jpg") for pid in spec.train_pids]
    for pid, path in zip(spec.train_pids, paths, strict=True):
        Image.fromarray(render(spec, pid, 1, 0)[0]).save(path, quality=95)
    return paths


def peak_memory(function: Run) -> int | None:
    """Bytes above the start that a call holds at its peak: of the GPU where there is one, else of this process, as Linux
    counts them; None where the system does not.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return int(torch.cuda.max_memory_allocated() - before)
    give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
    except OSError:
        return None
    before = _peak()
    function()
    return _peak() - before


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
