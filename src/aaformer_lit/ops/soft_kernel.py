# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# (kernels take their types from the call, not from annotations)
"""The gradient of soft transport in one pass on a GPU: back through the softmax and the Sinkhorn iterations to q, k and v.

Not in the paper, whose grouping has no gradient. The forward (`triton_kernel`) keeps of each iteration only by what its part
step divided the parts so far, one number per part: a patch step undoes any scaling of the patches, so that those numbers
and q.k give the plan after any step again. One program per image and head then walks the iterations backwards on the tile
of all its patches and parts. The step y = x - log(sum(exp(x))) has the gradient dx = dy - exp(y) * sum(dy): one sum over the
parts of a granularity, which stays within a few threads, and one over the patches per iteration.
"""

from __future__ import annotations

import triton
import triton.language as tl

from aaformer_lit.ops.triton_steps import (
    compared,
    dot,
    load_rows,
    of_image,
    patch_step,
    power_of_2,
    products_and_lengths,
)


@triton.jit
def _back_through_part_step(grad, plan, real_patch):
    """`plan` is the one after the step, each part's a distribution over the patches."""
    return tl.where(real_patch, grad - tl.exp2(plan) * tl.sum(grad, axis=0)[None, :], 0.0)


@triton.jit
def _back_through_patch_step(grad, plan, parts, BOUNDS: tl.constexpr):
    """`plan` is the one after the step."""
    sums = tl.zeros_like(grad)
    for i in tl.static_range(len(BOUNDS) - 1):
        inside = ((parts >= BOUNDS[i]) & (parts < BOUNDS[i + 1]))[None, :]
        sums = tl.where(inside, tl.sum(tl.where(inside, grad, 0.0), axis=1)[:, None], sums)
    return grad - tl.exp2(plan) * sums


@triton.jit
def _over_parts(
    weights, start, stride_row, dims, DTYPE: tl.constexpr, PARTS: tl.constexpr, DIM: tl.constexpr, INTERPRETED: tl.constexpr
):  # fmt: skip
    """For each patch, the sum of the parts' rows by its weights; tensor cores sum over 16 or more, so 8 are there twice."""
    BLOCK_N: tl.constexpr = weights.shape[0]
    BLOCK_P: tl.constexpr = weights.shape[1]
    TIMES: tl.constexpr = 2 if BLOCK_P < 16 else 1
    if TIMES == 2:
        weights = tl.reshape(tl.join(weights, tl.zeros_like(weights)), (BLOCK_N, 2 * BLOCK_P))
    rows = load_rows(start, tl.arange(0, TIMES * BLOCK_P) // TIMES, PARTS, stride_row, dims, DIM)
    return dot(weights.to(DTYPE), rows, INTERPRETED)


@triton.jit
def soft_backward_kernel(
    q, q_batch, q_head, q_row, k, k_batch, k_head, k_row, v, v_batch, v_head, v_row, g, g_batch, g_head, g_row,
    cost, shares, normalizers, q_grad, k_grad, v_grad, heads, sharpness, price, scale,
    COSINE: tl.constexpr, ITERATIONS: tl.constexpr, BOUNDS: tl.constexpr, PATCHES: tl.constexpr, DIM: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    PARTS: tl.constexpr = BOUNDS[len(BOUNDS) - 1]
    image, head = (tl.program_id(0) // heads).to(tl.int64), (tl.program_id(0) % heads).to(tl.int64)
    parts, patches = tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_N)
    real_part, real_patch = parts < PARTS, (patches < PATCHES)[:, None]
    q += image * q_batch + head * q_head
    k += image * k_batch + head * k_head
    v += image * v_batch + head * v_head
    g += image * g_batch + head * g_head
    row = heads * DIM
    q_grad += image * PARTS * row + head * DIM
    k_grad += image * PATCHES * row + head * DIM
    v_grad += image * PATCHES * row + head * DIM
    normalizers += (image * heads + head) * PARTS * (1 + ITERATIONS) + parts

    cost, share = of_image(cost, shares, image, parts, PARTS, PATCHES, BLOCK_P)
    products, q_lengths, k_lengths = products_and_lengths(
        q, q_row, k, k_row, parts, patches, PARTS, PATCHES, DIM, BLOCK_P, BLOCK_N, BLOCK_D, COSINE, INTERPRETED
    )
    start = compared(products, q_lengths, k_lengths, cost, parts, patches, sharpness, price, PARTS, PATCHES, COSINE)
    divided = tl.zeros((BLOCK_P,), tl.float32)
    if ITERATIONS > 0:
        divided = tl.load(normalizers + ITERATIONS * PARTS, mask=real_part, other=0.0)
    plan = patch_step(start - divided[None, :], parts, BOUNDS, INTERPRETED)
    normalizer = tl.load(normalizers, mask=real_part, other=0.0)
    weights = tl.where(real_patch, tl.exp2(products * scale + plan - normalizer[None, :]), 0.0)

    weights_grad = tl.zeros_like(weights)
    for first in range(0, DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        v_tile = load_rows(v, patches, PATCHES, v_row, dims, DIM)
        g_tile = load_rows(g, parts, PARTS, g_row, dims, DIM)
        weights_grad += dot(v_tile, tl.trans(g_tile), INTERPRETED)
        v_sum = _over_parts(weights, g, g_row, dims, v_tile.dtype, PARTS, DIM, INTERPRETED)
        inside = real_patch & (dims < DIM)[None, :]
        tl.store(v_grad + patches[:, None] * row + dims[None, :], v_sum.to(v_tile.dtype), mask=inside)

    to_products = weights * (weights_grad - tl.sum(weights * weights_grad, axis=0)[None, :])
    grad = _back_through_patch_step(to_products, plan, parts, BOUNDS)
    for i in range(1, ITERATIONS):
        before = tl.load(normalizers + (ITERATIONS - i) * PARTS, mask=real_part, other=0.0)
        plan = patch_step(start - before[None, :], parts, BOUNDS, INTERPRETED)
        grad = _back_through_part_step(grad, plan - (divided - before + share)[None, :], real_patch)
        grad = _back_through_patch_step(grad, plan, parts, BOUNDS)
        divided = before
    if ITERATIONS > 0:
        grad = _back_through_part_step(grad, start - (divided + share)[None, :], real_patch)

    # scales count in powers of two; the derivative of 2**x brings log(2)
    to_products *= scale * 0.6931471805599453
    grad *= sharpness * 0.6931471805599453
    q_pull, k_pull = tl.zeros((BLOCK_P,), tl.float32), tl.zeros((BLOCK_N,), tl.float32)
    if COSINE:
        lengths = k_lengths[:, None] * q_lengths[None, :]
        grad = grad / tl.maximum(lengths, 1e-12)
        # a longer q or k has the same cosine: what pulls along them is taken off
        along = tl.where(lengths >= 1e-12, grad * products, 0.0)
        q_pull = tl.sum(along, axis=0) / tl.maximum(q_lengths * q_lengths, 1e-37)
        k_pull = tl.sum(along, axis=1) / tl.maximum(k_lengths * k_lengths, 1e-37)
    to_products += grad
    for first in range(0, DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        q_tile = load_rows(q, parts, PARTS, q_row, dims, DIM)
        k_tile = load_rows(k, patches, PATCHES, k_row, dims, DIM)
        k_sum = _over_parts(to_products, q, q_row, dims, q_tile.dtype, PARTS, DIM, INTERPRETED)
        q_sum = dot(tl.trans(k_tile), to_products.to(k_tile.dtype), INTERPRETED)
        if COSINE:
            k_sum -= k_pull[:, None] * k_tile.to(tl.float32)
            q_sum -= q_pull[None, :] * tl.trans(q_tile).to(tl.float32)
        inside = real_patch & (dims < DIM)[None, :]
        tl.store(k_grad + patches[:, None] * row + dims[None, :], k_sum.to(k_tile.dtype), mask=inside)
        inside = (dims < DIM)[:, None] & real_part[None, :]
        tl.store(q_grad + parts[None, :] * row + dims[:, None], q_sum.to(q_tile.dtype), mask=inside)


def soft_backward_tile(parts: int, patches: int, size: int) -> dict[str, int] | None:
    """Tile sizes for elements of `size` bytes; None where they outgrow an SM.

    The half dozen tiles of scores and gradients need its registers, so the head dimension comes in the narrowest slices.
    """
    block_p, block_n = max(8, power_of_2(parts)), max(16, power_of_2(patches))
    if size * block_n * block_p > 16384:
        return None
    warps = min(16, max(4, block_n * block_p // 256))
    return {"BLOCK_P": block_p, "BLOCK_N": block_n, "BLOCK_D": 16, "num_warps": warps, "num_stages": 2}
