"""Schedules against the published formulas, and parameter groups that lose or double nothing."""

import math
from functools import partial

import pytest
import torch
from timm.scheduler import CosineLRScheduler

from aaformer_lit.assign import Placed
from aaformer_lit.errors import ConfigError
from aaformer_lit.models import AAformer, TransReID, build_backbone
from aaformer_lit.optim import Optimization, WarmupCosine, layer_of

SGD = partial(torch.optim.SGD, lr=8e-3, momentum=0.9, weight_decay=1e-4)


def network() -> AAformer:
    backbone = build_backbone("vit_tiny_patch16_224", (32, 32), embed_dim=24, depth=3, num_heads=3)
    return AAformer(backbone, parts=[2], num_classes=4)


def test_the_papers_schedule():
    rates = [8e-3 * WarmupCosine(10, 0.1).factor(epoch, 120) for epoch in range(121)]
    assert rates[0] == pytest.approx(8e-4)
    assert rates[5] == pytest.approx((8e-4 + 8e-3) / 2)
    assert rates[10] == pytest.approx(8e-3)
    assert rates[65] == pytest.approx(8e-3 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert rates[120] == pytest.approx(0, abs=1e-12)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(
    "first", [0, 1]
)  # PASS and TransReID-SSL step after an epoch, TransReID before it, counting from 1
def test_the_schedules_of_transreid_and_pass_are_timms(first):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = CosineLRScheduler(optimizer, t_initial=120, lr_min=0.002, warmup_t=5, warmup_lr_init=0.01)
    ours = WarmupCosine(5, 0.01, floor=0.002, through_warmup=True, first_epoch=first)
    for epoch in range(120):
        theirs.step(epoch + first)
        assert ours.factor(epoch, 120) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)


def test_every_trainable_parameter_is_in_exactly_one_group():
    net = network()
    optimization = Optimization(
        SGD, WarmupCosine(), layer_decay=0.7, bias_lr_factor=2, part_lr_factor=3, decay_all=False
    )
    optimizer, _ = optimization.build(net, 10)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in net.parameters() if p.requires_grad)


def test_factors_reach_the_right_parameters():
    net = network()
    optimization = Optimization(
        SGD,
        WarmupCosine(warmup_epochs=0),
        layer_decay=0.5,
        bias_lr_factor=2,
        part_lr_factor=3,
        head_lr_factor=5,
        decay_all=False,
    )
    optimizer, _ = optimization.build(net, 10)
    of = {id(p): group for group in optimizer.param_groups for p in group["params"]}

    def rate(name):
        return of[id(net.get_parameter(name))]["lr"] / 8e-3

    assert rate("backbone.patch_embed.proj.weight") == pytest.approx(0.5**4)
    assert rate("backbone.blocks.0.mlp.fc1.weight") == pytest.approx(0.5**3)
    assert rate("backbone.blocks.2.mlp.fc1.weight") == pytest.approx(0.5)
    assert rate("backbone.blocks.2.mlp.fc1.bias") == pytest.approx(1.0)
    assert rate("backbone.norm.weight") == 1
    assert rate("part_tokens") == 3
    assert rate("heads.classifier") == 5

    def decay(name):
        return of[id(net.get_parameter(name))]["weight_decay"]

    assert decay("backbone.blocks.0.mlp.fc1.weight") == 1e-4
    for name in (
        "backbone.blocks.0.mlp.fc1.bias",
        "backbone.norm.weight",
        "backbone.pos_embed",
        "backbone.cls_token",
        "part_tokens",
    ):
        assert decay(name) == 0


def test_the_estimate_of_the_body_learns_at_the_rate_of_the_heads():
    net = AAformer("vit_tiny_patch16_224", [2], Placed(), image_size=(64, 32), follow_body=1)
    optimizer, _ = Optimization(SGD, WarmupCosine(warmup_epochs=0), head_lr_factor=5).build(net, 10)
    of = {id(p): group["lr"] / 8e-3 for group in optimizer.param_groups for p in group["params"]}
    assert of[id(net.heights.edges.weight)] == 5
    assert of[id(net.backbone.norm.weight)] == 1


@pytest.mark.parametrize("name", ["cls_token", "dist_token", "reg_token", "pos_embed", "patch_embed.proj.weight"])
def test_every_token_of_the_backbone_is_an_embedding(name):
    assert layer_of(f"backbone.{name}", depth=12) == 0


def test_both_of_transreids_last_blocks_are_as_deep():
    network = TransReID(build_backbone("vit_tiny_patch16_224", (32, 32), embed_dim=24, depth=3, num_heads=3), groups=2)
    groups = Optimization(SGD, WarmupCosine(), layer_decay=0.5).parameter_groups(network)
    factor = {id(parameter): group["lr_factor"] for group in groups for parameter in group["params"]}
    last, local = (factor[id(block.attn.qkv.weight)] for block in (network.backbone.blocks[-1], network.local_block))
    assert (last, local) == (0.5, 0.5)
    assert factor[id(network.backbone.norm.weight)] == factor[id(network.local_norm.weight)] == 1


def names(**options):
    optimizer, _ = Optimization(SGD, WarmupCosine(), **options).build(network(), 10)
    return sorted(group["name"] for group in optimizer.param_groups)


def test_groups_are_called_by_what_is_in_them():
    assert names() == ["part tokens + backbone + heads"]
    assert names(head_lr_factor=10, decay_all=False) == [
        "backbone",
        "heads x 10",
        "heads x 10, no decay",
        "part tokens + backbone, no decay",
    ]
    by_layer = names(layer_decay=0.5, bias_lr_factor=2)
    # a bias of block 2 moves as fast as a weight of block 3
    assert {"block 2 + block 3 x 0.5", "embeddings x 0.0625"} <= set(by_layer)
    assert len(by_layer) == len(set(by_layer))


def test_the_papers_recipe_is_one_group():
    optimizer, schedule = Optimization(SGD, WarmupCosine()).build(network(), 120)
    assert len(optimizer.param_groups) == 1
    assert optimizer.param_groups[0]["lr"] == pytest.approx(8e-4)
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(8e-3)


def test_frozen_parameters_stay_out():
    net = network()
    optimizer, _ = Optimization(SGD, WarmupCosine(), freeze=["patch_embed", "blocks.0"]).build(net, 10)
    grouped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert id(net.backbone.blocks[0].mlp.fc1.weight) not in grouped
    assert not net.backbone.patch_embed.proj.weight.requires_grad
    assert id(net.backbone.blocks[1].mlp.fc1.weight) in grouped
    with pytest.raises(ConfigError, match=r"freeze='blocks\.9' names nothing of the backbone"):
        Optimization(SGD, WarmupCosine(), freeze=["blocks.9"]).build(network(), 10)
    with pytest.raises(ConfigError, match=r"freeze='block' names nothing"):  # no prefix: blocks.1 is not blocks.11
        Optimization(SGD, WarmupCosine(), freeze=["block"]).build(network(), 10)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lr": 0.2}, "another lr"),
        ({"momentum": 0.8}, "another momentum"),
        ({"weight_decay": 0.1, "nesterov": True}, "another nesterov and another weight_decay"),
    ],
)
def test_a_training_is_not_continued_with_other_settings(changed, said):
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    state = Optimization(partial(torch.optim.SGD, **settings), WarmupCosine()).build(network(), 9)[0].state_dict()
    Optimization(partial(torch.optim.SGD, **settings, foreach=True), WarmupCosine(warmup_epochs=3)).check_same(
        network(), state
    )
    with pytest.raises(ConfigError, match=f"with {said} "):
        Optimization(partial(torch.optim.SGD, **settings | changed), WarmupCosine()).check_same(network(), state)


def test_of_adamw_too_a_pair_is_the_same_as_a_list_or_as_a_pair_and_no_other():
    def made(**settings):
        return Optimization(partial(torch.optim.AdamW, lr=1e-3, **settings), WarmupCosine())

    state = made(betas=[0.9, 0.99]).build(network(), 9)[0].state_dict()
    made(betas=(0.9, 0.99), fused=True).check_same(network(), state)
    with pytest.raises(ConfigError, match="another betas"):
        made().check_same(network(), state)


@pytest.mark.parametrize("options", [{"warmup_epochs": -1}, {"warmup_from": 0}, {"floor": 2}])
def test_impossible_schedules_are_config_errors(options):
    with pytest.raises(ConfigError):
        WarmupCosine(**options)
