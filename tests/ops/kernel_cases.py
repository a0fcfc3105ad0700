"""What the fused kernel must satisfy, on a CUDA device or, with TRITON_INTERPRET=1, in Triton's interpreter.

Not collected by itself: `test_triton_kernel.py` runs it in a process of its own, because Triton reads TRITON_INTERPRET
when it is first imported.

The grouping is discontinuous, so the comparison has two halves. Groupings must be equal wherever the reference decides by
more than rounding error (`decided`). Outputs and gradients are compared with Eq. 2 in float64 at the kernel's own grouping;
of soft transport, which is continuous, with plain torch in float64.
"""

import importlib
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from aaformer_lit.ops import (
    auto_alignment,
    compare,
    log_sinkhorn,
    part_attention,
    round_argmax,
    similarity_scores,
    soft_attention_weights,
    trust,
)
from aaformer_lit.ops.fused import fused_auto_alignment, supports, unpack_membership
from aaformer_lit.ops.reference import log_shares

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
ERROR = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of values and gradients of order 1
MARGIN = 1e-4
DEFAULTS = {"epsilon": 0.05, "iterations": 3, "similarity": "cosine"}


def layer_inputs(parts, *, patches=20, dim=32, batch=1, heads=2, dtype=torch.float32, seed=0):
    """A layer's qkv, and part queries, patch keys and patch values as slices of it."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(parts)
    qkv = torch.randn(batch, 1 + total + patches, 3, heads, dim, generator=generator)
    qkv = qkv.to(DEVICE, dtype).requires_grad_()
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return qkv, q[:, :, 1 : 1 + total], k[:, :, 1 + total :], v[:, :, 1 + total :]


def run(inputs, parts, **options):
    output, words = fused_auto_alignment(*inputs, parts=parts, **options)
    return output, unpack_membership(words, sum(parts))


def lead(plan, dim):
    """How far the greatest entry is ahead of the second."""
    if plan.shape[dim] == 1:
        return torch.full_like(plan.amax(dim=dim), torch.inf)
    first, second = plan.topk(2, dim=dim).values.unbind(dim)
    return first - second


def place_cost(parts, patches, seed=0, images=()):
    """One for all images, or with `images=(batch, 1)` one for each."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*images, sum(parts), patches, generator=generator).to(DEVICE)


def reference_grouping(q, k, parts, epsilon=0.05, iterations=3, similarity="cosine", cost=None):
    """The grouping in float64, and for each granularity of each head whether every choice in it was a clear one."""
    scores = similarity_scores(q.double(), k.double(), similarity)
    scores = (scores if cost is None else scores - cost) / epsilon
    # float32 scores of size s are rounded by 6e-8 s, a few times over
    margin = MARGIN + 1e-6 * scores.abs().max()
    groups, decided = [], []
    shares = log_shares(None if cost is None else cost.double(), parts, epsilon)
    for group, share in zip(scores.split(list(parts), dim=-2), shares, strict=True):
        plan = log_sinkhorn(group, 1.0, iterations, share)
        members = round_argmax(plan)
        owned = plan.argmax(dim=-2, keepdim=True) == torch.arange(group.shape[-2], device=plan.device)[:, None]
        clear_owners = (lead(plan, -2) > margin).all(dim=-1)
        clear_fills = ((lead(plan, -1) > margin) | owned.any(dim=-1)).all(dim=-1)
        groups.append(members)
        decided.append((clear_owners & clear_fills)[..., None].expand(*clear_owners.shape, group.shape[-2]))
    return torch.cat(groups, dim=-2), torch.cat(decided, dim=-1)


def assert_close(actual, expected, dtype, more=0.0):
    error = (actual.double() - expected.double()).abs().max().item()
    size = max(1.0, expected.abs().max().item())
    assert error <= (ERROR[dtype] + more) * size, f"{error:.2e} beside values of {size:.2g}"


def check(
    parts,
    dtype=torch.float32,
    seed=0,
    patches=20,
    dim=32,
    batch=1,
    heads=2,
    soft=False,
    placed=False,
    followed=False,
    **options,
):
    """The whole contract for one case; returns the share of heads whose grouping the reference decides clearly."""
    images = (batch, 1) if followed else ()
    cost = options["cost"] = place_cost(parts, patches, seed, images) if placed or followed else None
    qkv, *inputs = layer_inputs(parts, patches=patches, dim=dim, batch=batch, heads=heads, dtype=dtype, seed=seed)
    rounding = "soft" if soft else "argmax"
    assert supports(*inputs, rounding, cost)
    output, membership = run(inputs, parts, rounding=rounding, **options)
    expected_membership, decided = reference_grouping(*inputs[:2], parts, **options)
    assert torch.equal(membership & decided[..., None], expected_membership & decided[..., None])

    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected, more = part_attention(*exact, membership), 0.0
    if soft:
        how = DEFAULTS | options | {"cost": None if cost is None else cost.double()}
        compared = compare(*exact[:2], how.pop("similarity"))
        weights, _ = soft_attention_weights(compared, parts=parts, **how)
        expected = weights @ exact[2]
        greatest = similarity_scores(*exact[:2], options.get("similarity", "cosine")).abs().max().item()
        more = trust.SOFT_ERROR * greatest / options.get("epsilon", 0.05)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)
    grads = torch.autograd.grad(output, inputs, direction, retain_graph=True)
    assert output.dtype == dtype
    assert_close(output, expected, dtype, more)
    for grad, reference in zip(grads, torch.autograd.grad(expected, exact, direction.double()), strict=True):
        assert grad.dtype == dtype
        assert_close(grad, reference, dtype, more)
    (whole,) = torch.autograd.grad(output, qkv, direction)
    assert whole.shape == qkv.shape
    return decided.double().mean().item()


@settings(max_examples=24, deadline=None, derandomize=True, database=None)
@given(
    parts=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    patches=st.integers(1, 40),
    dim=st.sampled_from([16, 32, 40, 48, 64, 80]),
    batch=st.integers(1, 2),
    heads=st.integers(1, 2),
    dtype=st.sampled_from(list(ERROR)),
    similarity=st.sampled_from(["cosine", "dot", "scaled"]),
    iterations=st.integers(0, 5),
    soft=st.booleans(),
    placed=st.booleans(),
    epsilon=st.sampled_from([0.05, 0.5]),
    seed=st.integers(0, 10**6),
)
def test_any_shape_any_option(**case):
    check(**case)


@pytest.mark.parametrize("dtype", list(ERROR), ids=str)
@pytest.mark.parametrize("soft", [False, True], ids=["argmax", "soft"])
def test_the_layer_of_a_vit_base(dtype, soft):
    assert check([2, 3], dtype, patches=128, dim=64, batch=2, soft=soft, placed=soft) > 0.7


@pytest.mark.parametrize("iterations", range(6))
@pytest.mark.parametrize("similarity", ["cosine", "dot", "scaled"])
def test_soft_transport_after_any_iteration(iterations, similarity):
    check([2, 3], patches=11, dim=16, soft=True, iterations=iterations, similarity=similarity)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_each_image_may_have_a_cost_and_shares_of_its_own(soft, iterations):
    check([2, 3], patches=11, dim=16, batch=3, soft=soft, followed=True, iterations=iterations)


@pytest.mark.parametrize("images", [(), (1, 1)])
def test_the_soft_gradient_is_the_slope_of_the_values(images):
    """Central differences of the kernel's own values along one direction in q, k and v at once."""
    _, *inputs = layer_inputs([2, 3], patches=9, dim=16)
    leaves = [x.detach().requires_grad_() for x in inputs]
    options = {"rounding": "soft", "epsilon": 0.3, "cost": place_cost([2, 3], 9, images=images)}
    output, _ = run(leaves, [2, 3], **options)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    for moved in range(3):
        (grad,) = torch.autograd.grad((output * weight).sum(), leaves[moved], retain_graph=True)
        way = torch.nn.functional.normalize(grad.flatten(), dim=0).view_as(grad)  # the steepest has the most to say
        ends = []
        for step in (-0.02, 0.02):
            there = [x.detach() + step * way if i == moved else x.detach() for i, x in enumerate(leaves)]
            ends.append((run(there, [2, 3], **options)[0].double() * weight).sum().item())
        assert (ends[1] - ends[0]) / 0.04 == pytest.approx(grad.norm().item(), rel=5e-3)


@pytest.mark.parametrize(
    ("parts", "patches", "dim"),
    [([2, 3], 576, 64), ([2, 3], 1024, 32), ([16], 200, 128), ([15, 16], 33, 96), ([8], 300, 48), ([9], 130, 80)],
)
def test_large_tiles_and_slices_of_the_head(parts, patches, dim):
    check(parts, patches=patches, dim=dim, batch=1, heads=1)


def test_most_groupings_of_ordinary_inputs_are_clear():
    """Else the comparison of groupings above would excuse everything."""
    assert check([2, 3], patches=40, heads=6) > 0.9


def test_zero_iterations_are_the_nearest_part():
    _, q, k, v = layer_inputs([4])
    _, membership = run((q, k, v), [4], iterations=0, similarity="dot")
    nearest = (q @ k.mT).argmax(dim=-2)
    assert membership.gather(2, nearest[:, :, None]).all()


def test_ties_go_to_the_lowest_part_and_patch():
    """All scores equal: one part of each granularity takes everything, the empty others take patch 0."""
    _, *inputs = layer_inputs([2, 3], patches=5)
    _, membership = run([torch.zeros_like(x) for x in inputs], [2, 3])
    everything, first = [True] * 5, [True] + [False] * 4
    expected = torch.tensor([everything, first, everything, first, first], device=DEVICE)
    assert torch.equal(membership, expected.expand_as(membership))


def test_a_part_that_nobody_wants_takes_its_heaviest_patch():
    """Keys all point to part 0; part 1, opposite, gets the one that points there least. Padding is no candidate."""
    _, q, k, v = layer_inputs([2], patches=5, heads=1)
    q, k = torch.ones_like(q) * torch.tensor([[1.0], [-1.0]], device=DEVICE), k.abs()
    _, membership = run((q, k, v), [2], iterations=0, similarity="dot")
    assert membership[:, :, 0].all()
    assert torch.equal(membership[:, :, 1].int().argmax(dim=-1), k.sum(dim=-1).argmin(dim=-1))
    assert membership[:, :, 1].sum() == 1


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("size", [1e4, 1e-30, 0.0])
def test_extreme_scores_stay_finite_in_the_soft_form(size, similarity):
    qkv, q, k, v = layer_inputs([2, 3])
    output, _ = run((q * size, k, v), [2, 3], rounding="soft", similarity=similarity)
    assert torch.isfinite(output).all()
    assert torch.isfinite(torch.autograd.grad(output.sum(), qkv)[0]).all()


@pytest.mark.parametrize("size", [1e4, 1e-30])
def test_extreme_scores_stay_finite(size):
    qkv, q, k, v = layer_inputs([2, 3])
    output, membership = run((q * size, k, v), [2, 3], similarity="dot")
    expected, decided = reference_grouping(q * size, k, [2, 3], similarity="dot")
    assert torch.equal(membership & decided[..., None], expected & decided[..., None])
    assert torch.isfinite(output).all()
    assert torch.isfinite(torch.autograd.grad(output.sum(), qkv)[0]).all()


def test_float32_queries_beside_half_precision_values():
    """A normalized q and k under autocast: float32, where v is not."""
    _, q, k, v = layer_inputs([2, 3])
    exact = [x.detach() for x in (q, k, v.half())]
    inputs = [x.clone().requires_grad_() for x in exact]
    output, membership = run(inputs, [2, 3])
    assert output.dtype == torch.float16
    wide = [x.double().requires_grad_() for x in exact]
    expected = part_attention(*wide, membership)
    output.sum().backward()
    expected.sum().backward()
    assert_close(output, expected, torch.float16)
    for mine, reference in zip(inputs, wide, strict=True):
        assert mine.grad.dtype == mine.dtype
        assert_close(mine.grad, reference.grad, torch.float16)


def test_any_strides():
    """Transposed memory, a gradient without strides (that of a sum), and contiguous tensors give the same."""
    _, *inputs = layer_inputs([2, 3], batch=2)
    results = []
    for view in (
        lambda x: x.contiguous(),
        lambda x: x.mT.contiguous().mT,
        lambda x: x.transpose(0, 2).clone().transpose(0, 2),
    ):
        leaves = [view(x.detach()).requires_grad_() for x in inputs]
        output, _ = run(leaves, [2, 3])
        results.append((output, *torch.autograd.grad(output.sum(), leaves)))
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck looks at it
def test_torch_finds_the_operators_well_formed():
    """Schema, fake shapes and strides, autograd registration, AOT dispatch."""
    _, *inputs = layer_inputs([2, 3], patches=9)
    transport = ([2, 3], 0.05, 3, "cosine")
    operators = torch.ops.aaformer_lit
    leaves = [x.detach().requires_grad_() for x in inputs]
    inputs = [x.detach() for x in inputs]
    of_images = place_cost([2, 3], 9, images=(1, 1)), torch.zeros(1, 5, device=DEVICE)
    for (cost, shares), soft in (((None, None), False), ((place_cost([2, 3], 9), None), True), (of_images, True)):
        torch.library.opcheck(operators.auto_alignment.default, (*leaves, cost, shares, *transport, soft))
        output, words, normalizers = operators.auto_alignment(*inputs, cost, shares, *transport, soft)
        if soft:
            arguments = (output, *inputs, cost, shares, normalizers, *transport)
            torch.library.opcheck(operators.soft_alignment_backward.default, arguments)
        else:
            arguments = (output, *inputs, output, words, normalizers)
            torch.library.opcheck(operators.auto_alignment_backward.default, arguments)


@pytest.fixture
def front_door(monkeypatch):
    """`auto_alignment`, sent to the kernel wherever the tensors are."""
    module = importlib.import_module("aaformer_lit.ops.auto_alignment")
    monkeypatch.setattr(module, "prefers_kernel", lambda queries: True)
    trust.choose_kernel("triton")  # the interpreter is never faster than plain torch
    yield auto_alignment
    trust.choose_kernel("auto")


def layer(qkv, align=auto_alignment, **options):
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return align(q[:, :, 1:6], k[:, :, 6:], v[:, :, 6:], parts=[2, 3], **options)


@pytest.mark.parametrize("images", [(), (2, 1)])
@pytest.mark.parametrize("rounding", ["argmax", "soft"])
def test_the_front_door_takes_the_kernel(front_door, rounding, images):
    _, *inputs = layer_inputs([2, 3], batch=2)
    options = {"parts": [2, 3], "rounding": rounding, "cost": place_cost([2, 3], 20, images=images)}
    output, membership = front_door(*inputs, return_membership=True, **options)
    expected, expected_membership = run(inputs, **options)
    assert torch.equal(output, expected)
    assert torch.equal(membership, expected_membership)
    assert front_door(*inputs, **options).membership is None


@pytest.mark.parametrize(
    ("parts", "patches", "dim", "dtype", "rounding"),
    [
        ([2, 3], 20, 32, torch.float32, "balanced"),
        ([2, 3], 20, 32, torch.float64, "argmax"),
        ([2, 3], 20, 160, torch.float32, "argmax"),
        ([16, 16], 20, 32, torch.float32, "argmax"),
        ([2], 3000, 32, torch.float32, "argmax"),
        ([2, 3], 1025, 16, torch.float16, "soft"),
    ],
)
def test_the_front_door_keeps_the_rest_in_plain_torch(front_door, monkeypatch, parts, patches, dim, dtype, rounding):
    def refuse(*_, **__):
        raise AssertionError("the kernel was asked")

    monkeypatch.setattr("aaformer_lit.ops.fused.fused_auto_alignment", refuse)
    _, *inputs = layer_inputs(parts, patches=patches, dim=dim, dtype=dtype, batch=1, heads=1)
    output = front_door(*inputs, parts=parts, rounding=rounding).output
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("rounding", ["argmax", "soft"])
def test_compiles_as_one_graph_for_any_number_of_patches(front_door, rounding):
    backend = "inductor" if DEVICE == "cuda" else "aot_eager"
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=backend)
    for patches in (20, 24):
        qkv, *_ = layer_inputs([2, 3], patches=patches)
        output, membership = compiled(qkv, return_membership=True, rounding=rounding)
        expected, expected_membership = layer(qkv, return_membership=True, rounding=rounding)
        assert torch.equal(membership, expected_membership)
        torch.testing.assert_close(output, expected)
        grad, reference = (torch.autograd.grad(x.square().sum(), qkv)[0] for x in (output, expected))
        torch.testing.assert_close(grad, reference)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_hands_over_half_precision(front_door, dtype):
    qkv, *_ = layer_inputs([2, 3])
    projection = torch.eye(32, device=DEVICE)
    with torch.autocast(DEVICE, dtype=dtype):
        output = layer(torch.nn.functional.linear(qkv, projection)).output
    assert output.dtype == dtype
    rounded = qkv.detach().to(dtype).requires_grad_()
    expected = layer(rounded).output
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    output.float().sum().backward()
    expected.float().sum().backward()
    assert_close(qkv.grad, rounded.grad, dtype)


@pytest.mark.parametrize("rounding", ["argmax", "soft"])
def test_gradient_checkpointing_changes_nothing(front_door, rounding):
    def loss(qkv):
        return layer(qkv, rounding=rounding).output.square().sum()

    qkv, *_ = layer_inputs([2, 3])
    plain = torch.autograd.grad(loss(qkv), qkv)[0]
    saved = checkpoint(loss, qkv, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(saved, qkv)[0], plain, rtol=0, atol=0)


def test_inputs_without_gradient_need_none(front_door):
    """A frozen projection: only what requires a gradient gets one."""
    _, *inputs = layer_inputs([2, 3])
    q, k, v = (x.detach() for x in inputs)
    q.requires_grad_()
    front_door(q, k, v, parts=[2, 3]).output.sum().backward()
    assert q.grad is not None
    assert k.grad is None
    with torch.no_grad():
        assert not front_door(q, k, v, parts=[2, 3]).output.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", list(ERROR), ids=str)
@pytest.mark.parametrize(
    ("parts", "patches", "dim"),
    [([2, 3], 128, 64), ([2, 3], 576, 64), ([2, 3, 4], 1024, 64), ([2, 3], 210, 80), ([31], 128, 128), ([6], 128, 96)],
)
@pytest.mark.parametrize("soft", [False, True], ids=["argmax", "soft"])
def test_full_size_on_a_gpu(dtype, parts, patches, dim, soft):
    if not supports(*layer_inputs(parts, patches=patches, dim=dim, dtype=dtype)[1:], "soft" if soft else "argmax"):
        pytest.skip("plain torch's")
    check(parts, dtype, patches=patches, dim=dim, batch=8, heads=12, soft=soft, placed=soft)
