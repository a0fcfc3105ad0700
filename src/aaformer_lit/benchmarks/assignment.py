"""Sinkhorn on all problems of a batch at once against POT's solver in a loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from aaformer_lit.benchmarks.measure import Measurement, check, compare, fastest
from aaformer_lit.errors import ConfigError

PARTS, PATCHES, ITERATIONS = 5, 576, 3


def assignment(full: bool, repeats: int) -> Iterator[Measurement]:
    """576 patches into 5 parts, as the paper times it; both solvers run the same number of iterations."""
    from aaformer_lit.assign import sinkhorn

    try:
        import ot
    except ImportError as error:
        raise ConfigError("suite=assignment compares with POT: pip install POT.") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    problems = 768 if full else 96
    scores = torch.rand(problems, PARTS, PATCHES) * 2 - 1
    marginals = torch.full((PARTS,), 1 / PARTS).double().numpy(), torch.full((PATCHES,), 1 / PATCHES).double().numpy()

    def pot(matrix: torch.Tensor, steps: int) -> Any:
        return ot.sinkhorn(*marginals, -matrix.double().numpy(), 0.05, numItermax=steps, stopThr=0, warn=False)

    exact = sinkhorn(scores[0].double(), iterations=2000)
    check("assignment", exact, torch.from_numpy(pot(scores[0], 20_000)), 1e-6)
    on_device = scores.to(device)

    def loop() -> None:
        for matrix in scores:
            pot(matrix, ITERATIONS)

    seconds = compare(lambda: sinkhorn(on_device), loop, repeats)
    floor = fastest(lambda: on_device.exp(), repeats)
    what = f"{problems} problems {PARTS}x{PATCHES}, {ITERATIONS} iterations"
    yield Measurement("assignment", what, "POT in a loop", *seconds, floor, "one exp of the scores")
