"""Where part tokens start: each way by what it promises, computed by hand from what enters the first block."""

import pytest
import torch

from aaformer_lit.assign import Parsing
from aaformer_lit.errors import ConfigError
from aaformer_lit.models import AAformer, ViTBaseline, build_backbone
from aaformer_lit.models.part_start import start_parts

SIZE = (64, 32)  # 8 x 4 patches


def network(parts=(2, 3), **options) -> AAformer:
    torch.manual_seed(0)
    backbone = build_backbone("vit_tiny_patch16_224", SIZE, patch_size=8, embed_dim=48, depth=2, num_heads=3)
    torch.nn.init.normal_(backbone.cls_token, std=0.3)  # as in a trained network; a new one's is near 0
    return AAformer(backbone, parts=parts, **options).train()


def people(count: int = 6) -> torch.Tensor:
    """Bright above, dark below, noise over both."""
    images = torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 0.1
    images[:, :, : SIZE[0] // 2] += 3
    images[:, :, SIZE[0] // 2 :] -= 3
    return images


@torch.no_grad()
def entering(net: AAformer, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """CLS and patches of timm's own embedding."""
    sequence = net.backbone._pos_embed(net.backbone.patch_embed(images))
    return sequence[0, 0], sequence[:, 1:].view(len(images), 8, 4, -1)


def test_normal_leaves_the_tokens_as_they_are():
    net = network()
    before = net.part_tokens.detach().clone()
    start_parts(net, "normal", people())
    assert torch.equal(net.part_tokens, before)


def test_cls_is_cls_plus_what_was_drawn():
    net = network()
    drawn = net.part_tokens.detach().clone()
    start_parts(net, "cls", people())
    torch.testing.assert_close(net.part_tokens.detach() - drawn, entering(net, people())[0].expand_as(drawn))
    assert net.training, "as it was"
    assert net.part_tokens.requires_grad


def test_stripes_are_as_far_from_cls_as_it_is_long_towards_their_mean_patch():
    net = network()
    start_parts(net, "stripes", people())
    cls, patches = entering(net, people())
    rows = [(0, 4), (4, 8), (0, 2), (2, 5), (5, 8)]
    for token, (top, bottom) in zip(net.part_tokens[0].detach(), rows, strict=True):
        direction = patches[:, top:bottom].mean(dim=(0, 1, 2)) - patches.mean(dim=(0, 1, 2))
        torch.testing.assert_close(token, cls + cls.norm() * direction / direction.norm())


@pytest.mark.parametrize("sign", [1, -1])  # whichever cluster is found first
def test_kmeans_finds_the_two_halves_from_top_to_bottom(sign):
    clustered, striped = network(parts=[2]), network(parts=[2])
    start_parts(clustered, "kmeans", sign * people())
    start_parts(striped, "stripes", sign * people())
    torch.testing.assert_close(clustered.part_tokens, striped.part_tokens)


def test_parsing_parts_start_too_where_there_are_masks():
    net, plain = network(assigner=Parsing()), network()
    start_parts(net, "stripes", people(), torch.zeros(6, *SIZE, dtype=torch.uint8))
    start_parts(plain, "stripes", people())
    torch.testing.assert_close(net.part_tokens, plain.part_tokens)


@pytest.mark.parametrize("start", ["cls", "stripes", "kmeans"])
def test_parts_differ_from_each_other_in_every_granularity(start):
    net = network(parts=[2, 3])
    start_parts(net, start, people())
    distances = torch.cdist(net.part_tokens[0], net.part_tokens[0]).detach()
    for group in (distances[:2, :2], distances[2:, 2:]):
        assert group[~torch.eye(len(group), dtype=torch.bool)].min() > 1e-3


def test_what_cannot_be_is_said():
    with pytest.raises(ConfigError, match="part_start must be one of normal, cls, stripes, kmeans; got 'middle'"):
        start_parts(network(), "middle", people())


def test_a_network_without_part_tokens_is_left_as_it_is(caplog):
    backbone = build_backbone("vit_tiny_patch16_224", SIZE, patch_size=8, embed_dim=48, depth=2, num_heads=3)
    net = ViTBaseline(backbone)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with caplog.at_level("INFO"):
        start_parts(net, "cls", people())
    assert "ViTBaseline has no part tokens to start" in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
