"""Whether the fused kernel has earned its place here: before its first use it is compared with plain torch.

A kernel that does not compile, computes something else or is slower than what it replaces is not used by this process;
one warning says what was found. The comparison takes a few small problems of the same device, dtype and shape.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from aaformer_lit.errors import check_choice, first_line
from aaformer_lit.ops.reference import (
    Similarity,
    aligned_weights,
    compare,
    log_plans,
    part_attention,
    similarity_scores,
    weighted,
)
from aaformer_lit.ops.rounding import Rounding, round_argmax

log = logging.getLogger(__name__)

Kernel = Literal["auto", "triton", "torch"]
ERROR = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of values and gradients of order 1
# and what the soft form adds per unit of the greatest score over epsilon, which float32 rounds to 6e-8 of it a few times
SOFT_ERROR = 1e-6
MOST_REGROUPED = 0.01  # share of patches; rounding regroups 4 in 10,000
_PROBLEMS = 256  # heads of images that the comparison takes at most
_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """What a verdict is about: calls that run the same compiled kernel.

    `cost` is how many axes it has: 0 where there is none, 2 where it is that of all images, 4 where each has its own.
    """

    device: str
    dtype: torch.dtype
    value_dtype: torch.dtype
    parts: tuple[int, ...]
    patches: int
    dim: int
    epsilon: float
    iterations: int
    rounding: Rounding
    similarity: Similarity
    cost: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the comparison found; times in milliseconds of forward and backward, None where it did not come so far."""

    kernel: Literal["triton", "torch"]
    reason: str
    triton_ms: float | None = None
    torch_ms: float | None = None


_chosen: list[Kernel] = ["auto"]
_verdicts: dict[Problem, Verdict] = {}


def choose_kernel(kernel: Kernel) -> None:
    """`triton` without a comparison, `torch` always, or `auto`: the kernel where it has earned it (for this process)."""
    check_choice("ops.kernel", kernel, get_args(Kernel))
    _chosen[0] = kernel
    _verdicts.clear()


def kernel_report() -> dict[str, Any]:
    """The choice and the verdicts of this process so far, for `metadata.json`; no verdict where no kernel was asked for."""
    found = [
        {**asdict(p), "dtype": str(p.dtype), "value_dtype": str(p.value_dtype), **asdict(v)}
        for p, v in _verdicts.items()
    ]
    return {"kernel": _chosen[0], "verdicts": found}


def earned(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    parts: Sequence[int],
    epsilon: float,
    iterations: int,
    rounding: Rounding,
    similarity: Similarity,
    cost: Tensor | None,
) -> bool:
    """Whether these tensors go to the fused kernel, which supports them; compares on the first call of their kind."""
    if _chosen[0] != "auto":
        return _chosen[0] == "triton"
    if torch.compiler.is_compiling():  # where nothing can be measured: what was found before decides
        return bool(_verdicts) and all(verdict.kernel == "triton" for verdict in _verdicts.values())
    tensors = str(queries.device), queries.dtype, values.dtype, tuple(parts), keys.shape[-2], queries.shape[-1]
    problem = Problem(*tensors, epsilon, iterations, rounding, similarity, 0 if cost is None else cost.ndim)
    if problem not in _verdicts:
        count = max(1, min(queries.shape[0] * queries.shape[1], _PROBLEMS))
        # in a thread of its own, which neither autocast nor the hooks of gradient checkpointing reach
        with ThreadPoolExecutor(1) as pool:
            _verdicts[problem] = verdict = pool.submit(compare_with_torch, problem, count).result()
        if verdict.kernel == "torch":
            log.warning(
                "the fused kernel is not used on %s (%s, %s, parts %s, %d patches of %d): %s. Plain torch computes the "
                "same. Please report this line with the name of the GPU and the versions of torch and triton.",
                problem.device,
                problem.dtype,
                problem.rounding,
                list(parts),
                problem.patches,
                problem.dim,
                verdict.reason,
            )
    return _verdicts[problem].kernel == "triton"


def compare_with_torch(problem: Problem, count: int = _PROBLEMS) -> Verdict:
    """Values and gradients (of `argmax` at equal groupings), the groupings, and the time of forward and backward.

    Args:
        problem: shapes, dtypes and options.
        count: heads of images in the comparison.
    """
    from aaformer_lit.ops.fused import fused_auto_alignment, unpack_membership  # importing Triton takes time

    on_device = torch.cuda.device(problem.device) if problem.device.startswith("cuda") else nullcontext()
    try:
        with on_device, torch.enable_grad():
            queries, keys, values, cost, direction = _example(problem, count)
            inputs = (queries, keys, values)
            options: dict[str, Any] = {
                "parts": problem.parts,
                "epsilon": problem.epsilon,
                "iterations": problem.iterations,
                "rounding": problem.rounding,
                "cost": cost,
            }

            def ours() -> tuple[Tensor, Tensor]:
                return fused_auto_alignment(*inputs, similarity=problem.similarity, **options)

            def plain(membership: Tensor | None = None) -> Tensor:
                if problem.rounding == "soft":
                    compared = compare(queries, keys, problem.similarity)
                    return weighted(aligned_weights(compared, **options).weights, values)
                return part_attention(
                    *inputs, _grouping(problem, *inputs[:2], cost) if membership is None else membership
                )

            output, words = ours()
            membership = unpack_membership(words, sum(problem.parts))
            regrouped = (membership != _grouping(problem, queries, keys, cost)).any(dim=-2).double().mean().item()
            expected = plain(membership)
            bound = 2 * ERROR[problem.dtype]  # both are rounded
            if problem.rounding == "soft":
                greatest = similarity_scores(queries, keys, problem.similarity).abs().max().item()
                bound += 2 * SOFT_ERROR * greatest / problem.epsilon
            for name, found, wanted in zip(
                ("output", "gradient of q", "gradient of k", "gradient of v"),
                (output, *torch.autograd.grad(output, inputs, direction)),
                (expected, *torch.autograd.grad(expected, inputs, direction)),
                strict=True,
            ):
                error = (found.double() - wanted.double()).abs().max().item() / max(1.0, wanted.abs().max().item())
                if not error <= bound:
                    return Verdict("torch", f"its {name} differs by {error:.2g}")
            if regrouped > MOST_REGROUPED:
                return Verdict("torch", f"it regroups {100 * regrouped:.1f}% of the patches")

            triton_ms = _milliseconds(lambda: torch.autograd.grad(ours()[0], inputs, direction), problem.device)
            torch_ms = _milliseconds(lambda: torch.autograd.grad(plain(), inputs, direction), problem.device)
    except Exception as error:  # a compiler has many ways to fail
        return Verdict("torch", f"it failed with {type(error).__name__}: {first_line(error)}")
    if triton_ms > torch_ms:
        reason = f"it takes {triton_ms:.2f} ms where plain torch takes {torch_ms:.2f}"
        return Verdict("torch", reason, triton_ms, torch_ms)
    return Verdict("triton", "equal and not slower", triton_ms, torch_ms)


def _example(problem: Problem, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    generator = torch.Generator().manual_seed(0)
    total = sum(problem.parts)
    rows = ((total, problem.dtype), (problem.patches, problem.dtype), (problem.patches, problem.value_dtype))
    q, k, v = (
        torch.randn(count, 1, n, problem.dim, generator=generator).to(problem.device, dtype).requires_grad_()
        for n, dtype in rows
    )
    direction = torch.randn(count, 1, total, problem.dim, generator=generator).to(problem.device, problem.value_dtype)
    shape = (count, 1, total, problem.patches)[-problem.cost :]
    cost = torch.rand(shape, generator=generator).to(problem.device) if problem.cost else None
    return q, k, v, cost, direction


@torch.no_grad()
def _grouping(problem: Problem, queries: Tensor, keys: Tensor, cost: Tensor | None) -> Tensor:
    scores = similarity_scores(queries, keys, problem.similarity)
    plans = log_plans(scores, problem.parts, problem.epsilon, problem.iterations, cost)
    return torch.cat([round_argmax(plan) for plan in plans], dim=-2)


def _milliseconds(work: Callable[[], object], device: str) -> float:
    """Of the fastest of some calls, after two to warm up."""
    times = []
    for _ in range(_REPEATS + 2):
        started = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - started))
    return min(times[2:])
