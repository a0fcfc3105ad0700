"""The fused kernel as torch sees it: one operator with shapes for the compiler and a gradient for autograd.

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
) -> bool:
    """Whether the kernel takes these shapes and dtypes; plain torch takes the others."""
    parts, patches, dim = queries.shape[-2], keys.shape[-2], queries.shape[-1]
    return (
        SUITED
        and queries.dtype == keys.dtype
        and queries.dtype in DTYPES
        and values.dtype in DTYPES
        and queries.numel() > 0
        and parts <= MAX_PARTS
        and dim <= MAX_DIM
        and forward_tile(parts, patches, dim, max(queries.itemsize, values.itemsize)) is not None
    )


def fused_auto_alignment(
    queries: Float[Tensor, "batch heads parts dim"],
    keys: Float[Tensor, "batch heads patches dim"],
    values: Float[Tensor, "batch heads patches dim"],
    *,
    parts: Sequence[int],
    epsilon: float = 0.05,
    iterations: int = 3,
    similarity: str = "cosine",
) -> tuple[Float[Tensor, "batch heads parts dim"], Int[Tensor, "batch heads patches"]]:
    """Part outputs, and for each patch the word of the parts that hold it (see `unpack_membership`).

    Differentiable once, in queries, keys and values at the given grouping. Strided views are read where they lie.
    """
    output, words, _ = _align(queries, keys, values, list(parts), epsilon, iterations, similarity)
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


@torch.library.custom_op(
    "aaformer_lit::auto_alignment",
    mutates_args=(),
    schema="(Tensor queries, Tensor keys, Tensor values, int[] parts, float epsilon, int iterations, str similarity)"
    " -> (Tensor, Tensor, Tensor)",
)
def _align(
    queries: Tensor, keys: Tensor, values: Tensor, parts: list[int], epsilon: float, iterations: int, similarity: str
) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, total, dim = queries.shape
    patches = keys.shape[-2]
    output, words, normalizers = _empty_outputs(queries, keys, values)
    scale = dim**-0.5
    tile = forward_tile(total, patches, dim, max(queries.itemsize, values.itemsize))
    assert tile is not None  # `supports` said so
    with torch.cuda.device_of(queries):  # triton launches on the current device, which need not be the tensors'
        forward_kernel[(batch * heads,)](
            *_rows(queries), *_rows(keys), *_rows(values), output, words, normalizers, heads,
            LOG2_E / epsilon * (scale if similarity == "scaled" else 1.0), LOG2_E * scale,
            COSINE=similarity == "cosine", ITERATIONS=iterations, BOUNDS=(0, *itertools.accumulate(parts)),
            PATCHES=patches, DIM=dim, INTERPRETED=INTERPRETED, **tile,
        )  # fmt: skip
    return output, words, normalizers


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


@_align.register_fake
def _empty_outputs(queries: Tensor, keys: Tensor, values: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    """Output; a word per patch whose bit p says that part p holds it; log2 of each part's sum of exponentials."""
    words = keys.new_empty(keys.shape[:-1], dtype=torch.uint8 if queries.shape[-2] <= 8 else torch.int32)
    return _empty_like(queries, values.dtype), words, queries.new_empty(queries.shape[:-1], dtype=torch.float32)


@_align_backward.register_fake
def _(grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_grads(queries, keys, values)


def _empty_grads(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q_grad, k_grad, v_grad = (_empty_like(x, x.dtype) for x in (queries, keys, values))
    return q_grad, k_grad, v_grad


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3], *output)


def _differentiate(ctx: Any, grad: Tensor, *_: object) -> tuple[Tensor | None, ...]:
    return *_align_backward(grad, *ctx.saved_tensors), None, None, None, None


_align.register_autograd(_differentiate, setup_context=_save)
