"""The comparison tells a faithful file, one that rounds otherwise, and a wrong one apart."""

import pytest
import torch

from aaformer_lit.assign import Parsing, Sinkhorn
from aaformer_lit.data.image_transform import ImageTransform
from aaformer_lit.deploy import Bounds, Deployed, compare, probe_images
from aaformer_lit.deploy.compare import flipped_share, rank_agreement, token_deviation
from aaformer_lit.deploy.deployed import Outputs, check_traceable
from aaformer_lit.errors import ConfigError, ExportError
from aaformer_lit.models import AAformer, ViTBaseline, build_backbone

SIZE = (32, 16)


def network(kind=AAformer, **arguments):
    torch.manual_seed(0)
    backbone = build_backbone("vit_tiny_patch16_224", SIZE, embed_dim=24, depth=2, num_heads=3, patch_size=8)
    return kind(backbone, num_classes=3, **arguments).eval()


@pytest.fixture
def deployed():
    return Deployed(network())


@pytest.fixture(scope="module")
def probes():
    transform = ImageTransform(SIZE)
    return {kind: [transform(one.numpy()) for one in images] for kind, images in probe_images(16, SIZE).items()}


def test_outputs_are_what_embed_gives(deployed):
    images = torch.randn(3, 3, *SIZE)
    features, assignments = deployed.outputs(images)
    with torch.no_grad():
        torch.testing.assert_close(features, deployed.network.embed(images), atol=0, rtol=0)
        torch.testing.assert_close(assignments, torch.stack(deployed.network.assignments(images)), atol=0, rtol=0)


def test_given_assignments_are_taken_and_forgotten(deployed):
    images = torch.randn(3, 3, *SIZE)
    own = deployed.outputs(images)
    turned = own.assignments.roll(1, dims=-1)
    other = deployed.outputs(images, turned)
    assert torch.equal(other.assignments, turned)
    assert (other.features - own.features).abs().max() > 1e-3
    again = deployed.outputs(images)
    assert torch.equal(again.features, own.features)
    assert torch.equal(deployed.outputs(images, own.assignments).features, own.features)


def test_a_soft_network_is_a_graph_and_needs_no_equal_assignments():
    images = torch.randn(3, 3, *SIZE)
    soft = Deployed(network(assigner=Sinkhorn(rounding="soft")))
    check_traceable(soft.network)
    own = soft.outputs(images)
    assert torch.equal(soft.outputs(images, own.assignments.roll(1, dims=-1)).features, own.features)
    with torch.no_grad():
        features, assignments = torch.export.export(soft, (images,)).module()(images)
    torch.testing.assert_close(features, own.features)
    assert torch.equal(assignments, own.assignments)


def test_a_faithful_file(deployed, probes):
    comparison = compare(deployed, deployed.outputs, probes)
    assert comparison.problem(Bounds(0, 0, 1, 0, True)) is None
    everything = comparison.as_dict()["all"]
    assert everything["images"] == 16
    assert everything["deviation_as_they_are"] == {"cls": 0, "parts": 0, "features": 0}
    assert comparison.rank_lists["same_throughout"] == 1


def test_a_file_that_rounds_otherwise_is_faithful_at_equal_assignments(deployed, probes):
    """It gives one patch of every second image to the other part; all else follows from that."""

    def run(images):
        own = deployed.outputs(images).assignments.clone()
        own[0, ::2, 0, :2, 3] = ~own[0, ::2, 0, :2, 3]
        return deployed.outputs(images, own)

    comparison = compare(deployed, run, probes)
    assert comparison.problem(Bounds.of("fp32", max_flipped=0.1, min_top_k=0.5)) is None
    # 2 layers, 3 heads, 2 granularities, 8 patches
    torch.testing.assert_close(comparison.flipped.unique(), torch.tensor([0, 1 / 96]))
    summary = comparison.as_dict()["all"]
    assert summary["deviation_where_assignments_agree"]["parts"] == 0
    assert summary["deviation_at_equal_assignments"]["parts"] == 0
    assert summary["deviation_as_they_are"]["parts"] > 1e-4
    assert "to another part" in comparison.problem(Bounds.of("fp32"))


def test_ties_of_one_color_are_no_mistake(deployed, probes):
    def run(images):
        own = deployed.outputs(images).assignments.clone()
        if images[0].std(dim=(1, 2)).max() < 1e-6:
            own[:, :, :, :2] = own[:, :, :, :2].flip(3)
        return deployed.outputs(images, own)

    comparison = compare(deployed, run, probes)
    assert comparison.problem(Bounds.of("fp32")) is None
    kinds = comparison.as_dict()["kinds"]
    assert {kind for kind in kinds if kinds[kind]["flipped_assignments"]} == {"black", "white", "constant"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda f: f + 1e-3, "at equal assignments"),
        (lambda f: f * 1.01, "at equal assignments"),
        (lambda f: torch.cat([f[:, :24] * 0.9, f[:, 24:]], dim=1), "at equal assignments"),
        (lambda f: f.clone().fill_(torch.nan), "not finite (black)"),
    ],
)
def test_a_wrong_file(deployed, probes, change, problem):
    def run(images):
        features, assignments = deployed.outputs(images)
        return Outputs(change(features), assignments)

    assert problem in compare(deployed, run, probes).problem(Bounds.of("fp32"))


def test_a_file_that_fails_on_one_kind_of_image(deployed, probes):
    def run(images):
        features, assignments = deployed.outputs(images)
        return Outputs(features if images.std() > 0 else -features, assignments)

    assert "(black)" in compare(deployed, run, probes).problem(Bounds.of("fp32"))


def test_a_file_that_finds_other_people(deployed, probes):
    def run(images):
        features, assignments = deployed.outputs(images)
        noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(0)) / features.shape[1] ** 0.5
        return Outputs(features + noise, assignments)

    comparison = compare(deployed, run, probes)
    assert "are the network's (people)" in comparison.problem(Bounds(1, 1, 0.95, 1, False))
    assert comparison.agreement["people"].top_k < 0.95


def test_fewer_bits_are_judged_on_people_alone(deployed, probes):
    def run(images):
        features, assignments = deployed.outputs(images)
        return Outputs(features if images.std() > 0 else -features, assignments)

    comparison = compare(deployed, run, probes)
    assert comparison.problem(Bounds.of("fp16")) is None
    assert comparison.problem(Bounds.of("fp32")) is not None


def test_where_there_are_photos_fewer_bits_are_judged_on_them_alone(deployed, probes):
    """int8 is calibrated on them, and drawn people are unlike them."""
    drawn = {"people": probes["people"]}
    photos = drawn | {
        "own images": [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(8)]
    }

    def spoils(images_of):
        def run(images):
            features, assignments = deployed.outputs(images)
            spoilt = any(torch.equal(images[0], image) for image in images_of)
            return Outputs(-features if spoilt else features, assignments)

        return run

    fewer, all_bits = Bounds.of("int8"), Bounds.of("fp32")
    on_drawn = compare(deployed, spoils(drawn["people"]), photos, batch_size=1)
    assert on_drawn.problem(fewer) is None
    assert "(people)" in on_drawn.problem(all_bits)
    assert "(own images)" in compare(deployed, spoils(photos["own images"]), photos, batch_size=1).problem(fewer)
    assert "(people)" in compare(deployed, spoils(drawn["people"]), drawn, batch_size=1).problem(fewer)


def test_a_network_without_assignments(probes):
    deployed = Deployed(network(ViTBaseline))
    assert deployed.outputs(torch.zeros(1, 3, *SIZE)).assignments is None
    summary = compare(deployed, deployed.outputs, probes).as_dict()["all"]
    assert summary["deviation_as_they_are"]["parts"] is None
    assert summary["flipped_assignments"] == 0


def test_flips_are_counted_per_granularity():
    wanted = torch.zeros(1, 2, 1, 5, 4, dtype=torch.bool)
    wanted[:, :, :, [0, 2]] = True
    found = wanted.clone()
    found[0, 1, 0, 0, 2], found[0, 1, 0, 1, 2] = False, True  # image 1, first granularity: one patch of four moved
    torch.testing.assert_close(flipped_share(found, wanted, [2, 3]), torch.tensor([0, 1 / 8]))


def test_deviation_of_tokens_does_not_depend_on_their_length():
    wanted = torch.tensor([[3.0, 4.0, 30.0, 40.0]])
    torch.testing.assert_close(token_deviation(wanted * 5, wanted, 2), torch.zeros(1, 2, dtype=torch.double))
    turned = torch.tensor([[3.0, 4.0, 40.0, 30.0]])
    torch.testing.assert_close(token_deviation(turned, wanted, 2), torch.tensor([[0.0, 0.2]]).double())


def test_rank_lists_of_swapped_neighbors():
    wanted = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0], [11.0], [13.0], [16.0]])
    assert rank_agreement(wanted, wanted)["same_throughout"] == 1
    found = wanted.clone()
    found[5], found[6] = 13.0, 11.0
    # query 4 (at 10) now meets 6 before 5; query 0 meets them fourth and fifth
    agreement = rank_agreement(found, wanted, depth=3)
    assert agreement["same_first"] == 0.5
    assert agreement["same_first_3"] == 0.5
    assert agreement["same_throughout"] == 0


def test_probes_are_different_images_of_every_kind():
    probes = probe_images(32, SIZE)
    assert {kind: len(images) for kind, images in probes.items()} == {
        "black": 1, "white": 1, "constant": 4, "saturated": 4, "noise": 4, "people": 18,
    }  # fmt: skip
    flat = [tuple(image.flatten().tolist()) for images in probes.values() for image in images]
    assert len(set(flat)) == 32
    assert set(probes["saturated"][0].unique().tolist()) == {0, 255}
    assert all(image.std(dim=(0, 1), correction=0).max() == 0 for image in torch.stack(probes["constant"]).float())
    assert len({image.shape for images in probe_images(8, SIZE, any_size=True).values() for image in images}) > 3
    with pytest.raises(ConfigError, match="8 images or more"):
        probe_images(7, SIZE)


def test_networks_that_are_no_graph_of_images():
    with pytest.raises(ExportError, match=r"body-part mask .* format=safetensors"):
        check_traceable(network(parts=[3], assigner=Parsing()))
    with pytest.raises(ExportError, match="rounding=balanced"):
        check_traceable(network(assigner=Sinkhorn(rounding="balanced")))
