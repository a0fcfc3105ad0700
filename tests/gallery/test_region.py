"""Regions: how much of each part lies in one, where the parts are known, and what is refused."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from aaformer_lit.assign import Everyone, Stripes
from aaformer_lit.errors import ConfigError
from aaformer_lit.gallery import Extractor
from aaformer_lit.gallery.region import coverage, parts_in_region, weighted
from aaformer_lit.models import AAformer

WHOLE = [0, 0, 32, 64]


def extractor(world, assigner):
    """A grid of 4 x 2 patches; of the parts, two are halves and four are rows."""
    backbone = VisionTransformer(img_size=(32, 16), patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0)
    return Extractor(AAformer(backbone, [2, 4], assigner), world.about, num_workers=0, device="cpu")


@pytest.mark.parametrize(
    ("region", "overlaps"),
    [
        ([0, 0, 32, 32], [1, 0, 2 / 3, 2 / 3, 0, 0]),  # the upper half of 32 x 64 pixels: 4 patches, rows have 2
        ([0, 16, 32, 16], [2 / 3, 0, 0, 1, 0, 0]),  # the second row
        ([0, 48, 16, 16], [0, 2 / 5, 0, 0, 0, 2 / 3]),  # one of two patches: 2 * 1 / (2 + 1)
        (
            [-5, 50, 50, 90],
            [0, 2 * 1.75 / 5.75, 0, 0, 0, 2 * 1.75 / 3.75],
        ),  # over the edge; 14 of 16 lines of the last row
    ],
)
def test_each_part_weighs_as_much_as_it_and_the_region_cover_each_other(world, region, overlaps):
    found = parts_in_region(extractor(world, Stripes()), world.person(0), region)
    assert found.tolist() == pytest.approx(overlaps)


def test_weights_scale_the_parts_alone():
    descriptors = torch.arange(1.0, 13).view(2, 3, 2)
    expected = [[1, 2, 1.5, 2, 0, 0], [7, 8, 4.5, 5, 0, 0]]
    assert weighted(descriptors, torch.tensor([0.5, 0.0])).flatten(1).tolist() == expected


def test_coverage_is_the_share_of_each_patch():
    assert coverage([0, 0, 32, 64], (64, 32), (4, 2)).tolist() == [1] * 8
    covered = coverage([12, 8, 8, 24], (64, 32), (4, 2))  # x 12-20, y 8-32, patches of 16 x 16
    assert covered.tolist() == [0.125, 0.125, 0.25, 0.25, 0, 0, 0, 0]
    torch.testing.assert_close(coverage([3.5, 2, 7, 11], (50, 20), (4, 2)).sum() * 50 / 4 * 20 / 2, torch.tensor(77.0))


def test_regions_and_networks_that_cannot_be(world):
    for region, message in ([(40, 0, 5, 5), "32 x 64 pixels"], [(5, 5, 0, 9), "outside"], [(1, 2, 3), "x,y,width"]):
        with pytest.raises(ConfigError, match=message):
            parts_in_region(extractor(world, Stripes()), world.person(0), region)
    with pytest.raises(ConfigError, match="parts that divide the patches"):
        parts_in_region(extractor(world, Everyone()), world.person(0), WHOLE)
    plain = Extractor(world.network(parts=()), world.about, num_workers=0, device="cpu")
    with pytest.raises(ConfigError, match="this one has none"):
        parts_in_region(plain, world.person(0), WHOLE)
