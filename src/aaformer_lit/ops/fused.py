"""The fused kernels as torch sees them: one operator with shapes for the compiler and a gradient for autograd.

So `torch.compile`, gradient checkpointing and DDP treat it like any other; autocast leaves it alone, because it keeps
float32 inside whatever the inputs. Importing this module imports Triton; `supports` says what the kernel takes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aaformer_lit.ops.reference import log_shares
from aaformer_lit.ops.rounding import Rounding
from aaformer_lit.ops.soft_kernel import soft_backward_kernel, soft_backward_tile
from aaformer_lit.ops.triton_kernel import backward_kernel, backward_tile, forward_kernel, forward_tile

LOG2_E = math.log2(math.e)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_PARTS = 31  # bits of a patch's word
MAX_DIM = 128
# NVIDIA's GPUs, and a Triton that has matrix products of 8 columns
SUITED = torch.version.hip is None and tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 5)
# TRITON_INTERPRET=1 at import: the kernels run in numpy, on CPU tensors
INTERPRETED = not isinstance(forward_kernel, triton.JITFunction)


def supports(
    queries: Float[Tensor, "batch heads parts dim"],
    keys: Float[Tensor, "batch heads patches dim"],
    values: Float[Tensor, "batch heads patches dim"],
    rounding: Rounding = "argmax",
    cost: Float[Tensor, "*batch parts patches"] | None = None,
) -> bool:
    """Whether the kernel takes these shapes, dtypes and options; plain torch takes the others."""
    parts, patches, dim = queries.shape[-2], keys.shape[-2], queries.shape[-1]
    size = max(queries.itemsize, values.itemsize)
    return (
        SUITED
        and queries.dtype == keys.dtype
        and queries.dtype in DTYPES
        and values.dtype in DTYPES
        and queries.numel() > 0
        and parts <= MAX_PARTS
        and dim <= MAX_DIM
        and forward_tile(parts, patches, dim, size) is not None
        and (rounding == "argmax" or (rounding == "soft" and soft_backward_tile(parts, patches, size) is not None))
        and (cost is None or not cost.requires_grad)
        and (cost is None or cost.ndim == 2 or cost.shape[:-2] == (len(queries), 1))
    )


def fused_auto_alignment(
    queries: Float[Tensor, "batch heads parts dim"],
    keys: Float[Tensor, "batch heads patches dim"],
    values: Float[Tensor, "batch heads patches dim"],
    *,
    parts: Sequence[int],
    epsilon: float = 0.05,
    iterations: int = 3,
    rounding: str = "argmax",
    similarity: str = "cosine",
    cost: Float[Tensor, "*batch parts patches"] | None = None,
) -> tuple[Float[Tensor, "batch heads parts dim"], Int[Tensor, "batch heads patches"]]:
    """Part outputs, and for each patch the word of the parts that hold it (see `unpack_membership`).

    Differentiable once, in queries, keys and values: `argmax` at the given grouping, `soft` through the transport. Strided
    views are read where they lie.
    """
    soft, shares = rounding == "soft", None
    if cost is not None:
        cost = cost.float().contiguous()
        of_images = [share for share in log_shares(cost, parts, epsilon) if share is not None]
        shares = (torch.cat(of_images, dim=-2) * LOG2_E).flatten(1) if of_images else None
    output, words, _ = _align(queries, keys, values, cost, shares, list(parts), epsilon, iterations, similarity, soft)
    return output, words


def unpack_membership(
    words: Int[Tensor, "batch heads patches"], parts: int
) -> Bool[Tensor, "batch heads parts patches"]:
    """Bit p of a patch's word, for every part p."""
    return (words[..., None, :] >> torch.arange(parts, device=words.device, dtype=words.dtype)[:, None]) & 1 == 1


def _rows(tensor: Tensor) -> tuple[Any, ...]:
    """A tensor (batch, heads, rows, dim) as the kernels take it: itself and three strides; rows must be dense."""
    tensor = tensor if tensor.stride(-1) == 1 else tensor.contiguous()
    return tensor, *tensor.stride()[:3]


def _empty_like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for a result (batch, heads, rows, dim), laid out (batch, rows, heads, dim) as the projections around it."""
    batch, heads, rows, dim = tensor.shape
    return tensor.new_empty(batch, rows, heads, dim, dtype=dtype).transpose(1, 2)


def _constants(queries: Tensor, parts: list[int], epsilon: float, iterations: int, similarity: str) -> dict[str, Any]:
    """Of the transport, as the kernels take them; all exponents are those of 2."""
    scale = queries.shape[-1] ** -0.5
    return {
        "sharpness": LOG2_E / epsilon * (scale if similarity == "scaled" else 1.0),
        "price": LOG2_E / epsilon,
        "scale": LOG2_E * scale,
        "COSINE": similarity == "cosine",
        "ITERATIONS": iterations,
        "BOUNDS": (0, *itertools.accumulate(parts)),
        "DIM": queries.shape[-1],
        "INTERPRETED": INTERPRETED,
    }


@torch.library.custom_op(
    "aaformer_lit::auto_alignment",
    mutates_args=(),
    schema="(Tensor queries, Tensor keys, Tensor values, Tensor? cost, Tensor? shares, int[] parts, float epsilon,"
    " int iterations, str similarity, bool soft) -> (Tensor, Tensor, Tensor)",
)
def _align(
    queries: Tensor, keys: Tensor, values: Tensor, cost: Tensor | None, shares: Tensor | None, parts: list[int],
    epsilon: float, iterations: int, similarity: str, soft: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    batch, heads, total, dim = queries.shape
    patches = keys.shape[-2]
    results: tuple[Tensor, Tensor, Tensor] = _empty_outputs(
        queries, keys, values, cost, shares, parts, epsilon, iterations, similarity, soft
    )
    tile = forward_tile(total, patches, dim, max(queries.itemsize, values.itemsize))
    assert tile is not None  # `supports` said so
    with torch.cuda.device_of(queries):  # triton launches on the current device, which need not be the tensors'
        forward_kernel[(batch * heads,)](
            *_rows(queries), *_rows(keys), *_rows(values), cost, shares, *results, heads, SOFT=soft, PATCHES=patches,
            **_constants(queries, parts, epsilon, iterations, similarity), **tile,
        )  # fmt: skip
    return results


@torch.library.custom_op(
    "aaformer_lit::auto_alignment_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor queries, Tensor keys, Tensor values, Tensor output, Tensor words, Tensor normalizers)"
    " -> (Tensor, Tensor, Tensor)",
)
def _align_backward(
    grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, output: Tensor, words: Tensor, normalizers: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, total, dim = queries.shape
    grads = _empty_grads(queries, keys, values)
    with torch.cuda.device_of(queries):
        backward_kernel[(batch * heads,)](
            *_rows(queries), *_rows(keys), *_rows(values), *_rows(grad), *_rows(output), words, normalizers, *grads,
            heads, LOG2_E * dim**-0.5, PARTS=total, PATCHES=keys.shape[-2], DIM=dim, INTERPRETED=INTERPRETED,
            **backward_tile(total, dim, max(queries.itemsize, values.itemsize)),
        )  # fmt: skip
    return grads


@torch.library.custom_op(
    "aaformer_lit::soft_alignment_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor queries, Tensor keys, Tensor values, Tensor? cost, Tensor? shares, Tensor normalizers,"
    " int[] parts, float epsilon, int iterations, str similarity) -> (Tensor, Tensor, Tensor)",
)
def _soft_backward(
    grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, cost: Tensor | None, shares: Tensor | None,
    normalizers: Tensor, parts: list[int], epsilon: float, iterations: int, similarity: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    batch, heads, total, _ = queries.shape
    patches = keys.shape[-2]
    grads = _empty_grads(queries, keys, values)
    tile = soft_backward_tile(total, patches, max(queries.itemsize, values.itemsize))
    assert tile is not None  # `supports` said so
    with torch.cuda.device_of(queries):
        soft_backward_kernel[(batch * heads,)](
            *_rows(queries), *_rows(keys), *_rows(values), *_rows(grad), cost, shares, normalizers, *grads, heads,
            PATCHES=patches, **_constants(queries, parts, epsilon, iterations, similarity), **tile,
        )  # fmt: skip
    return grads


@_align.register_fake
def _empty_outputs(
    queries: Tensor, keys: Tensor, values: Tensor, cost: Tensor | None, shares: Tensor | None, parts: list[int],
    epsilon: float, iterations: int, similarity: str, soft: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Output; a word per patch whose bit p says that part p holds it; log2 of what each part was divided by.

    That is its sum of exponentials in the softmax and then, for the soft form, the product of its sums in the part steps
    up to the first, the second, and so on.
    """
    batch, heads, total, _ = queries.shape
    words = keys.new_empty(keys.shape[:-1], dtype=torch.uint8 if total <= 8 else torch.int32)
    normalizers = queries.new_empty(batch, heads, 1 + iterations * soft, total, dtype=torch.float32)
    return _empty_like(queries, values.dtype), words, normalizers


@_align_backward.register_fake
@_soft_backward.register_fake
def _(grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_grads(queries, keys, values)


def _empty_grads(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q_grad, k_grad, v_grad = (_empty_like(x, x.dtype) for x in (queries, keys, values))
    return q_grad, k_grad, v_grad


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, keys, values, cost, shares, *ctx.transport, ctx.soft = inputs
    _, _, normalizers = output
    ctx.save_for_backward(queries, keys, values, *((cost, shares, normalizers) if ctx.soft else output))


def _differentiate(ctx: Any, grad: Tensor, *_: object) -> tuple[Tensor | None, ...]:
    backward, options = (_soft_backward, ctx.transport) if ctx.soft else (_align_backward, ())
    return *backward(grad, *ctx.saved_tensors, *options), *(None,) * 7


_align.register_autograd(_differentiate, setup_context=_save)
