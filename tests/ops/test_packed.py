"""The six views of one projection against plain slices: values, gradients, and gradients where some views are unused."""

import pytest
import torch

from aaformer_lit.ops import Projections, unpack_projections

BATCH, LENGTH, HEADS, DIM = 2, 9, 3, 4
FIRST, LAST = 2, 5


def sliced(packed):
    q, k, v = packed.permute(2, 0, 3, 1, 4)
    return Projections(q, k, v, q[:, :, FIRST:LAST], k[:, :, LAST:], v[:, :, LAST:])


def packed(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(BATCH, LENGTH, 3, HEADS, DIM, dtype=dtype, requires_grad=True)


def test_views_are_the_slices():
    projection = packed()
    for ours, theirs in zip(unpack_projections(projection, FIRST, LAST), sliced(projection), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() == theirs.data_ptr()  # nothing was copied


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("used", [(0, 1, 2, 3, 4, 5), (0, 1, 2), (3, 4, 5), (1, 3), (2, 5)])
def test_gradients_are_those_of_slices(used, dtype):
    projection = packed(dtype)

    def gradient(views):
        loss = sum(
            (views[i] * torch.linspace(-1, 1, views[i].numel(), dtype=dtype).view_as(views[i])).sum() for i in used
        )
        return torch.autograd.grad(loss, projection)[0]

    ours, theirs = gradient(unpack_projections(projection, FIRST, LAST)), gradient(sliced(projection))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
