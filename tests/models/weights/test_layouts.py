"""Every layout computes what its own network computes; positions keep their places; and no tensor is lost in silence."""

from __future__ import annotations

import argparse
import logging
import zipfile
from typing import Any

import pytest
import torch

import weight_nets as nets
from aaformer_lit.errors import CheckpointError
from aaformer_lit.models import AAformer, TransReID, ViTBaseline, build_backbone
from aaformer_lit.models.weights import load_backbone_weights, load_network_weights
from aaformer_lit.models.weights.file import open_file
from aaformer_lit.models.weights.load import translate
from aaformer_lit.structures import compared_features
from weight_cases import (
    CASES,
    GRIDS,
    PASS_CASES,
    PLAIN,
    Case,
    fine_tuned_pass_shapes,
    images,
    jpm_shapes,
    pass_shapes,
)

SMALL = {"embed_dim": nets.DIM, "num_heads": nets.HEADS, "depth": nets.DEPTH, "drop_path": 0.0}
ROWS, COLUMNS = 4, 2
TINY = (16 * ROWS, 16 * COLUMNS)


EVERY_CASE = CASES | PASS_CASES


def backbone(case: Case, size: tuple[int, int], **options: Any) -> Any:
    return build_backbone(case.name, size, **(SMALL | case.options | options)).eval()


def write(state: Any, path: Any) -> Any:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("size", GRIDS, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", CASES)
def test_a_layout_computes_what_its_own_network_does(tmp_path, name, size):
    case = CASES[name]
    state = nets.draw(case.shapes(GRIDS[size][0] * GRIDS[size][1]))
    network = backbone(case, size, weights=write(case.wrap(state), tmp_path / "w.pth"))
    with torch.no_grad():
        expected = case.net(state, images(size))
        torch.testing.assert_close(network.forward_features(images(size))[:, 0], expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.1


@pytest.mark.parametrize("name", EVERY_CASE)
def test_no_tensor_can_be_removed_in_silence(tmp_path, name, caplog):
    _go_through_all_tensors(EVERY_CASE[name], tmp_path / "w.pth", caplog, "removed")


@pytest.mark.parametrize("name", EVERY_CASE)
def test_no_tensor_can_be_renamed_in_silence(tmp_path, name, caplog):
    _go_through_all_tensors(EVERY_CASE[name], tmp_path / "w.pth", caplog, "renamed")


def _go_through_all_tensors(case: Case, path: Any, caplog: pytest.LogCaptureFixture, change: str) -> None:
    caplog.set_level(logging.WARNING)
    state = nets.draw(case.shapes(ROWS * COLUMNS))
    target = backbone(case, TINY)
    load_backbone_weights(target, write(case.wrap(state), path))
    whole = {key: value.clone() for key, value in target.state_dict().items()}
    usual = set(caplog.messages)
    for key in state:
        changed = {k: v for k, v in state.items() if k != key}
        if change == "renamed":
            changed[f"{key}_x"] = state[key]
        caplog.clear()
        try:
            load_backbone_weights(target, write(case.wrap(changed), path))
        except CheckpointError:
            continue
        said = [message for message in caplog.messages if message not in usual]
        if not any(_names(message, key) for message in said):
            # what a layout leaves out anyway, and what has no companion that would show that it is gone
            assert change == "removed", key
            assert key in case.alone, f"{key} {change}: {said}"
        assert key.startswith(case.unused), key
        for name, value in target.state_dict().items():
            assert torch.equal(value, whole[name]), f"{key} {change} changed {name}"


def _names(message: str, key: str) -> bool:
    return any(part in message for part in (key, key.removeprefix("backbone."), key.removeprefix("module.")))


@pytest.mark.parametrize(("size", "stride", "grid"), [
    ((256, 128), 16, (16, 8)), ((256, 128), 12, (21, 10)), ((256, 64), 16, (16, 4)), ((384, 128), 16, (24, 8)),
    ((96, 96), 8, (11, 11)), ((64, 32), 16, (4, 2)), ((160, 32), 16, (10, 2)), ((512, 128), 16, (32, 8)),
])  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "base."])
def test_positions_keep_their_places(tmp_path, size, stride, grid, prefix):
    count = grid[0] * grid[1]
    state = nets.draw(nets.vit_shapes(1 + count, prefix))
    state[f"{prefix}pos_embed"][0, :, 0] = torch.arange(1.0 + count)  # each position says where it lay
    made = build_backbone(PLAIN, size, write(state, tmp_path / "w.pth"), stride, **SMALL)
    assert torch.equal(made.pos_embed, state[f"{prefix}pos_embed"])


RESAMPLED = [
    ((14, 14), (16, 8)), ((16, 8), (24, 8)), ((24, 8), (16, 8)), ((21, 10), (16, 8)), ((16, 8), (14, 14)), ((37, 37), (16, 8)),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), RESAMPLED)
def test_another_grid_is_resampled_and_nothing_is_turned(tmp_path, source, target):
    rows, columns = source
    state = nets.draw(nets.vit_shapes(1 + rows * columns))
    down, across = torch.meshgrid(torch.linspace(0, 1, rows), torch.linspace(0, 1, columns), indexing="ij")
    state["pos_embed"][0, 1:, 0], state["pos_embed"][0, 1:, 1] = down.flatten(), across.flatten()
    size = (16 * target[0], 16 * target[1])
    made = build_backbone(PLAIN, size, write(state, tmp_path / "w.pth"), **SMALL)
    assert torch.equal(made.pos_embed[0, 0], state["pos_embed"][0, 0])
    field = made.pos_embed[0, 1:, :2].detach().view(*target, 2)
    assert (field[1:, :, 0] > field[:-1, :, 0]).all()
    assert (field[:, 1:, 1] > field[:, :-1, 1]).all()
    assert (field[:, 0, 0] - field[:, -1, 0]).abs().max() < 1e-5
    assert made.weights_report.resampled["pos_embed"] == f"{rows}x{columns} to {target[0]}x{target[1]}"


def test_an_ambiguous_grid_names_the_choices_and_takes_the_one_that_is_said(tmp_path):
    state = nets.draw(nets.vit_shapes(1 + 196))
    path = write(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"\[14,14\] or \[28,7\].*source_grid=\[rows,columns\]"):
        build_backbone(PLAIN, (256, 64), path, **SMALL)  # 14x14, or 28x7 with the aspect of the images
    square = build_backbone(PLAIN, (256, 64), path, source_grid=[14, 14], **SMALL)
    tall = build_backbone(PLAIN, (256, 64), path, source_grid=[28, 7], **SMALL)
    assert not torch.equal(square.pos_embed, tall.pos_embed)
    with pytest.raises(CheckpointError, match=r"source_grid=\[13, 14\] does not fit"):
        build_backbone(PLAIN, (256, 64), path, source_grid=[13, 14], **SMALL)


@pytest.mark.parametrize("count", [127, 198, 6, 1])
def test_a_grid_of_one_column_is_never_a_guess(tmp_path, count):
    path = write(nets.draw(nets.vit_shapes(count)), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="does not say which patch grid"):
        build_backbone(PLAIN, (256, 128), path, **SMALL)


def test_positions_without_cls_stay_in_their_places(tmp_path):
    state = nets.draw(nets.vit_shapes(128))
    made = build_backbone(PLAIN, (256, 128), write(state, tmp_path / "w.pth"), **SMALL)
    assert torch.equal(made.pos_embed[:, 1:], state["pos_embed"])
    assert not made.pos_embed[:, 0].any()


@pytest.mark.parametrize("prefix", ["", "base.", "backbone."])
@pytest.mark.parametrize("size", GRIDS, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("part_pos_embed", [True, False])
def test_everyone_with_the_weights_of_pass_is_pass(tmp_path, prefix, size, part_pos_embed):
    from aaformer_lit.assign import Everyone

    rows, columns = GRIDS[size]
    state = nets.draw(pass_shapes(rows * columns, prefix))
    made = AAformer(build_backbone(PLAIN, size, **SMALL), [3], Everyone(), part_pos_embed=part_pos_embed).eval()
    load_network_weights(made, open_file(write({"teacher": state}, tmp_path / "w.pth")))
    with torch.no_grad():
        output = made(images(size))
        expected = nets.pass_tokens(state, images(size), prefix)
    torch.testing.assert_close(output.global_feat, expected[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.part_feats, expected[:, 1:], atol=1e-5, rtol=1e-5)


def test_the_descriptor_of_pass_is_cls_and_the_mean_of_the_parts(tmp_path):
    from aaformer_lit.assign import Everyone

    state = nets.draw(pass_shapes(ROWS * COLUMNS))
    options = {"neck_feature": "before", "normalize": False, "descriptor": "cls_mean"}
    made = AAformer(build_backbone(PLAIN, TINY, **SMALL), [3], Everyone(), **options).eval()
    load_network_weights(made, open_file(write({"teacher": state}, tmp_path / "w.pth")))
    with torch.no_grad():
        tokens = nets.pass_tokens(state, images(TINY))
        expected = torch.cat([tokens[:, 0], (tokens[:, 1] + tokens[:, 2] + tokens[:, 3]) / 3], dim=1)
        torch.testing.assert_close(made.embed(images(TINY)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("one_neck", [False, True])
def test_a_fine_tuned_pass_is_theirs(tmp_path, one_neck):
    """Their necks: of each token, or one of CLS and the mean of the parts, whose classifier is taken, too."""
    from aaformer_lit.assign import Everyone

    state = nets.draw(fine_tuned_pass_shapes(ROWS * COLUMNS, one_neck))
    options = {"normalize": False, "descriptor": "cls_mean" if one_neck else "tokens", "num_classes": 9}
    made = AAformer(build_backbone(PLAIN, TINY, **SMALL), [3], Everyone(), **options).eval()
    report = load_network_weights(made, open_file(write(state, tmp_path / "w.pth")))
    with torch.no_grad():
        described = made(images(TINY)).descriptor
        features = compared_features(described, False, None if one_neck else made.evaluated_groups["cls_mean"])
        torch.testing.assert_close(features, nets.fine_tuned_pass(state, images(TINY)), atol=1e-5, rtol=1e-5)
    assert ("classifier.weight" in report.dropped) != one_neck
    if one_neck:
        after = nets.fine_tuned_pass(state, images(TINY))
        logits = torch.einsum("btd,tcd->bc", after.view(2, 2, -1), made.heads.classifier)
        torch.testing.assert_close(logits, after @ state["classifier.weight"].t(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("size", GRIDS, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_whole_transreid_is_theirs(tmp_path, size, after):
    state = nets.draw(jpm_shapes(GRIDS[size][0] * GRIDS[size][1]))
    path = write({f"module.{key}": value for key, value in state.items()}, tmp_path / "w.pth")
    built = build_backbone(PLAIN, size, **SMALL)
    made = TransReID(built, shift=4, num_classes=9, neck_feature="after" if after else "before", normalize=False).eval()
    report = load_network_weights(made, open_file(path))
    with torch.no_grad():
        expected = nets.transreid_jpm(state, images(size), after=after)
        torch.testing.assert_close(made.embed(images(size)), expected, atol=1e-5, rtol=1e-5)
    classifiers = [state[f"classifier{feature}.weight"] for feature in ("", "_1", "_2", "_3", "_4")]
    assert torch.equal(made.heads.classifier, torch.stack(classifiers))
    assert report.new == []
    left = {name for name in state if name not in report.dropped} - {
        n for names in report.mapped.values() for n in names
    }
    assert not left


def test_a_transreid_of_another_grid_is_told(tmp_path):
    (size, grid), (_, other), *_ = GRIDS.items()
    assert grid != other
    path = write(nets.draw(jpm_shapes(other[0] * other[1])), tmp_path / "w.pth")
    made = TransReID(build_backbone(PLAIN, size, **SMALL), shift=4, num_classes=9)
    report = load_network_weights(made, open_file(path), source_grid=other)
    assert "its positions lie in another grid" in report.warnings[0]


@pytest.mark.parametrize(
    ("key", "says"), [("b2.0.mlp.fc1.weight", "local branch that is not whole"), ("bottleneck_2.weight", "")]
)
def test_a_transreid_that_is_not_whole_is_told(tmp_path, key, says, caplog):
    state = nets.draw(jpm_shapes(8))
    del state[key]
    made = TransReID(build_backbone(PLAIN, TINY, **SMALL), num_classes=9)
    file = open_file(write(state, tmp_path / "w.pth"))
    if says:
        with pytest.raises(CheckpointError, match=says):
            load_network_weights(made, file)
    else:
        load_network_weights(made, file)
        assert key in caplog.text


REFUSED = {
    "DINOv3": "rope_embed.periods",
    "EVA-02": "blocks.0.attn.inner_attn_ln.weight",
    "Swin": "layers.0.blocks.0.attn.qkv.weight",
    "BEiT": "blocks.0.attn.relative_position_bias_table",
    "Hugging Face": "encoder.layer.0.attention.attention.query.weight",
    "ResNet": "layer1.0.conv1.weight",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_refused_with_the_reason_and_another_way(tmp_path, name):
    path = write(nets.draw(nets.vit_shapes(9)) | {REFUSED[name]: torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=rf"(?s){name}.* Use "):
        build_backbone(PLAIN, TINY, path, **SMALL)


def test_mean_pooled_mae_and_gated_dinov2_are_refused(tmp_path):
    state = nets.draw(nets.vit_shapes(9))
    pooled = {k.replace("norm.", "fc_norm.") if k.startswith("norm.") else k: v for k, v in state.items()}
    with pytest.raises(CheckpointError, match=r"fc_norm.*Use the weights before"):
        translate(open_file(write(pooled, tmp_path / "w.pth")))
    giant = state | {
        "mask_token": torch.zeros(1, 1),
        "blocks.0.ls1.gamma": torch.ones(1),
        "blocks.0.mlp.w12.weight": torch.zeros(1),
    }
    with pytest.raises(CheckpointError, match="SwiGLU"):
        translate(open_file(write(giant, tmp_path / "w.pth")))


def test_registers_need_a_backbone_with_registers(tmp_path):
    case = CASES["DINOv2 with registers"]
    path = write(nets.draw(case.shapes(8)), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"4 register tokens.*dinov2_base_reg"):
        build_backbone("vit_small_patch14_dinov2", TINY, path, patch_size=16, **SMALL)


def test_an_unknown_file_says_what_was_tried_and_what_it_holds(tmp_path):
    path = write({"alpha": torch.zeros(1), "beta.weight": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"Tried: aaformer_lit, .*PASS, TransReID.*timm.*alpha, beta\.weight"):
        build_backbone(PLAIN, TINY, path, **SMALL)


def test_a_distilled_file_in_a_plain_backbone_loses_its_token_and_no_place(tmp_path, caplog):
    case = CASES["DeiT, distilled"]
    state = nets.draw(case.shapes(196))
    made = build_backbone(PLAIN, (224, 224), write({"model": state}, tmp_path / "w.pth"), **SMALL)
    assert torch.equal(made.pos_embed[:, 0], state["pos_embed"][:, 0])
    assert torch.equal(made.pos_embed[:, 1:], state["pos_embed"][:, 2:])
    assert "dist_token is left out" in caplog.text


@pytest.mark.parametrize("name", ["CLIP", "CLIP-ReID"])
def test_clip_in_a_backbone_with_another_activation_is_told(tmp_path, caplog, name):
    path = write(nets.draw(CASES[name].shapes(8)), tmp_path / "w.pth")
    build_backbone("vit_base_patch16_clip_224", TINY, path, **SMALL)
    assert "trained with QuickGELU" in caplog.text


def test_the_camera_embedding_is_dropped_with_what_that_changes(tmp_path, caplog):
    case = CASES["TransReID with SIE"]
    made = backbone(case, TINY, weights=write(nets.draw(case.shapes(8)), tmp_path / "w.pth"))
    assert "base.sie_embed is left out: this network was trained with an embedding of the camera" in caplog.text
    assert "base.sie_embed" in made.weights_report.dropped


def test_the_report_accounts_for_every_tensor_of_every_layout(tmp_path):
    for name, case in EVERY_CASE.items():
        state = nets.draw(case.shapes(8))
        made = backbone(case, TINY, weights=write(case.wrap(state), tmp_path / "w.pth"))
        report = made.weights_report
        said = {*report.taken, *report.dropped, *(n for names in report.mapped.values() for n in names)}
        in_file = open_file(tmp_path / "w.pth").state.keys()
        assert said == set(in_file), name
        assert len(report.sha256) == 64


class Touch:
    """What a pickle with code in it would do."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (self.path.touch, ())


@pytest.mark.parametrize("where", ["args", "weights"])
def test_code_is_refused_in_the_arguments_too(tmp_path, where):
    evil = Touch(tmp_path / "ran")
    content = {"model": nets.draw(nets.vit_shapes(9)), "args": argparse.Namespace(arch="vit")}
    content |= {"args": argparse.Namespace(arch=evil)} if where == "args" else {"more": evil}
    with pytest.raises(CheckpointError, match="refused") as caught:
        build_backbone(PLAIN, TINY, write(content, tmp_path / "w.pth"), **SMALL)
    assert not (tmp_path / "ran").exists()
    assert "\x1b" not in str(caught.value)


def test_a_torchscript_archive_is_refused_with_what_to_do(tmp_path):
    with zipfile.ZipFile(tmp_path / "ViT-B-16.pt", "w") as archive:  # what torch.jit.save writes
        archive.writestr("clip/code/__torch__.py", "class Model: pass")
        archive.writestr("clip/data.pkl", b"")
    with pytest.raises(CheckpointError, match="TorchScript archive, which is code"):
        build_backbone(PLAIN, TINY, tmp_path / "ViT-B-16.pt", **SMALL)


def test_real_weights_of_dinov2(tmp_path):
    import os
    from pathlib import Path

    path = Path(os.environ.get("AAFORMER_TEST_DATA", "absent"), "weights", "dinov2_vits16.safetensors")
    if not path.exists():
        pytest.skip("no weights")
    from safetensors.torch import load_file

    made = build_backbone("vit_small_patch16_224", (592, 592), path, drop_path=0.0).eval()
    assert torch.equal(made.pos_embed, load_file(path)["pos_embed"])
    small = build_backbone("vit_small_patch16_224", (256, 128), path, drop_path=0.0)
    assert small.weights_report.resampled == {"pos_embed": "37x37 to 16x8"}
    assert len(small.weights_report.taken) == 150


def test_a_baseline_takes_the_neck_of_a_plain_transreid(tmp_path):
    state = nets.draw(CASES["TransReID"].shapes(8))
    made = ViTBaseline(build_backbone(PLAIN, TINY, **SMALL), num_classes=4).eval()
    report = load_network_weights(made, open_file(write(state, tmp_path / "w.pth")))
    with torch.no_grad():
        expected = nets.neck(nets.timm(state, images(TINY), "base."), state, "bottleneck")
        torch.testing.assert_close(made(images(TINY)).descriptor[:, 0], expected, atol=1e-5, rtol=1e-5)
    assert report.new == ["classifiers of 4 people (the file has classifiers of 9 people)"]
