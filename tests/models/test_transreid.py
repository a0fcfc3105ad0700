"""TransReID's jigsaw patch module: who is in which group, and two branches that share all but the last block."""

import pytest
import torch

from aaformer_lit import load_model
from aaformer_lit.checkpoints.load import describe
from aaformer_lit.errors import ConfigError
from aaformer_lit.models import TransReID, ViTBaseline, build_backbone
from aaformer_lit.models.transreid import jigsaw

SIZE = (64, 32)
SHAPE = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


def tiny():
    torch.manual_seed(0)
    return build_backbone("vit_tiny_patch16_224", SIZE, drop_path=0.0, **SHAPE)


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def test_jigsaw_by_hand():
    # shifted by one: 1 2 3 4 | 5 6 7 0, then one from each half in turn
    assert jigsaw(8, shift=1, shuffle=2).tolist() == [1, 5, 2, 6, 3, 7, 4, 0]
    assert jigsaw(7, shift=0, shuffle=3).tolist() == [0, 3, 6, 1, 4, 2, 5]
    assert jigsaw(4, shift=0, shuffle=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("patches", [32, 33, 128, 210])
def test_jigsaw_loses_no_patch(patches):
    assert sorted(jigsaw(patches).tolist()) == list(range(patches))


def test_groups_by_hand():
    network = TransReID(tiny())
    expected = [
        [5, 21, 6, 22, 7, 23, 8, 24],
        [9, 25, 10, 26, 11, 27, 12, 28],
        [13, 29, 14, 30, 15, 31, 16, 0],
        [17, 1, 18, 2, 19, 3, 20, 4],
    ]
    assert [group.tolist() for group in network.members] == expected
    (membership,) = network.eval().assignments(images())
    assert [row.nonzero().flatten().tolist() for row in membership[1, 0]] == [sorted(group) for group in expected]


def test_global_branch_is_the_plain_vit_and_local_features_are_cls_of_each_group():
    network = TransReID(tiny(), groups=4).eval()
    with torch.no_grad():
        for parameter in network.local_block.parameters():
            parameter.mul_(1.1)  # no longer the block that it was copied from
        output = network(images())
        torch.testing.assert_close(output.global_feat, ViTBaseline(tiny()).eval()(images()).global_feat)
        backbone = tiny().eval()
        sequence = backbone.blocks[0](backbone._pos_embed(backbone.patch_embed(images())))
        for group in range(4):
            shuffled = sequence[:, 1:][:, jigsaw(32)][:, 8 * group : 8 * (group + 1)]
            local = network.local_norm(network.local_block(torch.cat([sequence[:, :1], shuffled], 1)))[:, 0]
            torch.testing.assert_close(output.part_feats[:, group], local, atol=1e-5, rtol=1e-5)


def test_local_features_count_a_quarter_each_at_test():
    output = TransReID(tiny(), neck_feature="before").eval()(images())
    torch.testing.assert_close(output.descriptor[:, 0], output.global_feat)
    torch.testing.assert_close(output.descriptor[:, 1:], output.part_feats / 4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_each_branch_trains_its_own_last_block_and_both_the_shared_ones(checkpointing):
    for token, own, other in ((0, "backbone.blocks.1.", "local_block."), (3, "local_block.", "backbone.blocks.1.")):
        network = TransReID(tiny(), num_classes=4, grad_checkpointing=checkpointing).train()
        network(images(4)).logits[:, token].square().sum().backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        assert all(gradients[f"{own}{key}"].abs().sum() > 0 for key in ("mlp.fc1.weight", "attn.qkv.weight"))
        assert not any(gradient.any() for name, gradient in gradients.items() if name.startswith(other))
        assert gradients["backbone.blocks.0.mlp.fc1.weight"].abs().sum() > 0


@pytest.mark.parametrize("options", [{"groups": 0}, {"groups": 33}, {"shuffle": 0}, {"shift": -1}])
def test_impossible_jigsaws_are_config_errors(options):
    with pytest.raises(ConfigError, match="groups="):
        TransReID(tiny(), **options)


def test_load_model_builds_it_again(tmp_path):
    network = TransReID(tiny(), num_classes=4).eval()
    with torch.no_grad():
        network.local_block.mlp.fc1.weight.normal_()
    backbone = {"_target_": "aaformer_lit.models.build_backbone", "name": "vit_tiny_patch16_224", "drop_path": 0.0}
    model = {"_target_": "aaformer_lit.models.TransReID", "backbone": backbone | SHAPE | {"image_size": list(SIZE)}}
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "aaformer_lit": describe(model, 4, {})}, tmp_path / "last.ckpt")
    torch.testing.assert_close(load_model(tmp_path / "last.ckpt").embed(images()), network.embed(images()))
