"""Attention taken over from timm computes what timm's does, of every timm that is allowed."""

import pytest
import torch
from timm.models.vision_transformer import Attention
from torch import nn

from aaformer_lit.errors import ConfigError
from aaformer_lit.models import AAformer, ViTBaseline, build_backbone
from aaformer_lit.models.plain_attention import PlainAttention


def timms(**options):
    torch.manual_seed(0)
    return Attention(24, num_heads=3, qkv_bias=True, **options).eval()


@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "norm_layer": nn.LayerNorm}], ids=["plain", "qk_norm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_timms(options, dtype):
    theirs = timms(**options).to(dtype)
    ours = PlainAttention(theirs)
    x = torch.randn(2, 7, 24, dtype=dtype, requires_grad=True)
    (expected,) = torch.autograd.grad(theirs(x).square().sum(), x)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(torch.autograd.grad(ours(x).square().sum(), x)[0], expected)


def test_under_autocast_it_is_as_near_to_float32_as_timms():
    theirs, x = timms(), torch.randn(4, 33, 24)
    exact = theirs(x)
    with torch.autocast("cpu", torch.bfloat16):
        ours, low = PlainAttention(theirs)(x), theirs(x)
    assert ours.dtype == low.dtype == torch.bfloat16
    assert (ours - exact).square().mean() <= 1.1 * (low - exact).square().mean()


def test_the_weights_keep_their_names():
    theirs = timms()
    assert {k: v.data_ptr() for k, v in PlainAttention(theirs).state_dict().items()} == {
        k: v.data_ptr() for k, v in theirs.state_dict().items()
    }


def test_older_timms_attention_has_neither_norm_nor_gate():
    theirs, x = timms(), torch.randn(2, 7, 24)
    expected = theirs(x)
    for newer in ("norm", "gate"):
        if hasattr(theirs, newer):
            delattr(theirs, newer)
    torch.testing.assert_close(PlainAttention(theirs)(x), expected)


def test_dropout_only_in_training():
    attention, x = PlainAttention(timms(attn_drop=0.5)), torch.randn(2, 7, 24)
    assert torch.equal(attention(x), attention(x))
    attention.train()
    assert not torch.equal(attention(x), attention(x))


def test_another_kind_of_attention_is_refused():
    class Other(Attention):
        pass

    with pytest.raises(ConfigError, match="Other"):
        PlainAttention(Other(24, num_heads=3))


def test_a_network_without_parts_keeps_another_kind_and_part_tokens_refuse_it():
    class Other(Attention):
        pass

    backbone = build_backbone("vit_tiny_patch16_224", (64, 32))
    backbone.blocks[0].attn = Other(backbone.embed_dim, num_heads=3, qkv_bias=True)
    assert type(ViTBaseline(backbone).eval().backbone.blocks[0].attn) is Other
    with pytest.raises(ConfigError, match="part tokens need timm's plain Attention; this backbone has Other"):
        AAformer(backbone)


def test_every_block_of_a_network_has_it():
    network = ViTBaseline("vit_tiny_patch16_224", image_size=(64, 32))
    assert all(type(block.attn) is PlainAttention for block in network.backbone.blocks)
