# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# (kernels take their types from the call, not from annotations)
"""Auto-alignment in one pass on a GPU (AAformer, Eq. 2-5): a Triton kernel forward and one backward.

The forward also computes soft transport, whose gradient is in `soft_kernel`; the steps that both take are in `triton_steps`.

Forward, one program per image and head: the scores of its N patches and P part queries are one tile in registers, and all
happens there, Sinkhorn of every granularity, rounding, softmax within the subsets, weighted sum of V. The plan never
exists in memory; the grouping leaves as one word per patch (a byte for up to 8 parts) whose bit p says that part p holds
the patch. Backward, one program per image and head, a walk over blocks of patches: the softmax is recomputed from q, k,
the words and the saved normalizers, so the gradient is exact at the given grouping.

Patches are the long side of every tile (parts are padded to 8, in the backward to 16), so that a step over a patch's parts
stays within four threads; logarithms and exponentials are single instructions. What this should cost is worked out in
docs/performance.md. Not yet run on a GPU.

The tile holds all patches of a head, so its size bounds N: 2,048 patches in half precision with up to 8 parts and 1,024
with up to 31 (float32: 1,024 and 512); beyond that `auto_alignment` stays in plain torch. Products of float32 are IEEE ones:
TF32 keeps 10 bits, and would regroup patches.
"""

from __future__ import annotations

import triton
import triton.language as tl

from aaformer_lit.ops.triton_steps import (
    SHARED_BYTES,
    compared,
    dot,
    load_rows,
    log2,
    of_image,
    part_sums,
    patch_step,
    power_of_2,
    products_and_lengths,
    tops,
)


@triton.jit
def _round(plan, bit, parts, patches, real_patch, BOUNDS: tl.constexpr):
    """Each patch to its heaviest part, lowest on ties; a part without patches takes its heaviest."""
    ties = tl.sum(tl.where(plan == tops(plan, parts, BOUNDS), bit[None, :], 0), axis=1)
    word = tl.zeros_like(ties)
    for i in tl.static_range(len(BOUNDS) - 1):
        granularity = ties & ((1 << BOUNDS[i + 1]) - (1 << BOUNDS[i]))
        word |= granularity & -granularity  # its lowest bit
    members = real_patch & ((word[:, None] & bit[None, :]) != 0)
    empty = tl.max(members.to(tl.int32), axis=0) == 0
    heaviest = tl.argmax(tl.where(real_patch, plan, -float("inf")), axis=0)
    return members | (empty[None, :] & (patches[:, None] == heaviest[None, :]))


@triton.jit
def forward_kernel(
    q, q_batch, q_head, q_row, k, k_batch, k_head, k_row, v, v_batch, v_head, v_row,
    cost, shares, output, words, normalizers, heads, sharpness, price, scale,
    COSINE: tl.constexpr, SOFT: tl.constexpr, ITERATIONS: tl.constexpr, BOUNDS: tl.constexpr,
    PATCHES: tl.constexpr, DIM: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    PARTS: tl.constexpr = BOUNDS[len(BOUNDS) - 1]
    # 64 bits: a batch of 4,096 images has more elements than 32 bits count
    image, head = (tl.program_id(0) // heads).to(tl.int64), (tl.program_id(0) % heads).to(tl.int64)
    parts, patches = tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_N)
    real_patch = (patches < PATCHES)[:, None]
    q += image * q_batch + head * q_head
    k += image * k_batch + head * k_head
    v += image * v_batch + head * v_head
    normalizers += (image * heads + head) * PARTS * (1 + ITERATIONS * SOFT) + parts

    cost, share = of_image(cost, shares, image, parts, PARTS, PATCHES, BLOCK_P)
    products, q_lengths, k_lengths = products_and_lengths(
        q, q_row, k, k_row, parts, patches, PARTS, PATCHES, DIM, BLOCK_P, BLOCK_N, BLOCK_D, COSINE, INTERPRETED
    )
    plan = compared(products, q_lengths, k_lengths, cost, parts, patches, sharpness, price, PARTS, PATCHES, COSINE)
    if ITERATIONS == 0:
        plan = patch_step(plan, parts, BOUNDS, INTERPRETED)
    divided = tl.zeros((BLOCK_P,), tl.float32)
    for i in range(ITERATIONS):
        sums = part_sums(plan, real_patch, INTERPRETED) - share
        plan = patch_step(plan - sums[None, :], parts, BOUNDS, INTERPRETED)
        if SOFT:
            divided += sums
            tl.store(normalizers + (1 + i) * PARTS, divided, mask=parts < PARTS)
    bit = tl.where(parts < PARTS, tl.full((BLOCK_P,), 1, tl.int32) << parts, 0)
    members = _round(plan, bit, parts, patches, real_patch, BOUNDS)
    word = tl.sum(tl.where(members, bit[None, :], 0), axis=1)
    tl.store(
        words + (image * heads + head) * PATCHES + patches, word.to(words.dtype.element_ty), mask=patches < PATCHES
    )

    if SOFT:
        logits = tl.where(real_patch, products * scale + plan, -float("inf"))
    else:
        logits = tl.where(members, products * scale, -float("inf"))
    top = tl.max(logits, axis=0)
    weights = tl.exp2(logits - top[None, :])
    total = tl.sum(weights, axis=0)
    tl.store(normalizers, top + log2(total, INTERPRETED), mask=parts < PARTS)
    weights = (weights / total[None, :]).to(v.dtype.element_ty)
    output += image * PARTS * heads * DIM + head * DIM
    for start in range(0, DIM, BLOCK_D):
        dims = start + tl.arange(0, BLOCK_D)
        tile = dot(tl.trans(load_rows(v, patches, PATCHES, v_row, dims, DIM)), weights, INTERPRETED)
        inside = (dims < DIM)[:, None] & (parts < PARTS)[None, :]
        tl.store(output + parts[None, :] * (heads * DIM) + dims[:, None], tile.to(output.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    q, q_batch, q_head, q_row, k, k_batch, k_head, k_row, v, v_batch, v_head, v_row,
    g, g_batch, g_head, g_row, o, o_batch, o_head, o_row, words, normalizers, q_grad, k_grad, v_grad, heads, scale,
    PARTS: tl.constexpr, PATCHES: tl.constexpr, DIM: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    image, head = (tl.program_id(0) // heads).to(tl.int64), (tl.program_id(0) % heads).to(tl.int64)
    parts, dims = tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_D)
    q_tile = load_rows(q + image * q_batch + head * q_head, parts, PARTS, q_row, dims, DIM)
    g_tile = load_rows(g + image * g_batch + head * g_head, parts, PARTS, g_row, dims, DIM)
    o_tile = load_rows(o + image * o_batch + head * o_head, parts, PARTS, o_row, dims, DIM)
    k += image * k_batch + head * k_head
    v += image * v_batch + head * v_head
    row = heads * DIM
    q_grad += image * PARTS * row + head * DIM
    k_grad += image * PATCHES * row + head * DIM
    v_grad += image * PATCHES * row + head * DIM

    normalizer = tl.load(normalizers + (image * heads + head) * PARTS + parts, mask=parts < PARTS, other=0.0)
    # the mean of the weights' gradient under the weights
    mean = tl.sum(g_tile.to(tl.float32) * o_tile.to(tl.float32), axis=1)
    q_sum = tl.zeros((BLOCK_D, BLOCK_P), tl.float32)
    for start in range(0, PATCHES, BLOCK_N):
        patches = start + tl.arange(0, BLOCK_N)
        k_tile = load_rows(k, patches, PATCHES, k_row, dims, DIM)
        v_tile = load_rows(v, patches, PATCHES, v_row, dims, DIM)
        word = tl.load(words + (image * heads + head) * PATCHES + patches, mask=patches < PATCHES, other=0)
        members = ((word.to(tl.int32)[:, None] >> parts[None, :]) & 1) != 0
        logits = dot(k_tile, tl.trans(q_tile), INTERPRETED) * scale
        weights = tl.exp2(tl.where(members, logits - normalizer[None, :], -float("inf")))
        weights_grad = dot(v_tile, tl.trans(g_tile), INTERPRETED)
        # `scale` counts in powers of two; the derivative of 2**x brings log(2)
        to_q = (weights * (weights_grad - mean[None, :]) * (scale * 0.6931471805599453)).to(k_tile.dtype)
        k_sum = dot(to_q, q_tile, INTERPRETED)
        v_sum = dot(weights.to(v_tile.dtype), g_tile, INTERPRETED)
        q_sum += dot(tl.trans(k_tile), to_q, INTERPRETED)
        place = patches[:, None] * row + dims[None, :]
        inside = (patches < PATCHES)[:, None] & (dims < DIM)[None, :]
        tl.store(k_grad + place, k_sum.to(k_tile.dtype), mask=inside)
        tl.store(v_grad + place, v_sum.to(v_tile.dtype), mask=inside)
    inside = (dims < DIM)[:, None] & (parts < PARTS)[None, :]
    tl.store(q_grad + parts[None, :] * row + dims[:, None], q_sum.to(q_tile.dtype), mask=inside)


def forward_tile(parts: int, patches: int, dim: int, size: int) -> dict[str, int] | None:
    """Tile sizes for elements of `size` bytes; None where the tile outgrows an SM.

    All patches are in one tile, because each part's step sums over them; the head dimension comes in slices.
    """
    block_p, block_n = max(8, power_of_2(parts)), max(16, power_of_2(patches))
    block_d = min(max(16, power_of_2(dim)), 128 // size)
    while block_d > 16 and size * block_n * (block_p + block_d) > SHARED_BYTES:
        block_d //= 2
    if size * block_n * (block_p + block_d) > SHARED_BYTES:
        return None
    warps = min(16, max(4, block_n // 64, block_n * block_p // 1024))
    return {"BLOCK_P": block_p, "BLOCK_N": block_n, "BLOCK_D": block_d, "num_warps": warps, "num_stages": 2}


def backward_tile(parts: int, dim: int, size: int) -> dict[str, int]:
    """Tile sizes of the walk over blocks of patches, small enough to keep everything in registers."""
    block_p, block_d = max(16, power_of_2(parts)), max(16, power_of_2(dim))
    block_n = min(128, max(16, 131072 // (size * block_p * block_d)))
    return {"BLOCK_P": block_p, "BLOCK_N": block_n, "BLOCK_D": block_d, "num_warps": 4, "num_stages": 4 // size}
