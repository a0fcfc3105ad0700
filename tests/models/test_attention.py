"""The MAA layer computes the same on both of its ways: the parts' attention by itself, or as rows of the whole product."""

import pytest
import torch
from timm.models.vision_transformer import Attention
from torch import nn

from aaformer_lit.assign import Gumbel, Nearest, Parsing, Placed, Sinkhorn, Stripes
from aaformer_lit.models.attention import AutoAlignedAttention

GRID = (4, 2)
LENGTH = 1 + 5 + 8  # CLS, the parts of [2, 3], the patches
ASSIGNERS = (
    Sinkhorn(),
    Sinkhorn(rounding="balanced"),
    Sinkhorn(rounding="soft"),
    Placed(0.5, rounding="soft"),
    Nearest(),
    Stripes(),
    Gumbel(),
    Parsing(),
)


def layer(assigner, head_dim=16, visibility="mutual", similarity="cosine", **options):
    torch.manual_seed(0)
    taken = Attention(2 * head_dim, num_heads=2, qkv_bias=True, **options).double()
    return AutoAlignedAttention(taken, [2, 3], assigner, similarity, visibility)


def answers(layer, sequence, **more):
    """All that the layer gives, and the gradient of the sequence and of every weight."""
    torch.manual_seed(1)  # of Gumbel's choice
    mask = torch.arange(2 * 32 * 16).view(2, 32, 16) // 64 % 3
    found = layer(sequence, GRID, mask.byte(), return_membership=True, return_scores=True, **more)
    loss = (found.sequence * torch.linspace(-1, 1, found.sequence.numel()).view_as(found.sequence)).sum()
    loss = loss + found.scores.square().sum()
    return found, torch.autograd.grad(loss, [sequence, *layer.parameters()])


@pytest.mark.parametrize("visibility", ["mutual", "isolated"])
@pytest.mark.parametrize("assigner", ASSIGNERS, ids=repr)
@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "norm_layer": nn.LayerNorm}], ids=["plain", "qk_norm"])
def test_training_and_testing_compute_the_same(assigner, visibility, options, monkeypatch):
    ours = layer(assigner, visibility=visibility, **options).train()
    sequence = torch.randn(2, LENGTH, 32, dtype=torch.float64, requires_grad=True)
    ours.training = False  # the layer alone: Gumbel draws while it is training
    expected, gradients = answers(ours, sequence)
    ours.training = True
    monkeypatch.setattr(assigner, "attend", None)  # the parts by themselves
    found, others = answers(ours, sequence)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(others, gradients)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "scaled"])
def test_every_similarity(similarity):
    ours = layer(Sinkhorn(rounding="soft"), similarity=similarity)
    sequence = torch.randn(2, LENGTH, 32, dtype=torch.float64, requires_grad=True)
    expected, gradients = answers(ours.eval(), sequence)
    found, others = answers(ours.train(), sequence)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(others, gradients)


def test_where_each_patch_is_on_the_body_reaches_the_cost_of_place():
    ours = layer(Placed(0.5, rounding="soft"))
    sequence, heights = torch.randn(2, LENGTH, 32, dtype=torch.float64, requires_grad=True), torch.rand(2, 8).double()
    expected, _ = answers(ours.eval(), sequence, heights=heights)
    found, _ = answers(ours.train(), sequence, heights=heights)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found.sequence, answers(ours, sequence)[0].sequence)


def test_a_sequence_longer_than_a_head_is_wide_is_not_multiplied_whole(monkeypatch):
    ours = layer(Sinkhorn(), head_dim=LENGTH - 1).train()
    monkeypatch.setattr(ours.assigner, "attend", None)
    with pytest.raises(TypeError, match="NoneType"):
        ours(torch.randn(2, LENGTH, 2 * (LENGTH - 1), dtype=torch.float64), GRID)


def test_dropout_spares_the_parts():
    ours = layer(Stripes(), attn_drop=0.5).train()
    ours.proj = nn.Identity()
    sequence = torch.randn(2, LENGTH, 32, dtype=torch.float64)
    first, second = (ours(sequence, GRID).sequence for _ in range(2))
    assert torch.equal(first[:, 1:6], second[:, 1:6])
    assert not torch.isclose(first[:, 6:], second[:, 6:]).all(dim=-1).any()


def test_under_autocast_it_is_float32_inside():
    ours = layer(Placed(rounding="soft")).float()
    sequence = torch.randn(2, LENGTH, 32)
    exact = ours.eval()(sequence, GRID).sequence
    with torch.autocast("cpu", torch.bfloat16):
        low, apart = ours.train()(sequence, GRID).sequence, ours.eval()(sequence, GRID).sequence
    assert low.dtype == apart.dtype == torch.bfloat16
    assert (low - exact).square().mean() <= 1.1 * (apart - exact).square().mean()
