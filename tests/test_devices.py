"""What a GPU would refuse, found without one: tensors that were left on the CPU, and steps that wait for a number.

Torch's meta device computes shapes alone. It refuses a tensor of another device, as a GPU does, and has no number to give: what
asks for one (`item`, `if`, a mask's rows) would make the CPU wait for a GPU.
"""

import contextlib

import pytest
import torch

from aaformer_lit.assign import Everyone, Gumbel, Nearest, Parsing, Placed, Sinkhorn, Stripes
from aaformer_lit.assign.place_loss import PlaceLoss
from aaformer_lit.losses import ReIDLoss
from aaformer_lit.metrics import (
    AlignmentMeter,
    Expansion,
    KReciprocal,
    SquaredEuclidean,
    between_people,
    evaluate_retrieval,
    nearest_neighbors,
    patch_labels,
    visible_features,
)
from aaformer_lit.models import AAformer, PooledViT, TransReID, ViTBaseline, build_backbone
from aaformer_lit.structures import FeatureSet

ISOLATED = {"visibility": "isolated"}
NETWORKS = {
    "baseline": lambda backbone: ViTBaseline(backbone, num_classes=4),
    "pooled": lambda backbone: PooledViT(backbone, parts=[4], num_classes=4),
    "transreid": lambda backbone: TransReID(backbone, groups=2, num_classes=4),
    "sinkhorn": lambda backbone: AAformer(backbone, [2, 3], num_classes=4, part_pos_embed=True),
    "checkpointed": lambda backbone: AAformer(backbone, [2, 3], num_classes=4, grad_checkpointing=True),
    "joined": lambda backbone: AAformer(backbone, [2, 3], num_classes=4, descriptor="cls_mean"),
    "soft": lambda backbone: AAformer(backbone, [2, 3], Sinkhorn(rounding="soft"), 4, **ISOLATED),
    "placed": lambda backbone: AAformer(backbone, [2, 3], Placed(1.0), 4, similarity="dot"),
    "following": lambda backbone: AAformer(
        backbone, [2, 3], Placed(1.0, rounding="soft"), 4, follow_body=1, **ISOLATED
    ),
    "nearest": lambda backbone: AAformer(backbone, [2, 3], Nearest(), 4, **ISOLATED),
    "stripes": lambda backbone: AAformer(backbone, [2, 4], Stripes(), 4, **ISOLATED),
    "everyone": lambda backbone: AAformer(backbone, [2, 3], Everyone(), 4),
    "parsing": lambda backbone: AAformer(backbone, [5], Parsing(), 4),
    "gumbel": lambda backbone: AAformer(backbone, [2, 3], Gumbel(), 4),
}


def made(name):
    torch.manual_seed(0)
    return NETWORKS[name](
        build_backbone("vit_tiny_patch16_224", (64, 32), embed_dim=24, depth=2, num_heads=2, patch_size=8)
    )


@pytest.fixture
def meta(monkeypatch):
    """The meta device; autocast, which only real devices have, is none there."""
    real = torch.autocast
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda device, *args, **kwargs: contextlib.nullcontext() if device == "meta" else real(device, *args, **kwargs),
    )
    return torch.device("meta")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_stays_on_its_device_and_waits_for_nothing(name, meta):
    network = made(name).to(meta).train()
    images, pids = torch.empty(8, 3, 64, 32, device=meta), torch.empty(8, dtype=torch.long, device=meta)
    parts = torch.empty(8, 64, 32, dtype=torch.uint8, device=meta) if name == "parsing" else None
    output = network(images, parts, return_scores=True)
    terms = ReIDLoss()(output, pids)
    loss = terms["loss"]
    if output.scores:
        place = torch.empty(8, 64, 32, dtype=torch.uint8, device=meta)
        loss = loss + PlaceLoss()(output, network.granularities, network.grid, place)["loss"]
    loss.backward()
    assert {p.grad.device.type for p in network.parameters() if p.grad is not None} == {"meta"}
    assert {b.device.type for b in network.buffers()} == {"meta"}
    assert network.embed(images, parts).device.type == "meta"


def test_the_meta_device_finds_what_is_left_behind_and_what_waits(meta):
    """The test above can fail."""
    left = made("sinkhorn").to(meta)
    left.part_tokens = torch.nn.Parameter(left.part_tokens.new_zeros(1, 5, 24, device="cpu"))
    with pytest.raises((RuntimeError, NotImplementedError)):
        left(torch.empty(2, 3, 64, 32, device=meta))
    with pytest.raises(RuntimeError, match="item"):
        bool(torch.empty(3, device=meta).isfinite().all())


def people(images, seed):
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(images, 16, generator=rng)
    return FeatureSet(features, torch.arange(images) % 6 - 1, torch.arange(images) % 4)


QUERY, GALLERY = people(20, 0), people(60, 1)
MASKS = torch.arange(4 * 64 * 32).view(4, 64, 32).to(torch.uint8) % 3
TOKENS = torch.randn(12, 3, 8, generator=torch.Generator().manual_seed(2))


def alignment():
    with torch.device("cpu"):  # its tables; a callback moves them to where the network is
        meter = AlignmentMeter((2, 3), 3, 1, 2)
    meter.update([TOKENS.new_ones(4, 2, 5, 32)], patch_labels(MASKS, (8, 4)), [TOKENS.new_ones(4, 2, 5, 32)])
    return [one.nmi for one in meter.compute()]


MEASURES = {
    "retrieval": lambda: evaluate_retrieval(QUERY, GALLERY).as_dict(),
    "reranked": lambda: evaluate_retrieval(QUERY, GALLERY, rerank=KReciprocal(6, 3)).as_dict(),
    "expanded": lambda: [one.features for one in Expansion(2, 3)(QUERY, GALLERY)],
    "neighbors": lambda: nearest_neighbors(SquaredEuclidean(QUERY.features, GALLERY.features), 5),
    "stability": lambda: between_people(QUERY.features, QUERY.pids),
    "visibility": lambda: [visible_features(TOKENS, TOKENS[..., 0].abs())],
    "alignment": alignment,
}


@pytest.mark.parametrize("name", MEASURES)
def test_measures_follow_their_tensors(name):
    """Whatever they make without saying where would, with their features on a GPU, meet them from the CPU."""
    wanted = MEASURES[name]()
    with torch.device("meta"):
        found = MEASURES[name]()
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
