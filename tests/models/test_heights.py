"""Heights on the body: where they start, that they can be learnt, and which blocks go by them."""

import pytest
import torch

from aaformer_lit.assign import Placed, PlaceLoss, Sinkhorn, Stripes
from aaformer_lit.assign.placed import patch_heights
from aaformer_lit.errors import ConfigError
from aaformer_lit.models import AAformer, build_backbone
from aaformer_lit.models.heights import BodyHeights
from aaformer_lit.structures import NO_PART


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def network(follow_body: int, assigner=None, visibility="isolated") -> AAformer:
    torch.manual_seed(0)
    backbone = build_backbone("vit_tiny_patch16_224", (64, 32), depth=4, embed_dim=32, num_heads=2)
    assigner = Placed(1.0, rounding="soft") if assigner is None else assigner
    return AAformer(backbone, [2, 3], assigner, visibility=visibility, follow_body=follow_body).eval()


def cut(made: AAformer, upper: float, lower: float) -> AAformer:
    """The same network, which takes every image for this stretch of the body."""
    with torch.no_grad():
        made.heights.edges.bias.copy_(torch.tensor([upper, lower]))
    return made


def test_before_training_a_patch_is_where_the_image_has_it():
    heights = BodyHeights(8, (4, 2))(torch.randn(3, 8, 8))
    torch.testing.assert_close(heights, patch_heights((4, 2)).expand(3, -1))
    assert heights[0].tolist() == pytest.approx([0.125, 0.125, 0.375, 0.375, 0.625, 0.625, 0.875, 0.875])


def test_rows_that_say_where_they_are_can_be_read():
    """Images show a stretch of ten bands, each with a look of its own; which stretch is learnt from the patches."""
    generator = torch.Generator().manual_seed(0)
    looks = torch.randn(10, 16, generator=generator)
    head = BodyHeights(16, (5, 2))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    errors = []
    for _ in range(300):
        first = torch.randint(0, 6, (32,), generator=generator)
        bands = first[:, None] + torch.arange(5)
        patches = looks[bands].repeat_interleave(2, dim=1)
        error = (head(patches) - ((bands + 0.5) / 10).repeat_interleave(2, dim=1)).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[0] > 0.1
    assert sum(errors[-20:]) / 20 < 0.02


def test_blocks_before_it_go_by_the_image_and_the_others_by_the_body():
    images = torch.randn(2, 3, 64, 32)
    plain = network(0).assignments(images)
    followed = cut(network(2), 0.5, 1.0).assignments(images)
    for layer in (0, 1):
        assert torch.equal(plain[layer], followed[layer])
    # the lower half of the body: but for looks all of it is the second of two parts, and two thirds the third of three
    for layer in (2, 3):
        assert followed[layer][:, :, 1].float().mean() > 0.8 > plain[layer][:, :, 1].float().mean()
        assert followed[layer][:, :, 4].float().mean() > 0.5 > plain[layer][:, :, 4].float().mean()
        assert not torch.equal(plain[layer], followed[layer])


def test_where_the_image_shows_all_of_the_body_following_it_changes_little():
    images = torch.randn(4, 3, 64, 32)
    torch.testing.assert_close(network(2).embed(images), network(0).embed(images), atol=0.02, rtol=0)


def test_pictures_of_the_attention_follow_the_body_too():
    made, images = cut(network(2), 0.5, 1.0), torch.randn(2, 3, 64, 32)
    for layer in range(4):
        _, membership = made.part_attention_maps(images, layer)
        assert torch.equal(membership, made.assignments(images)[layer] > 0)


def test_heights_are_float32_under_autocast_and_reach_only_the_place_loss():
    made = network(2).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = made(torch.randn(2, 3, 64, 32))
    assert output.heights.dtype == torch.float32
    output.part_feats.square().sum().backward(retain_graph=True)
    assert made.heights.edges.weight.grad is None
    PlaceLoss().height_error(output.heights + 0.1, made.grid).backward()
    assert made.heights.edges.weight.grad.abs().sum() > 0


def test_the_height_error_is_the_mean_over_patches_in_the_image():
    place = torch.tensor([[[0, 0], [NO_PART, NO_PART], [102, 102], [204, 204]]], dtype=torch.uint8)  # 0, none, 0.4, 0.8
    heights = torch.tensor([[0.1, 0.0, 5.0, 5.0, 0.4, 0.4, 0.5, 0.8]], requires_grad=True)
    error = PlaceLoss().height_error(heights, (4, 2), place)
    assert error.item() == pytest.approx((0.1 + 0 + 0 + 0 + 0.3 + 0) / 6)
    error.backward()
    assert heights.grad[0, 2:4].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("follow_body", "assigner", "message"),
    [
        (2, Sinkhorn(), "has no cost of place"),
        (2, Stripes(), "has no cost of place"),
        (5, None, "Use 0 .none. to 4"),
        (-1, None, "follow_body=-1"),
    ],
)
def test_what_cannot_follow_is_named(follow_body, assigner, message):
    with pytest.raises(ConfigError, match=message):
        network(follow_body, assigner)


def test_heights_are_a_line_between_two_edges_read_off_the_means_of_rows():
    torch.manual_seed(0)
    heights = BodyHeights(8, (4, 3))
    torch.nn.init.normal_(heights.edges.weight)
    torch.nn.init.normal_(heights.norm.weight)
    patches = torch.randn(2, 12, 8)
    normed = torch.nn.functional.layer_norm(patches, (8,), heights.norm.weight, heights.norm.bias, heights.norm.eps)
    for image in range(2):
        rows = torch.cat([normed[image, 3 * row : 3 * row + 3].mean(dim=0) for row in range(4)])
        upper, lower = (heights.edges.weight @ rows / 32**0.5 + heights.edges.bias).tolist()
        expected = [upper + (lower - upper) * (row + 0.5) / 4 for row in range(4) for _ in range(3)]
        assert heights(patches)[image].tolist() == pytest.approx(expected, abs=1e-5)
