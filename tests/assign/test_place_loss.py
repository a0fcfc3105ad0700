"""The place loss against a slow loop, and what teaches nothing."""

import dataclasses
import itertools
import math

import pytest
import torch

from aaformer_lit.assign import Placed
from aaformer_lit.assign.place_loss import PlaceLoss, patch_places
from aaformer_lit.errors import ConfigError
from aaformer_lit.models import AAformer
from aaformer_lit.structures import NO_PART


def test_the_place_loss_is_the_slow_loop():
    generator = torch.Generator().manual_seed(3)
    scores = [torch.randn(2, 2, 5, 8, generator=generator) * 0.1 for _ in range(3)]  # layers; 4 x 2 patches
    place = torch.randint(0, 255, (2, 8, 4), generator=generator).to(torch.uint8)
    place[0, 5, 3] = NO_PART  # the middle of patch (2, 1), which is (5, 3) of 8 x 4 pixels
    by_granularity = []
    for layer in scores:
        for first, parts in ((0, 2), (2, 3)):
            terms = []
            for image, head, row, column in itertools.product(range(2), range(2), range(4), range(2)):
                height = int(place[image, 2 * row + 1, 2 * column + 1])
                if height != NO_PART:
                    logits = [layer[image, head, first + i, 2 * row + column].item() / 0.05 for i in range(parts)]
                    right = int(height / 255 * parts)
                    terms.append(math.log(sum(map(math.exp, logits))) - logits[right])
            assert len(terms) == 2 * (16 - 1)
            by_granularity.append(sum(terms) / len(terms))
    loss = PlaceLoss(epsilon=0.05).score_error(scores, [2, 3], (4, 2), place)
    assert loss.item() == pytest.approx(sum(by_granularity) / 6, rel=1e-5)


def test_without_a_moved_box_a_patch_is_where_it_is():
    scores = [torch.randn(2, 2, 3, 12)]
    rows = torch.tensor([21, 63, 106, 148, 191, 233], dtype=torch.uint8)[None, :, None].expand(2, 6, 2)
    expected = PlaceLoss().score_error(scores, [3], (6, 2), rows)
    torch.testing.assert_close(PlaceLoss().score_error(scores, [3], (6, 2)), expected)


def test_patches_that_lie_in_no_image_teach_nothing():
    scores = [torch.linspace(-0.05, 0.05, 8).view(1, 1, 2, 4).requires_grad_()]  # small: no softmax is full
    place = torch.tensor([[[0, NO_PART], [200, 100]]], dtype=torch.uint8)
    assert patch_places(place, (2, 2)).isnan().tolist() == [[False, True, False, False]]
    PlaceLoss().score_error(scores, [2], (2, 2), place).backward()
    assert (scores[0].grad[..., 1] == 0).all()
    assert (scores[0].grad[..., [0, 2, 3]] != 0).all()
    assert PlaceLoss().score_error(scores, [2], (2, 2), torch.full_like(place, NO_PART)) == 0, "no patch is known"


@pytest.mark.parametrize("follow", [0, 1])
def test_the_loss_is_the_weighted_sum_of_its_terms(follow):
    torch.manual_seed(0)
    network = AAformer(
        "vit_tiny_patch16_224", [2, 3], Placed(rounding="soft"), image_size=(64, 32), follow_body=follow
    ).eval()
    output = network(torch.randn(2, 3, 64, 32), return_scores=True)
    teacher = PlaceLoss(weight=0.5, heights_weight=4.0)
    terms = teacher(output, network.granularities, network.grid)
    assert terms.keys() == {"place", "loss"} | ({"heights"} if follow else set())
    expected = 0.5 * teacher.score_error(output.scores, [2, 3], network.grid)
    if follow:
        expected = expected + 4 * teacher.height_error(output.heights + 0.1, network.grid)
        terms = teacher(dataclasses.replace(output, heights=output.heights + 0.1), network.granularities, network.grid)
        assert terms["heights"].item() == pytest.approx(0.1, rel=1e-5)  # untrained, each patch is where it is
    torch.testing.assert_close(terms["loss"], expected)


def test_wrong_settings_of_the_place_loss_are_named():
    with pytest.raises(ConfigError, match="weight=-1"):
        PlaceLoss(weight=-1)
