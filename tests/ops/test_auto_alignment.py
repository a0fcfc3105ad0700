"""The front door against slow loops that gather K and V literally (Eq. 2-5)."""

import math
import subprocess
import sys

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aaformer_lit.assign import Assigner
from aaformer_lit.assign import Sinkhorn as SinkhornAssigner
from aaformer_lit.errors import ConfigError
from aaformer_lit.ops import auto_alignment, compare, part_attention, similarity_scores, soft_attention_weights


def slow_scores(query, keys, similarity):
    """One part's similarity to every patch, patch by patch."""
    query, keys, scores = query.detach(), keys.detach(), []
    for key in keys:
        score = sum(float(a) * float(b) for a, b in zip(query, key, strict=True))
        if similarity == "scaled":
            score /= math.sqrt(len(key))
        if similarity == "cosine":
            score /= math.sqrt(sum(float(a) ** 2 for a in query) * sum(float(b) ** 2 for b in key))
        scores.append(score)
    return scores


def slow_sinkhorn(scores, epsilon, iterations):
    """Sinkhorn-Knopp on the kernel exp(scores / epsilon) itself, row by row and column by column."""
    plan = [[math.exp(s / epsilon) for s in row] for row in scores]
    parts, patches = len(plan), len(plan[0])
    for _ in range(max(iterations, 1)):
        if iterations:
            for p in range(parts):
                total = sum(plan[p])
                plan[p] = [x / total / parts for x in plan[p]]
        for n in range(patches):
            total = sum(plan[p][n] for p in range(parts))
            for p in range(parts):
                plan[p][n] /= total * patches
    return plan


def slow_subsets(plan):
    """Which patches each part holds: heaviest part, lower on ties; an empty part takes its heaviest patch."""
    parts, patches = len(plan), len(plan[0])
    subsets = [[] for _ in range(parts)]
    for n in range(patches):
        subsets[max(range(parts), key=lambda p: (plan[p][n], -p))].append(n)
    for p in range(parts):
        if not subsets[p]:
            subsets[p] = [max(range(patches), key=lambda n: (plan[p][n], -n))]
    return subsets


def slow_attention(query, keys, values, subset):
    """Eq. 2 for one part: gather its keys and values, then ordinary attention."""
    gathered_k, gathered_v = torch.stack([keys[n] for n in subset]), torch.stack([values[n] for n in subset])
    weights = torch.softmax(gathered_k @ query / math.sqrt(len(query)), dim=0)
    return weights @ gathered_v


def slow_auto_alignment(queries, keys, values, parts, epsilon=0.05, iterations=3, similarity="cosine"):
    output = torch.zeros_like(queries)
    membership = torch.zeros(*queries.shape[:3], keys.shape[2], dtype=torch.bool)
    for b in range(queries.shape[0]):
        for h in range(queries.shape[1]):
            first = 0
            for count in parts:
                rows = [slow_scores(queries[b, h, first + p], keys[b, h], similarity) for p in range(count)]
                for p, subset in enumerate(slow_subsets(slow_sinkhorn(rows, epsilon, iterations))):
                    membership[b, h, first + p, subset] = True
                    output[b, h, first + p] = slow_attention(queries[b, h, first + p], keys[b, h], values[b, h], subset)
                first += count
    return output, membership


def head_inputs(parts, patches=12, dim=8, batch=2, heads=2, seed=0, dtype=torch.float64):
    """Part queries, patch keys and values as slices of one qkv tensor, as a layer hands them over."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(parts)
    qkv = torch.randn(batch, 1 + total + patches, 3, heads, dim, generator=generator, dtype=dtype).requires_grad_()
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return qkv, q[:, :, 1 : 1 + total], k[:, :, 1 + total :], v[:, :, 1 + total :]


@pytest.mark.parametrize("similarity", ["cosine", "dot", "scaled"])
@pytest.mark.parametrize(("parts", "iterations"), [([2, 3], 3), ([3], 0), ([1, 4], 1), ([14], 2)])
def test_values_and_gradients_are_those_of_the_loops(similarity, parts, iterations):
    epsilon = 0.05 if similarity == "cosine" else 0.5
    qkv, *inputs = head_inputs(parts)
    options = {"parts": parts, "epsilon": epsilon, "iterations": iterations, "similarity": similarity}
    output, membership = auto_alignment(*inputs, **options, return_membership=True)
    expected, expected_membership = slow_auto_alignment(*inputs, **options)
    assert torch.equal(membership, expected_membership)
    torch.testing.assert_close(output, expected)
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    torch.testing.assert_close(
        torch.autograd.grad(output, qkv, direction)[0], torch.autograd.grad(expected, qkv, direction)[0]
    )


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    patches=st.integers(1, 9),
    iterations=st.integers(0, 4),
    seed=st.integers(0, 10**6),
)
def test_front_door_is_the_assigners_way(parts, patches, iterations, seed):
    """The base class's `attend`, which gets there by scores, one plan per granularity and Eq. 2, gives the same."""
    _, *inputs = head_inputs(parts, patches=patches, seed=seed, dtype=torch.float32)
    assigner = SinkhornAssigner(iterations=iterations)
    options = {"parts": parts, "similarity": "cosine", "return_membership": True}
    output, membership = auto_alignment(*inputs, iterations=iterations, **options)
    expected, expected_membership = Assigner.attend(assigner, *inputs, grid=(patches, 1), **options)
    assert torch.equal(membership, expected_membership)
    torch.testing.assert_close(output, expected, rtol=0, atol=0)


def test_each_granularity_is_a_problem_of_its_own():
    _, q, k, v = head_inputs([2, 3])
    together = auto_alignment(q, k, v, parts=[2, 3]).output
    apart = [auto_alignment(q[:, :, rows], k, v, parts=[n]).output for rows, n in ((slice(0, 2), 2), (slice(2, 5), 3))]
    torch.testing.assert_close(together, torch.cat(apart, dim=2))


def test_one_part_is_plain_attention_over_the_patches():
    _, q, k, v = head_inputs([1])
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(auto_alignment(q, k, v, parts=[1]).output, expected)


def test_no_gradient_flows_through_the_grouping():
    """Finite differences of the output at a fixed grouping are the gradient: nothing comes from the assignment."""
    _, *inputs = head_inputs([2, 3], patches=7, dim=4, batch=1, heads=1)
    inputs = [x.detach().requires_grad_() for x in inputs]
    _, membership = auto_alignment(*inputs, parts=[2, 3], return_membership=True)
    assert torch.autograd.gradcheck(lambda *x: auto_alignment(*x, parts=[2, 3]).output, inputs)
    assert torch.autograd.gradcheck(lambda *x: part_attention(*x, membership), inputs)


def test_an_empty_subset_leaves_no_nan():
    """A part whose query is a copy of a lower one's loses every tie: it takes the one patch where its mass is greatest."""
    _, q, k, v = head_inputs([3], patches=6)
    q = q.detach().clone()
    q[:, :, 2] = q[:, :, 0]
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    output, membership = auto_alignment(q, k, v, parts=[3], return_membership=True)
    assert membership[:, :, 2].sum(dim=-1).eq(1).all()
    assert membership.sum(dim=(-2, -1)).eq(7).all(), "the patch stays with its owner"
    taken = membership[:, :, 2].int().argmax(dim=-1)
    torch.testing.assert_close(output[:, :, 2], v.gather(2, taken[..., None, None].expand(-1, -1, 1, 8))[:, :, 0])
    output.sum().backward()
    for tensor in (output, q.grad, k.grad, v.grad):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("size", [1e4, 1e-30, 0.0])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_extreme_scores_stay_finite(size, similarity):
    qkv, q, k, v = head_inputs([2, 3], dtype=torch.float32)
    output = auto_alignment(q * size, k, v, parts=[2, 3], similarity=similarity).output
    assert torch.isfinite(output).all()
    assert torch.isfinite(torch.autograd.grad(output.sum(), qkv)[0]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_groups_as_its_own_values_in_float32(dtype):
    """Autocast hands over half-precision q, k, v; scores and softmax are float32, so only the values are rounded."""
    _, *inputs = head_inputs([2, 3], patches=40, dtype=torch.float32)
    inputs = [x.to(dtype) for x in inputs]
    with torch.autocast("cpu", dtype=dtype):
        output, membership = auto_alignment(*inputs, parts=[2, 3], return_membership=True)
    expected, expected_membership = auto_alignment(*(x.float() for x in inputs), parts=[2, 3], return_membership=True)
    assert output.dtype == dtype
    assert torch.equal(membership, expected_membership)
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=4 * torch.finfo(dtype).eps)


def test_balanced_rounding_makes_equal_subsets():
    _, *inputs = head_inputs([5], patches=12)
    _, membership = auto_alignment(*inputs, parts=[5], rounding="balanced", return_membership=True)
    assert membership.sum(dim=-1).sort(dim=-1).values.eq(torch.tensor([2, 2, 2, 3, 3])).all()


def slow_soft_alignment(queries, keys, values, parts, epsilon=0.05, iterations=3, similarity="cosine"):
    """softmax(q.k / sqrt(d) + log Y*) part by part and patch by patch, with tensors for the gradient."""
    output = []
    for b in range(queries.shape[0]):
        for h in range(queries.shape[1]):
            first = 0
            for count in parts:
                k, scores = keys[b, h], []
                for p in range(count):
                    q = queries[b, h, first + p]
                    length = {"dot": 1.0, "scaled": math.sqrt(len(q))}.get(similarity)
                    scores.append([q @ one / (length or q.norm() * one.norm()) for one in k])
                plan = [[(s / epsilon).exp() for s in row] for row in scores]
                for _ in range(max(iterations, 1)):
                    if iterations:
                        plan = [[y / sum(row) / count for y in row] for row in plan]
                    totals = [sum(column) * len(k) for column in zip(*plan, strict=True)]
                    plan = [[y / total for y, total in zip(row, totals, strict=True)] for row in plan]
                for p in range(count):
                    q = queries[b, h, first + p]
                    mass = [y * (q @ one / math.sqrt(len(q))).exp() for y, one in zip(plan[p], k, strict=True)]
                    output.append(sum(m * v for m, v in zip(mass, values[b, h], strict=True)) / sum(mass))
                first += count
    return torch.stack(output).view_as(queries)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "scaled"])
@pytest.mark.parametrize(("parts", "iterations"), [([2, 3], 3), ([3], 0), ([1, 4], 1)])
def test_soft_values_and_gradients_are_those_of_the_loops(similarity, parts, iterations):
    options = {"parts": parts, "epsilon": 0.3, "iterations": iterations, "similarity": similarity}
    qkv, *inputs = head_inputs(parts, patches=6, batch=1)
    output = auto_alignment(*inputs, **options, rounding="soft").output
    expected = slow_soft_alignment(*inputs, **options)
    torch.testing.assert_close(output, expected)
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    torch.testing.assert_close(
        torch.autograd.grad(output, qkv, direction)[0], torch.autograd.grad(expected, qkv, direction)[0]
    )


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_soft_gradient_goes_through_the_transport(epsilon):
    _, *inputs = head_inputs([2, 3], patches=7, dim=4, batch=1, heads=1)
    inputs = [x.detach().requires_grad_() for x in inputs]

    def soft(*tensors):
        return auto_alignment(*tensors, parts=[2, 3], epsilon=epsilon, rounding="soft").output

    assert torch.autograd.gradcheck(soft, inputs)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_a_uniform_plan_is_plain_attention_over_the_patches(similarity):
    """An epsilon so large that the scores do not matter, or one part, which has all patches to itself."""
    for parts, epsilon in (([2, 3], 1e9), ([1], 0.05)):
        _, q, k, v = head_inputs(parts)
        output = auto_alignment(q, k, v, parts=parts, epsilon=epsilon, rounding="soft", similarity=similarity).output
        torch.testing.assert_close(output, torch.nn.functional.scaled_dot_product_attention(q, k, v))


def test_soft_weights_are_the_attention_times_pots_plan():
    _, q, k, _ = head_inputs([3], patches=20, batch=1, heads=1)
    weights, log_plan = soft_attention_weights(compare(q, k), parts=[3], epsilon=0.2, iterations=2000)
    scores = similarity_scores(q, k)[0, 0].detach().numpy()
    plan = torch.from_numpy(ot.bregman.sinkhorn_log([1 / 3] * 3, [1 / 20] * 20, -scores, reg=0.2, stopThr=1e-14))
    torch.testing.assert_close(log_plan[0, 0].exp(), plan, atol=1e-9, rtol=1e-6)
    products = plan * (q[0, 0] @ k[0, 0].T / math.sqrt(8)).exp()
    torch.testing.assert_close(weights[0, 0], products / products.sum(dim=-1, keepdim=True), atol=1e-9, rtol=1e-6)


def test_a_small_epsilon_makes_the_soft_form_the_hard_one():
    _, *inputs = head_inputs([2, 3])
    how = {"parts": [2, 3], "epsilon": 1e-4, "iterations": 0, "return_membership": True}
    soft, hard = (auto_alignment(*inputs, rounding=rounding, **how) for rounding in ("soft", "argmax"))
    assert torch.equal(soft.membership, hard.membership)
    torch.testing.assert_close(soft.output, hard.output)


def test_soft_membership_is_the_plans_argmax_and_disjoint():
    _, *inputs = head_inputs([2, 3], patches=40)
    soft, hard = (
        auto_alignment(*inputs, parts=[2, 3], rounding=rounding, return_membership=True).membership
        for rounding in ("soft", "argmax")
    )
    assert torch.equal(soft, hard)


def test_soft_is_continuous_where_hard_jumps():
    """A score on the border between two parts: the least noise regroups its patch, and moves the hard form only."""
    _, q, k, v = head_inputs([2], patches=40, batch=8, heads=6)
    q, k, v = (x.detach() for x in (q, k, v))
    noise = 1e-3 * torch.randn(k.shape, generator=torch.Generator().manual_seed(1), dtype=k.dtype)
    moved = {}
    for rounding in ("soft", "argmax"):
        before, after = (auto_alignment(q, keys, v, parts=[2], rounding=rounding).output for keys in (k, k + noise))
        moved[rounding] = (after - before).norm(dim=-1).amax().item()
    assert moved["soft"] < 0.02
    assert moved["argmax"] > 5 * moved["soft"]


@pytest.mark.parametrize("size", [1e4, 1e-30, 0.0])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_extreme_scores_stay_finite_in_the_soft_form(size, similarity):
    qkv, q, k, v = head_inputs([2, 3], dtype=torch.float32)
    output = auto_alignment(q * size, k, v, parts=[2, 3], similarity=similarity, rounding="soft").output
    assert torch.isfinite(output).all()
    assert torch.isfinite(torch.autograd.grad(output.sum(), qkv)[0]).all()


def test_soft_computes_in_float32_under_autocast():
    _, *inputs = head_inputs([2, 3], patches=40, dtype=torch.float32)
    inputs = [x.bfloat16() for x in inputs]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = auto_alignment(*inputs, parts=[2, 3], rounding="soft").output
    expected = auto_alignment(*(x.float() for x in inputs), parts=[2, 3], rounding="soft").output
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.04)


@pytest.mark.parametrize("rounding", ["soft", "argmax"])
def test_what_is_known_is_not_compared_again(rounding, monkeypatch):
    _, q, k, v = head_inputs([2, 3])
    expected = auto_alignment(q, k, v, parts=[2, 3], rounding=rounding).output
    known = compare(q, k)
    monkeypatch.setattr("aaformer_lit.ops.reference.part_products", None)  # called again, it fails
    output = auto_alignment(q, k, v, parts=[2, 3], rounding=rounding, compared=known).output
    assert torch.equal(output, expected)


def test_membership_is_returned_only_on_request():
    _, *inputs = head_inputs([2])
    assert auto_alignment(*inputs, parts=[2]).membership is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": [2, 2]}, "needs 4 part queries; got 5"),
        ({"parts": [2, 3], "similarity": "euclidean"}, "cosine, dot, scaled; got 'euclidean'"),
        ({"parts": [2, 3], "rounding": "greedy"}, "argmax, balanced, soft; got 'greedy'"),
        ({"parts": [2, 3], "epsilon": 0.0}, "epsilon > 0 and iterations >= 0; got epsilon=0.0"),
        ({"parts": [2, 3], "iterations": -1}, "epsilon > 0 and iterations >= 0; got epsilon=0.05, iterations=-1"),
    ],
)
def test_mistakes_are_named(options, message):
    _, *inputs = head_inputs([2, 3])
    with pytest.raises(ConfigError, match=message):
        auto_alignment(*inputs, **options)


def test_works_without_triton():
    program = (
        "import sys; sys.modules['triton'] = None\n"  # importing it now fails
        "import torch; from aaformer_lit.ops import auto_alignment\n"
        "print(auto_alignment(*torch.ones(3, 1, 1, 4, 8), parts=[4]).output.sum().item())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "32.0", result.stderr
