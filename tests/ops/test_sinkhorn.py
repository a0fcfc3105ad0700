"""Sinkhorn against the properties of Eq. 4, POT's log-domain solver and SciPy's linear assignment."""

import sys

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from aaformer_lit.assign import sinkhorn
from aaformer_lit.errors import ConfigError
from aaformer_lit.ops import log_sinkhorn, round_argmax


def scores(*shape: int, scale: float = 1.0, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * scale


@settings(max_examples=30, deadline=None)
@given(
    parts=st.integers(1, 7),
    patches=st.integers(1, 40),
    iterations=st.integers(0, 5),
    scale=st.sampled_from([1e-3, 1.0, 1e2, 1e4]),
)
def test_plan_is_finite_sums_to_one_and_columns_are_exact(parts, patches, iterations, scale):
    plan = sinkhorn(scores(2, parts, patches, scale=scale, dtype=torch.float32), iterations=iterations)
    assert torch.isfinite(plan).all()
    torch.testing.assert_close(plan.sum(dim=-2), torch.full((2, patches), 1 / patches), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(plan.sum(dim=(-2, -1)), torch.ones(2), atol=1e-4, rtol=1e-4)


def test_rows_converge_to_equal_shares():
    errors = []
    for iterations in (1, 3, 10, 100):
        plan = sinkhorn(scores(4, 3, 60, scale=0.3), iterations=iterations)
        errors.append((plan.sum(dim=-1) - 1 / 3).abs().max().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.01
    assert errors[-1] < 1e-6


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_agrees_with_pot(epsilon):
    values = scores(5, 60, scale=0.2)
    ours = sinkhorn(values, epsilon=epsilon, iterations=2000)
    marginals = np.full(5, 1 / 5), np.full(60, 1 / 60)
    theirs = ot.bregman.sinkhorn_log(*marginals, -values.numpy(), reg=epsilon, numItermax=5000, stopThr=1e-14)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)


def test_shares_of_ones_own_agree_with_pot():
    values, shares = scores(3, 40, scale=0.2), torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    ours = log_sinkhorn(values, epsilon=0.1, iterations=2000, log_shares=shares[:, None].log()).exp()
    theirs = ot.bregman.sinkhorn_log(
        shares.numpy(), np.full(40, 1 / 40), -values.numpy(), reg=0.1, numItermax=5000, stopThr=1e-14
    )
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)
    equal = torch.full((3, 1), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(log_sinkhorn(values, log_shares=equal.log()), log_sinkhorn(values))


def test_step_order_is_rows_then_columns():
    values = scores(3, 8)
    plan = (values / 0.05).exp()
    for _ in range(3):
        plan = plan / plan.sum(dim=1, keepdim=True) / 3
        plan = plan / plan.sum(dim=0, keepdim=True) / 8
    torch.testing.assert_close(sinkhorn(values, 0.05, 3), plan, atol=1e-12, rtol=1e-9)


def test_small_epsilon_approaches_the_linear_assignment():
    values = scores(3, 12, seed=3)
    # each part replicated N/P times makes equal shares a one-to-one assignment
    rows, columns = linear_sum_assignment(-np.repeat(values.numpy(), 4, axis=0))
    exact = torch.zeros(3, 12, dtype=torch.bool)
    exact[torch.from_numpy(rows // 4), torch.from_numpy(columns)] = True
    plan = sinkhorn(values, epsilon=0.01, iterations=3000)
    assert torch.equal(round_argmax(plan), exact)
    torch.testing.assert_close(plan, exact.double() / 12, atol=1e-3, rtol=0)


def test_zero_iterations_are_a_softmax_over_the_parts():
    values = scores(4, 9)
    torch.testing.assert_close(sinkhorn(values, 0.2, 0), torch.softmax(values / 0.2, dim=0) / 9)


def test_computes_in_float32_under_autocast_and_for_half_inputs():
    values = scores(4, 32, scale=50, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(log_sinkhorn(values), log_sinkhorn(values.clone()))
        assert log_sinkhorn(values.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(log_sinkhorn(values.half()), log_sinkhorn(values.half().float()))


def test_shifting_all_scores_changes_nothing():
    values = scores(3, 20)
    torch.testing.assert_close(sinkhorn(values + 7.0), sinkhorn(values), atol=1e-10, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    problems=st.integers(1, 30),
    parts=st.integers(1, 7),
    patches=st.integers(1, 400),
    iterations=st.integers(0, 20),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    width=st.floats(0, 3.0),
)
def test_the_short_way_and_the_log_domain_agree(problems, parts, patches, iterations, dtype, width):
    """Scores within 60 epsilon need one exp each; a wider batch, and one with a gradient, goes through the log domain."""
    values = (scores(problems, parts, patches).tanh() * width / 2).to(dtype)
    values.view(-1)[:1] = width / 2
    before = values.clone()
    plan = sinkhorn(values, 0.05, iterations)
    torch.testing.assert_close(plan, log_sinkhorn(values, 0.05, iterations).exp(), atol=1e-7, rtol=2e-4)
    assert torch.equal(values, before), "not in place"
    wide = torch.cat([values.view(problems, parts, patches), torch.full((1, parts, patches), 1e4, dtype=dtype)])
    torch.testing.assert_close(sinkhorn(wide, 0.05, iterations)[:-1], plan, atol=1e-7, rtol=2e-4)


def test_the_short_way_is_taken_where_it_can_be(monkeypatch):
    def unasked(*_):
        raise AssertionError("log domain")

    module = sys.modules["aaformer_lit.ops.sinkhorn"]  # `ops.sinkhorn` is the function
    monkeypatch.setattr(module, "log_sinkhorn", unasked)
    narrow = torch.tensor([[0.0, 3.0], [1.0, 2.0]])  # exactly 60 epsilon
    assert sinkhorn(narrow, 0.05).shape == (2, 2)
    with torch.no_grad():
        sinkhorn(narrow.clone().requires_grad_(), 0.05)
    for scores_, epsilon in ((narrow, 0.0499), (narrow.clone().requires_grad_(), 0.05)):
        with pytest.raises(AssertionError, match="log domain"):
            sinkhorn(scores_, epsilon)


def test_problems_far_apart_do_not_meet():
    """Each problem is shifted by its own greatest score."""
    values = torch.stack([scores(3, 9).tanh(), scores(3, 9, seed=1).tanh() + 0.9])
    torch.testing.assert_close(sinkhorn(values), torch.stack([sinkhorn(one) for one in values]))


def test_three_iterations_at_epsilon_0_05_are_the_default():
    values = scores(3, 20)
    torch.testing.assert_close(sinkhorn(values), sinkhorn(values, 0.05, 3), rtol=0, atol=0)
    assert not torch.allclose(sinkhorn(values), sinkhorn(values, 0.05, 4), rtol=1e-6)
    torch.testing.assert_close(log_sinkhorn(values), log_sinkhorn(values, 0.05, 3), rtol=0, atol=0)


def test_plan_has_a_gradient_and_none_for_an_empty_batch():
    values = scores(2, 3, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(sinkhorn(values)[0, 0, 0], values)
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0
    assert sinkhorn(torch.zeros(0, 3, 8)).shape == (0, 3, 8)


def test_strided_scores_are_read_where_they_lie():
    values = scores(4, 50, 3)
    torch.testing.assert_close(sinkhorn(values.transpose(1, 2)), sinkhorn(values.transpose(1, 2).contiguous()))


@pytest.mark.parametrize(("epsilon", "iterations"), [(0, 3), (-1, 3), (0.05, -1)])
def test_refuses_what_is_no_transport_problem(epsilon, iterations):
    with pytest.raises(ConfigError, match=r"epsilon|iterations"):
        sinkhorn(torch.zeros(2, 4), epsilon, iterations)
