"""Pooling (Table IV): the means of the last layer's patches, and nothing else."""

import pytest
import torch

from aaformer_lit import load_model
from aaformer_lit.assign import Parsing, Sinkhorn, Stripes
from aaformer_lit.checkpoints.load import describe
from aaformer_lit.errors import ConfigError
from aaformer_lit.models import PooledViT, ViTBaseline, build_backbone
from aaformer_lit.models.pooled import pool

SIZE, GRID = (64, 32), (8, 4)


def tiny():
    torch.manual_seed(0)
    shape = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return build_backbone("vit_tiny_patch16_224", SIZE, drop_path=0.0, **shape)


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def last_layer(pictures: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return tiny().eval().forward_features(pictures)


def test_stripes_are_slow_means_over_patch_rows_and_cls_is_the_baselines():
    network = PooledViT(tiny(), parts=[2, 3]).eval()
    with torch.no_grad():
        output = network(images())
        torch.testing.assert_close(output.global_feat, ViTBaseline(tiny()).eval()(images()).global_feat)
    for i, sequence in enumerate(last_layer(images())):
        rows = sequence[1:].view(*GRID, 24)
        expected = [rows[first:last].flatten(0, 1).mean(0) for first, last in ((0, 4), (4, 8), (0, 2), (2, 5), (5, 8))]
        torch.testing.assert_close(output.part_feats[i], torch.stack(expected))


def test_parsing_pools_what_the_mask_shows_and_one_patch_for_what_it_does_not():
    mask = torch.full((2, *SIZE), 255, dtype=torch.uint8)
    mask[:, :8, :16] = 0  # the first two patches
    mask[0, 7, 7] = 1  # one pixel of the first patch
    mask[1, 56:, 24:] = 1  # the last patch
    with torch.no_grad():
        feats = PooledViT(tiny(), parts=[3], assigner=Parsing()).eval()(images(), mask).part_feats
    patches = last_layer(images())[:, 1:]
    torch.testing.assert_close(feats[:, 0], (patches[:, 0] + patches[:, 1]) / 2)
    torch.testing.assert_close(feats[:, 1], torch.stack([patches[0, 0], patches[1, 31]]))
    cls = last_layer(images())[:, :1]
    nearest = torch.cosine_similarity(cls, patches, dim=-1).argmax(dim=1)
    torch.testing.assert_close(feats[:, 2], patches[torch.arange(2), nearest])


def test_an_empty_subset_pools_to_zeros_not_to_nan():
    pooled = pool(torch.ones(1, 3, 2), torch.tensor([[[False] * 3, [True, False, True]]]))
    assert pooled.tolist() == [[[0.0, 0.0], [1.0, 1.0]]]


def test_part_losses_train_the_backbone_down_to_the_patch_embedding():
    network = PooledViT(tiny(), num_classes=4).train()
    network(images(4)).logits[:, 1:].square().sum().backward()
    assert network.backbone.patch_embed.proj.weight.grad.abs().sum() > 0
    assert network.heads.classifier.grad[1:].abs().sum() > 0


def test_membership_is_that_of_the_assigner_and_names_the_granularities():
    network = PooledViT(tiny(), parts=[2, 3]).eval()
    (membership,) = network.assignments(images())
    scores = torch.zeros(2, 1, 3, 32)
    assert torch.equal(membership[:, :, 2:], Stripes()(scores, GRID))
    assert set(network.token_groups) == {"global", "parts", "parts_2", "parts_3"}
    assert network.embed(images()).shape == (2, 6 * 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"assigner": Sinkhorn()}, "part tokens"), ({"parts": [9]}, "cannot cut 9 stripes"), ({"parts": []}, "parts")],
)
def test_what_cannot_be_pooled_is_a_config_error(options, message):
    with pytest.raises(ConfigError, match=message):
        PooledViT(tiny(), **options)


def test_load_model_builds_it_again(tmp_path):
    network = PooledViT(tiny(), parts=[2, 3], num_classes=4).eval()
    backbone = {
        "_target_": "aaformer_lit.models.build_backbone",
        "name": "vit_tiny_patch16_224",
        "image_size": list(SIZE),
    }
    backbone |= {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "drop_path": 0.0}
    assigner = {"_target_": "aaformer_lit.assign.Stripes"}
    model = {"_target_": "aaformer_lit.models.PooledViT", "parts": [2, 3], "assigner": assigner, "backbone": backbone}
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "aaformer_lit": describe(model, 4, {})}, tmp_path / "last.ckpt")
    torch.testing.assert_close(load_model(tmp_path / "last.ckpt").embed(images()), network.embed(images()))
