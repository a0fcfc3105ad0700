"""Networks: exactness against timm, what the tokens may see, and what the configs promise."""

import pytest
import timm
import torch

from aaformer_lit.assign import Everyone, Parsing, Stripes
from aaformer_lit.errors import ConfigError
from aaformer_lit.losses import ReIDLoss
from aaformer_lit.models import AAformer, ViTBaseline, build_backbone
from aaformer_lit.models.base import descriptors

SIZE = (64, 32)


def tiny(**overrides):
    options = {"patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3} | overrides
    torch.manual_seed(0)
    return build_backbone("vit_tiny_patch16_224", SIZE, drop_path=0.0, **options)


def images(batch: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_small_patch14_dinov2", {"patch_size": 16, "depth": 4}),  # LayerScale
        ("vit_tiny_patch16_224", {"qk_norm": True}),
        ("vit_small_patch14_reg4_dinov2", {"patch_size": 16, "depth": 3}),  # registers
    ],
)
def test_isolated_cls_is_timms_own(name, overrides):
    torch.manual_seed(0)
    backbone = build_backbone(name, (128, 64), drop_path=0.0, **overrides).eval()
    for key, parameter in backbone.named_parameters():
        if "gamma" in key:  # LayerScale starts near zero, where a mistake would not show
            torch.nn.init.uniform_(parameter, 0.5, 1.0)
    pictures = torch.randn(2, 3, 128, 64)
    with torch.no_grad():
        expected = backbone.forward_features(pictures)[:, 0].clone()
        network = AAformer(backbone, visibility="isolated").eval()
        torch.testing.assert_close(network(pictures).global_feat, expected, atol=1e-5, rtol=1e-5)


def test_mutual_cls_sees_the_part_tokens_and_isolated_does_not():
    for visibility, changes in (("mutual", True), ("isolated", False)):
        network = AAformer(tiny(), visibility=visibility).eval()
        with torch.no_grad():
            before = network(images()).global_feat
            network.part_tokens.normal_()
            after = network(images()).global_feat
        assert (not torch.allclose(before, after, atol=1e-6)) is changes


def test_everyone_is_timms_vit_with_as_many_class_tokens():
    network = AAformer(tiny(), parts=[5], assigner=Everyone()).eval()
    reference = timm.create_model(
        "vit_tiny_patch16_224", img_size=SIZE, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=0, reg_tokens=5,
        no_embed_class=True,
    ).eval()  # fmt: skip
    state = {k: v for k, v in network.backbone.state_dict().items() if not k.startswith("pos_embed")}
    state["pos_embed"] = network.backbone.pos_embed[:, 1:]
    state["cls_token"] = network.backbone.cls_token + network.backbone.pos_embed[:, :1]
    state["reg_token"] = network.part_tokens.detach()
    reference.load_state_dict(state)
    with torch.no_grad():
        output, expected = network(images()), reference.forward_features(images())
    torch.testing.assert_close(output.global_feat, expected[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.part_feats, expected[:, 1:6], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grad_checkpointing", [False, True])
def test_scores_are_what_each_layer_compares_and_change_nothing(grad_checkpointing):
    network = AAformer(tiny(), parts=[2, 3], grad_checkpointing=grad_checkpointing)
    inputs = []
    for block in network.backbone.blocks:
        block.norm1.register_forward_hook(lambda _module, _args, output: inputs.append(output))
    output = network(images(), return_scores=True)
    torch.testing.assert_close(output.descriptor, network(images()).descriptor)
    assert len(output.scores) == len(network.backbone.blocks)
    for scores, block, sequence in zip(output.scores, network.backbone.blocks, inputs, strict=False):
        q, k, _ = block.attn.qkv(sequence).view(*sequence.shape[:2], 3, 3, 16).permute(2, 0, 3, 1, 4)
        expected = torch.nn.functional.cosine_similarity(q[:, :, 1:6, None], k[:, :, None, 6:], dim=-1)
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
    output.scores[0].sum().backward()
    assert network.part_tokens.grad.abs().sum() > 0
    assert network(images()).scores == ()


def test_a_stripe_token_ignores_what_lies_outside_its_stripe():
    attention = AAformer(tiny(), parts=[2], assigner=Stripes()).backbone.blocks[0].attn.eval()
    sequence = torch.randn(1, 1 + 2 + 32, 48)
    changed = sequence.clone()
    changed[:, 3 + 16 :] += 1.0  # the lower half of 8 x 4 patches
    with torch.no_grad():
        before, after = attention(sequence, (8, 4))[0], attention(changed, (8, 4))[0]
    torch.testing.assert_close(before[:, 1], after[:, 1], atol=0, rtol=0)
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_a_parsing_token_ignores_what_lies_outside_its_mask():
    attention = AAformer(tiny(), parts=[2], assigner=Parsing()).backbone.blocks[0].attn.eval()
    mask = torch.zeros(1, *SIZE, dtype=torch.uint8)
    mask[:, :, 16:] = 1
    inside = torch.arange(32) % 4 < 2
    sequence = torch.randn(1, 35, 48)
    changed = sequence.clone()
    changed[:, 3:][:, ~inside] += 1.0
    with torch.no_grad():
        before, after = attention(sequence, (8, 4), mask)[0], attention(changed, (8, 4), mask)[0]
    torch.testing.assert_close(before[:, 1], after[:, 1], atol=0, rtol=0)
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_all_patches_in_one_part_is_attention_over_the_patches():
    attention = AAformer(tiny(), parts=[1]).backbone.blocks[0].attn.eval()
    sequence = torch.randn(2, 1 + 1 + 32, 48)
    with torch.no_grad():
        part = attention(sequence, (8, 4))[0][:, 1]
        q, k, v = attention.qkv(sequence).view(2, 34, 3, 3, 16).permute(2, 0, 3, 1, 4)
        weights = (q[:, :, 1:2] @ k[:, :, 2:].transpose(-1, -2) / 4).softmax(-1)
        expected = attention.proj((weights @ v[:, :, 2:]).transpose(1, 2).flatten(2))[:, 0]
    torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-5)


def test_assignments_are_returned_per_layer_only_when_asked():
    network = AAformer(tiny(), parts=[2, 3]).eval()
    assert network(images()).assignments == ()
    assignments = network.assignments(images())
    assert [tuple(a.shape) for a in assignments] == [(2, 3, 5, 32)] * 3
    for membership in assignments:  # each granularity is a partition, empty parts aside
        for group in (membership[:, :, :2], membership[:, :, 2:]):
            assert (group.sum(dim=2) >= 1).all()
    assert ViTBaseline(tiny()).assignments(images()) == ()


def test_grad_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(3)
        network = AAformer(tiny(), num_classes=4, grad_checkpointing=checkpointing).train()
        output = network(images())
        (output.logits.square().sum() + output.part_feats.square().sum()).backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_descriptor_is_neck_output_or_not_and_embed_normalizes():
    network = AAformer(tiny(), num_classes=4)
    network.heads.neck.running_mean.fill_(0.5)
    network.eval()
    after = network(images())
    expected = (torch.cat([after.global_feat[:, None], after.part_feats], 1) - 0.5) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(after.descriptor, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(network.embed(images()).norm(dim=1), torch.ones(2))
    before = AAformer(tiny(), neck_feature="before").eval()(images())
    assert torch.equal(before.descriptor[:, 0], before.global_feat)


def test_heads_are_not_shared_and_equal_separate_heads():
    network = AAformer(tiny(), parts=[2], num_classes=4).train()
    tokens = torch.randn(8, 3, 48)
    after, logits = network.heads(tokens)
    for token in range(3):
        neck = torch.nn.BatchNorm1d(48)
        torch.testing.assert_close(after[:, token], neck(tokens[:, token]))
        torch.testing.assert_close(logits[:, token], after[:, token] @ network.heads.classifier[token].t())
    assert not network.heads.neck.bias.requires_grad
    assert network.heads.classifier.std().item() == pytest.approx(0.001, rel=0.15)


def test_token_groups_name_what_is_evaluated_alone():
    groups = AAformer(tiny(), parts=[2, 3]).token_groups
    assert groups == {"global": (0,), "parts": (1, 2, 3, 4, 5), "parts_2": (1, 2), "parts_3": (3, 4, 5)}
    equal = AAformer(tiny(), parts=[2, 2]).token_groups
    assert equal == {"global": (0,), "parts": (1, 2, 3, 4), "parts_2": (1, 2), "parts_2_2": (3, 4)}
    assert ViTBaseline(tiny()).token_groups == {}
    evaluated = AAformer(tiny(), parts=[2, 3]).evaluated_groups
    assert evaluated == groups | {"cls_mean": (0, (1, 2, 3, 4, 5))}


def test_cls_and_the_mean_of_the_parts_as_one_feature():
    """PASS: one classifier over both, one triplet, and at test both side by side; computed here from the tokens."""
    torch.manual_seed(0)
    tokens = AAformer(tiny(), parts=[2, 3], num_classes=4)
    joined = AAformer(tiny(), parts=[2, 3], num_classes=4, neck_feature="before", descriptor="cls_mean")
    joined.backbone.load_state_dict(tokens.backbone.state_dict())
    with torch.no_grad():
        joined.part_tokens.copy_(tokens.part_tokens)
    apart = tokens.eval()(images())
    both = torch.cat([apart.global_feat, apart.part_feats.mean(dim=1)], dim=1)
    torch.testing.assert_close(joined.embed(images()), torch.nn.functional.normalize(both, dim=1))
    trained = joined.train()(images())
    assert trained.logits.shape == (2, 1, 4)
    assert trained.part_feats.shape[1] == 0
    feature = trained.global_feat
    neck = torch.nn.BatchNorm1d(feature.shape[1])
    classifier = torch.cat(list(joined.heads.classifier), dim=1)
    torch.testing.assert_close(trained.logits[:, 0], neck(feature) @ classifier.t())
    terms = ReIDLoss()(trained, torch.tensor([0, 1]))
    assert terms["loss"].item() == pytest.approx((terms["id_global"] + terms["triplet_global"]).item())
    assert joined.token_groups == {"global": (0,), "parts": (1,)}
    assert not ViTBaseline(tiny(), descriptor="cls_mean").joined  # the mean of no parts is nothing


@pytest.mark.parametrize("neck_feature", ["before", "after"])
def test_the_parts_of_a_joined_descriptor_are_also_tested_one_by_one(neck_feature):
    torch.manual_seed(0)
    network = AAformer(tiny(), parts=[2, 3], neck_feature=neck_feature, descriptor="cls_mean").eval()
    assert network.evaluated_groups == {"": (0, 1), "global": (0,), "parts": (1,), "concat": (0, 2, 3, 4, 5, 6)}
    neck = network.heads.neck
    torch.nn.init.uniform_(neck.running_mean)
    torch.nn.init.uniform_(neck.running_var, 0.5, 2)
    tokens = descriptors(network, images(), flip=True, apart=True)
    torch.testing.assert_close(tokens[:, :2], descriptors(network, images(), flip=True))
    torch.testing.assert_close(tokens[:, 2:].mean(dim=1), tokens[:, 1])  # affine: the mean of the parts is their mean
    raw = (network.encode(images(), None, False)[0] + network.encode(images().flip(-1), None, False)[0])[:, 1:] / 2
    if neck_feature == "after":
        mean, var, scale = (x.chunk(2)[1] for x in (neck.running_mean, neck.running_var, neck.weight))
        raw = (raw - mean) / (var + neck.eps).sqrt() * scale
    torch.testing.assert_close(tokens[:, 2:], raw)


def test_baseline_shares_everything_but_the_parts():
    torch.manual_seed(0)
    network = ViTBaseline(tiny(), num_classes=4)
    parts = AAformer(tiny(), num_classes=4)
    extra = {k for k in parts.state_dict() if k not in network.state_dict()}
    assert extra == {"part_tokens"}
    expected = tiny().eval().forward_features(images())[:, 0]
    torch.testing.assert_close(network.eval()(images()).global_feat, expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"similarity": "cosin"}, "similarity must be one of cosine, dot, scaled; got 'cosin'"),
        ({"visibility": "foo"}, "visibility must be one of mutual, isolated; got 'foo'"),
        ({"neck_feature": "x"}, "neck_feature must be one of after, before; got 'x'"),
        ({"parts": []}, "positive granularities"),
        ({"parts": [0]}, "positive granularities"),
    ],
)
def test_the_constructor_refuses_what_cannot_work(options, says):
    with pytest.raises(ConfigError, match=says):
        AAformer(tiny(), **options)


def test_another_image_size_is_a_config_error():
    with pytest.raises(ConfigError, match="64x32"):
        ViTBaseline(tiny()).eval()(torch.zeros(1, 3, 32, 32))


def test_bfloat16_autocast_gives_finite_gradients_and_float32_losses():
    network = AAformer(tiny(), num_classes=4).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(images(4))
    output.logits.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_the_mask_is_mirrored_with_the_image():
    torch.manual_seed(0)
    net = AAformer("vit_tiny_patch16_224", [2], Parsing(), image_size=SIZE).eval()
    images = torch.randn(2, 3, *SIZE)
    mask = torch.zeros(2, *SIZE, dtype=torch.uint8)
    mask[:, :, : SIZE[1] // 4] = 1  # on the left alone
    with torch.no_grad():
        flipped = descriptors(net, images, mask, flip=True)
        both = [net(i, m).descriptor for i, m in ((images, mask), (images.flip(-1), mask.flip(-1)))]
        wrong = net(images.flip(-1), mask).descriptor
    torch.testing.assert_close(flipped, (both[0] + both[1]) / 2)
    assert (wrong - both[1]).abs().max() > 1e-3, "a test of nothing"
