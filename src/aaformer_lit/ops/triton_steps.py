# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# (kernels take their types from the call, not from annotations)
"""What the kernels do with the tile of one image and head: N patches, the long side, by P part queries.

Logarithms are to base 2, as the hardware has them. Padding stays finite throughout: each reduction masks what it must not
see. `BOUNDS` are the first parts of the granularities, and the number of all parts.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

SHARED_BYTES = 98304  # of shared memory for one program: what every GPU since Ampere has


def power_of_2(n: int) -> int:
    """The least one that is not below n."""
    return 1 << (n - 1).bit_length()


@triton.jit
def dot(a, b, INTERPRETED: tl.constexpr):
    if INTERPRETED:  # whose bfloat16 product is garbage
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def log2(x, INTERPRETED: tl.constexpr):
    if INTERPRETED:
        return tl.log2(x)
    return libdevice.fast_log2f(x)  # one instruction, to 2^-22; the accurate one was half of all instructions


@triton.jit
def load_rows(start, rows, ROWS: tl.constexpr, stride_row, dims, DIM: tl.constexpr):
    inside = (rows < ROWS)[:, None] & (dims < DIM)[None, :]
    return tl.load(start + rows[:, None] * stride_row + dims[None, :], mask=inside, other=0.0)


@triton.jit
def products_and_lengths(
    q, q_row, k, k_row, parts, patches,
    PARTS: tl.constexpr, PATCHES: tl.constexpr, DIM: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, COSINE: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """k.q, |q| and |k|; the lengths are 0 where no cosine needs them."""
    products = tl.zeros((BLOCK_N, BLOCK_P), tl.float32)
    q_squares = tl.zeros((BLOCK_P,), tl.float32)
    k_squares = tl.zeros((BLOCK_N,), tl.float32)
    for start in range(0, DIM, BLOCK_D):
        dims = start + tl.arange(0, BLOCK_D)
        q_tile = load_rows(q, parts, PARTS, q_row, dims, DIM)
        k_tile = load_rows(k, patches, PATCHES, k_row, dims, DIM)
        products += dot(k_tile, tl.trans(q_tile), INTERPRETED)
        if COSINE:
            q_squares += tl.sum(q_tile.to(tl.float32) * q_tile.to(tl.float32), axis=1)
            k_squares += tl.sum(k_tile.to(tl.float32) * k_tile.to(tl.float32), axis=1)
    return products, tl.sqrt(q_squares), tl.sqrt(k_squares)


@triton.jit
def compared(
    products, q_lengths, k_lengths, cost, parts, patches, sharpness, price,
    PARTS: tl.constexpr, PATCHES: tl.constexpr, COSINE: tl.constexpr,
):  # fmt: skip
    """Where the transport starts: the similarity times `sharpness`, less the cost of place, if there is one, times `price`."""
    plan = products * sharpness
    if COSINE:
        plan = plan / tl.maximum(k_lengths[:, None] * q_lengths[None, :], 1e-12)
    if cost is not None:
        inside = (patches < PATCHES)[:, None] & (parts < PARTS)[None, :]
        plan -= price * tl.load(cost + parts[None, :] * PATCHES + patches[:, None], mask=inside, other=0.0)
    return plan


@triton.jit
def of_image(cost, shares, image, parts, PARTS: tl.constexpr, PATCHES: tl.constexpr, BLOCK_P: tl.constexpr):
    """Where the image's cost starts, and the log of what each of its parts is to receive: 0, the same for all, where the cost
    is that of every image.
    """
    share = tl.zeros((BLOCK_P,), tl.float32)
    if shares is not None:
        cost += image * PARTS * PATCHES
        share = tl.load(shares + image * PARTS + parts, mask=parts < PARTS, other=0.0)
    return cost, share


@triton.jit
def part_sums(plan, real_patch, INTERPRETED: tl.constexpr):
    """Log of each part's sum over the patches; the part's step divides its column by it."""
    column = tl.where(real_patch, plan, -float("inf"))
    top = tl.max(column, axis=0)
    return top + log2(tl.sum(tl.exp2(column - top[None, :]), axis=0), INTERPRETED)


@triton.jit
def tops(plan, parts, BOUNDS: tl.constexpr):
    """For each patch and part, the greatest entry of the patch among the parts of that granularity."""
    greatest = tl.zeros_like(plan)
    for i in tl.static_range(len(BOUNDS) - 1):
        inside = ((parts >= BOUNDS[i]) & (parts < BOUNDS[i + 1]))[None, :]
        greatest = tl.where(inside, tl.max(tl.where(inside, plan, -float("inf")), axis=1)[:, None], greatest)
    return greatest


@triton.jit
def patch_step(plan, parts, BOUNDS: tl.constexpr, INTERPRETED: tl.constexpr):
    """Each patch's row divided by its sum over the parts of a granularity, for every granularity."""
    shift = tops(plan, parts, BOUNDS)
    mass = tl.exp2(plan - shift)
    for i in tl.static_range(len(BOUNDS) - 1):
        inside = ((parts >= BOUNDS[i]) & (parts < BOUNDS[i + 1]))[None, :]
        total = tl.sum(tl.where(inside, mass, 0.0), axis=1)
        shift = tl.where(inside, shift + log2(total, INTERPRETED)[:, None], shift)
    return plan - shift
