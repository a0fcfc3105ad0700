"""Attention on a CPU is that of float32, whatever the autocast dtype."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from aaformer_lit.ops import attention


def inputs(dtype, length=9):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, length, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once_at_the_end(dtype):
    given = inputs(dtype)
    full = [x.detach().float().requires_grad_() for x in given]
    with torch.autocast("cpu", dtype=dtype):
        output = attention(*given)
    expected = scaled_dot_product_attention(*full)
    assert torch.equal(output, expected.to(dtype))
    direction = torch.linspace(-1, 1, output.numel()).view_as(output).to(dtype)
    ours = torch.autograd.grad(output, given, direction)
    for found, wanted in zip(ours, torch.autograd.grad(expected, full, direction.float()), strict=True):
        assert torch.equal(found, wanted.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_is_torchs_own(dtype):
    given = inputs(dtype)
    assert torch.equal(attention(*given), scaled_dot_product_attention(*given))


def test_all_of_the_weights_can_drop_out():
    assert (attention(*inputs(torch.float32), dropout=1.0) == 0).all()
