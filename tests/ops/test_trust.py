"""A kernel that fails, differs, regroups or is slow is not used, and one warning says so; a good one is."""

import importlib
import logging
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from aaformer_lit.ops import auto_alignment, compare, part_attention, soft_attention_weights, trust
from aaformer_lit.ops.reference import log_plans, similarity_scores
from aaformer_lit.ops.rounding import round_argmax

PARTS = [2, 3]


def faithful(queries, keys, values, *, parts, epsilon, iterations, rounding, similarity, cost):
    """What the kernel returns: the output, and for each patch the word of the parts that hold it."""
    options = {"parts": parts, "epsilon": epsilon, "iterations": iterations, "cost": cost}
    scores = similarity_scores(queries.detach(), keys.detach(), similarity)
    plans = log_plans(scores, parts, epsilon, iterations, cost)
    membership = torch.cat([round_argmax(plan) for plan in plans], dim=-2)
    words = (membership * 2 ** torch.arange(sum(parts))[:, None]).sum(dim=-2).to(torch.uint8)
    if rounding == "soft":
        return soft_attention_weights(compare(queries, keys, similarity), **options)[0] @ values, words
    return part_attention(queries, keys, values, membership), words


def raises(*_, **__):
    raise RuntimeError("PTX assembly aborted\nsecond line")


def wrong_values(*tensors, **options):
    output, words = faithful(*tensors, **options)
    return output * 1.01, words


def wrong_gradient(queries, keys, values, **options):
    output, words = faithful(queries, keys, values, **options)
    return output.detach() + 0.5 * (output - output.detach()), words


def wrong_grouping(queries, keys, values, **options):
    words = faithful(queries, keys, values, **options)[1].roll(1, dims=-1)
    membership = words[..., None, :] >> torch.arange(sum(options["parts"]))[:, None] & 1 == 1
    return part_attention(queries, keys, values, membership), words


def slow(*tensors, **options):
    time.sleep(0.1)
    return faithful(*tensors, **options)


@pytest.fixture
def use(monkeypatch):
    """Make a function the fused kernel, for tensors wherever they are."""

    def install(kernel):
        module = SimpleNamespace(
            fused_auto_alignment=kernel,
            supports=lambda *_: True,
            unpack_membership=lambda words, parts: words[..., None, :] >> torch.arange(parts)[:, None] & 1 == 1,
        )
        monkeypatch.setitem(sys.modules, "aaformer_lit.ops.fused", module)
        monkeypatch.setattr(
            importlib.import_module("aaformer_lit.ops.auto_alignment"), "prefers_kernel", lambda _: True
        )

    trust.choose_kernel("auto")
    yield install
    trust.choose_kernel("auto")


def inputs(patches=40, dim=16):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 2, rows, dim, generator=generator) for rows in (sum(PARTS), patches, patches)]


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (raises, "it failed with RuntimeError: PTX assembly aborted"),
        (wrong_values, "its output differs"),
        (wrong_gradient, "its gradient of q differs"),
        (wrong_grouping, "it regroups"),
        (slow, "where plain torch takes"),
    ],
)
def test_a_kernel_that_does_not_hold_is_left_out_with_one_warning(use, caplog, kernel, reason):
    use(kernel)
    expected = auto_alignment(*inputs(), parts=PARTS, rounding="argmax", return_membership=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found = auto_alignment(*inputs(), parts=PARTS)
    assert torch.equal(found.output, part_attention(*inputs(), expected.membership))
    assert len(caplog.records) <= 1  # the first call above may have said it already
    (verdict,) = trust.kernel_report()["verdicts"]
    assert verdict["kernel"] == "torch"
    assert reason in verdict["reason"]


def test_the_warning_names_what_to_report(use, caplog):
    use(raises)
    with caplog.at_level(logging.WARNING):
        auto_alignment(*inputs(), parts=PARTS)
        auto_alignment(*inputs(), parts=PARTS)
    (record,) = caplog.records
    assert "PTX assembly aborted. Plain torch computes the same" in record.getMessage()
    assert "second line" not in record.getMessage()


def test_a_faithful_kernel_is_used_after_one_comparison_per_kind(use, monkeypatch):
    calls = []

    def counted(*tensors, **options):
        calls.append(tensors[0].shape[0])
        return faithful(*tensors, **options)

    use(counted)
    monkeypatch.setattr(trust, "_milliseconds", lambda work, _: 1.0)  # no race between equals
    auto_alignment(*inputs(), parts=PARTS)
    first = len(calls)
    assert calls[-1] == 2  # the layer's own call, of two images
    auto_alignment(*inputs(), parts=PARTS)
    assert len(calls) == first + 1
    cost, of_images = torch.rand(sum(PARTS), 40), torch.rand(2, 1, sum(PARTS), 40)
    soft = {"rounding": "soft"}
    for kind in ({"cost": cost}, {"cost": of_images}, soft, {**soft, "cost": cost}, {**soft, "cost": of_images}):
        before = len(calls)
        auto_alignment(*inputs(), parts=PARTS, **kind)
        assert len(calls) == before + 2  # compared anew, and used
        auto_alignment(*inputs(), parts=PARTS, **kind)
        assert len(calls) == before + 3
    auto_alignment(*inputs(patches=30), parts=PARTS)
    assert [verdict["kernel"] for verdict in trust.kernel_report()["verdicts"]] == ["triton"] * 7


def test_a_kernel_that_stops_the_gradient_of_the_transport_is_left_out(use):
    """Of soft transport the gradient of the hard form, at the given plan."""

    def through_the_attention_alone(queries, keys, values, *, rounding, similarity, **options):
        _, words = faithful(queries, keys, values, rounding=rounding, similarity=similarity, **options)
        _, log_plan = soft_attention_weights(compare(queries.detach(), keys.detach(), similarity), **options)
        logits = queries @ keys.mT * queries.shape[-1] ** -0.5 + log_plan
        return logits.softmax(dim=-1) @ values, words

    use(through_the_attention_alone)
    auto_alignment(*inputs(), parts=PARTS, rounding="soft")
    (verdict,) = trust.kernel_report()["verdicts"]
    assert verdict["kernel"] == "torch"
    assert "its gradient of q differs" in verdict["reason"]


def test_the_choice_can_be_made_by_hand(use):
    use(raises)
    trust.choose_kernel("torch")
    auto_alignment(*inputs(), parts=PARTS)
    trust.choose_kernel("triton")
    with pytest.raises(RuntimeError, match="PTX assembly"):
        auto_alignment(*inputs(), parts=PARTS)
    assert trust.kernel_report() == {"kernel": "triton", "verdicts": []}


def test_the_comparison_disturbs_neither_autocast_nor_checkpointing(use, monkeypatch):
    from torch.utils.checkpoint import checkpoint

    use(faithful)
    monkeypatch.setattr(trust, "_milliseconds", lambda work, _: 1.0)
    tensors = [tensor.requires_grad_() for tensor in inputs()]

    def layer(*tensors):
        return auto_alignment(*tensors, parts=PARTS).output.square().sum()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        saved = torch.autograd.grad(checkpoint(layer, *tensors, use_reentrant=False), tensors)
        plain = torch.autograd.grad(layer(*tensors), tensors)
    (verdict,) = trust.kernel_report()["verdicts"]
    assert verdict["kernel"] == "triton"
    for found, expected in zip(saved, plain, strict=True):
        torch.testing.assert_close(found, expected)
