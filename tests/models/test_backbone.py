"""Backbones: geometry, and weights by every way they come."""

from contextlib import nullcontext

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch.nn import functional as F

from aaformer_lit.errors import CheckpointError, ConfigError
from aaformer_lit.models import build_backbone
from aaformer_lit.models.backbone import sincos_positions

TINY = {"patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3}


def build(size=(64, 32), seed=0, **options):
    torch.manual_seed(seed)
    return build_backbone("vit_tiny_patch16_224", size, drop_path=0.0, **(TINY | options))


def save(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize(("stride", "grid"), [(None, (4, 2)), (16, (4, 2)), (12, (5, 2)), (8, (7, 3))])
def test_stride_makes_overlapping_patches(stride, grid):
    backbone = build(stride=stride)
    assert tuple(backbone.patch_embed.grid_size) == grid
    assert backbone.forward_features(torch.randn(1, 3, 64, 32)).shape[1] == 1 + grid[0] * grid[1]


@pytest.mark.parametrize(
    ("size", "stride", "unseen"),
    [
        ((64, 32), None, None),
        ((70, 36), None, "6 rows and 4"),
        ((64, 32), 12, "0 rows and 4"),
        ((70, 36), 12, "6 rows and 8"),
    ],
)
def test_pixels_beyond_the_last_patch_are_told(size, stride, unseen, caplog):
    backbone = build(size, stride=stride)
    assert (f"the last {unseen} columns of pixels are not seen" in caplog.text) is (unseen is not None)
    image = torch.randn(1, 3, *size)
    other = image.clone()
    other[..., -1] += 1  # the last column of pixels
    assert backbone(image).equal(backbone(other)) is (unseen is not None)


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("timm.safetensors", lambda s: s),
        ("timm.pth", lambda s: s),
        ("deit.pth", lambda s: {"model": s | {"head.weight": torch.zeros(5, 48), "head.bias": torch.zeros(5)}}),
        ("dino.pth", lambda s: {"teacher": {f"module.backbone.{k}": v for k, v in s.items()}}),
        ("dinov2.pth", lambda s: s | {"mask_token": torch.zeros(1, 48)}),
        ("transreid.pth", lambda s: {f"base.{k}": v for k, v in s.items()} | {"classifier.weight": torch.zeros(5, 48)}),
        ("ours.pth", lambda s: {"state_dict": {f"network.backbone.{k}": v for k, v in s.items()}}),
        ("ddp.pth", lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}),
    ],
)
def test_local_files_of_every_convention_load_whole(tmp_path, name, wrap):
    source = build(seed=1).state_dict()
    loaded = build(seed=2, weights=save(wrap(source), tmp_path / name)).state_dict()
    for key, value in source.items():
        assert torch.equal(loaded[key], value), key


def test_positions_are_resampled_to_the_grid(tmp_path):
    square = build(size=(64, 64), seed=1)
    path = save(square.state_dict(), tmp_path / "square.safetensors")
    loaded = build(size=(128, 64), weights=path)
    expected = resample_abs_pos_embed(square.pos_embed, (8, 4), (4, 4))
    torch.testing.assert_close(loaded.pos_embed, expected)
    tall = save(build(size=(128, 64), seed=1).state_dict(), tmp_path / "tall.pth")  # a re-ID grid, not square
    assert build(size=(256, 128), weights=tall).pos_embed.shape[1] == 1 + 16 * 8


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "cannot be read"),
        (b"not weights at all", "cannot be read"),
    ],
)
def test_broken_files_are_one_clear_error(tmp_path, content, match):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=match):
        build(weights=path)


def test_weights_of_another_model_are_refused(tmp_path):
    path = save(build(depth=1).state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"missing \(such as blocks\.1"):
        build(weights=path)
    path = save(build(embed_dim=96).state_dict(), tmp_path / "w2.pth")
    with pytest.raises(CheckpointError, match="of another shape"):
        build(weights=path)


def test_a_pickle_with_code_is_refused(tmp_path):
    class Harmless:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"model": Harmless()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="refused"):
        build(weights=tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_missing_file_names_the_three_ways(tmp_path):
    with pytest.raises(CheckpointError, match=r"(?s)weights=timm.*FILE.*null"):
        build(weights=tmp_path / "absent.pth")


def test_pretrained_weights_that_cannot_be_fetched_name_the_three_ways(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(CheckpointError, match=r"(?s)no network.*weights=timm.*FILE.*null"):
        build(weights="timm")


def pretrained(state, monkeypatch):
    """timm's own way with pre-trained weights, of a file in place of the hub's."""
    real = timm.create_model
    overlay = {"state_dict": state, "input_size": (3, 64, 64)}
    monkeypatch.setattr(
        "timm.create_model", lambda *args, **options: real(*args, **options, pretrained_cfg_overlay=overlay)
    )
    monkeypatch.setattr("aaformer_lit.models.backbone.no_hub_if_unreachable", nullcontext)


def test_a_stride_resamples_pretrained_positions_once(monkeypatch):
    """As a file of the same weights has them: from their own grid to that of the stride."""
    source = build(size=(64, 64), seed=1)
    pretrained(source.state_dict(), monkeypatch)
    made = build(size=(128, 64), stride=12, weights="timm")
    expected = resample_abs_pos_embed(source.pos_embed, (10, 5), (4, 4))
    torch.testing.assert_close(made.pos_embed, expected)


def test_pretrained_weights_of_another_shape_are_not_called_unreachable(monkeypatch):
    pretrained(build(size=(64, 64)).state_dict(), monkeypatch)
    with pytest.raises(CheckpointError, match=r"(?s)cannot be taken .* with .*'embed_dim': 96.*Leave the shape"):
        build(weights="timm", embed_dim=96)


def test_no_layer_stays_random_beside_pretrained_ones(monkeypatch):
    pretrained(build(size=(64, 64)).state_dict(), monkeypatch)
    with pytest.raises(CheckpointError, match=r"have nothing for blocks\.0\.attn\.q_norm\.weight.*or use .*null"):
        build(weights="timm", qk_norm=True)


@pytest.mark.parametrize("name", ["resnet50", "vit_nonsense", "swin_tiny_patch4_window7_224"])
def test_what_is_no_plain_vit_is_refused(name):
    with pytest.raises(ConfigError, match="plain ViT"):
        build_backbone(name, (64, 32))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_heads": 5}, "timm cannot build"),
        ({"num_heads": 0}, "timm cannot build"),
        ({"depth": -1}, "timm cannot build"),
        ({"color": "red"}, "timm cannot build"),
        ({"stride": 0}, "stride must be a whole number between 1 and the patch size 16"),
        ({"stride": 17}, "stride must be a whole number between 1 and the patch size 16"),
        ({"stride": 8.0}, "stride must be a whole number between 1 and the patch size 16; got 8.0"),
        ({"size": 224}, r"image_size=224 must be \(height, width\) in pixels"),
        ({"size": (64, 32, 3)}, r"image_size=\(64, 32, 3\) must be \(height, width\)"),
        ({"size": (64, 8)}, "64x8 images are smaller than a patch of 16x16"),
        ({"size": (64, 8), "stride": 12}, "64x8 images are smaller than a patch of 16x16"),
    ],
)
def test_geometry_that_does_not_fit_is_a_config_error(options, says):
    with pytest.raises(ConfigError, match=says):
        build(**options)


def test_a_file_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    made = build(seed=1)
    save(made.state_dict(), tmp_path / "vit.safetensors")
    assert torch.equal(build(weights="~/vit.safetensors").pos_embed, made.pos_embed)


def test_nearby_start_lets_a_patch_be_nearest_to_itself_and_its_neighbours():
    apart, nearby = (build((128, 64), embed_dim=192, init=init) for init in ("timm", "nearby"))
    shares = []
    for backbone in (apart, nearby):
        attention = backbone.blocks[0].attn
        q, k, _ = attention.qkv(backbone.pos_embed[0, 1:]).unflatten(-1, (3, attention.num_heads, -1)).unbind(1)
        scores = torch.einsum("ihd,jhd->hij", F.normalize(q, dim=-1), F.normalize(k, dim=-1))
        nearest = scores.argmax(dim=-1)
        shares.append((nearest == torch.arange(32)).float().mean().item())
    assert shares[0] < 0.2
    assert shares[1] == 1


def test_sincos_positions_tell_every_patch_apart_and_neighbours_less():
    positions = sincos_positions(8, 4, 48)
    distances = torch.cdist(positions, positions)
    assert (distances + 9 * torch.eye(32)).min() > 1
    assert distances[0, 4] < distances[0, 8] < distances[0, 12]  # one, two, three rows below
    assert distances[0, 4] == pytest.approx(distances[0, 1].item(), abs=1e-5)  # a column is as far as a row


def test_an_unknown_init_is_refused():
    with pytest.raises(ConfigError, match=r"timm, nearby; got 'best'"):
        build(init="best")


def test_a_start_for_networks_without_weights_does_not_replace_those_of_timm(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **options: create(name, **options))
    with pytest.raises(ConfigError, match=r"init=nearby starts a network without weights"):
        build_backbone("vit_tiny_patch16_224", (64, 32), weights="timm", init="nearby")


def test_a_stem_for_other_patches_says_of_a_patch_what_it_said_before(tmp_path):
    """FlexiViT's property (Beyer et al., CVPR 2023): the product with a patch that was resized is the one before."""
    small = build_backbone("vit_tiny_patch16_224", (28, 28), patch_size=14, embed_dim=24, depth=1, num_heads=2)
    save_file(small.state_dict(), tmp_path / "weights.safetensors")
    sizes = {"patch_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 2}
    large = build_backbone("vit_tiny_patch16_224", (32, 32), weights=tmp_path / "weights.safetensors", **sizes)
    assert "patch_embed.proj.weight" in large.weights_report.resampled
    unit = torch.eye(14 * 14).view(-1, 1, 14, 14)
    resize = F.interpolate(unit, size=(16, 16), mode="bicubic", antialias=True).flatten(1).t()  # (256, 196)
    patch = torch.randn(3, 14 * 14)
    before = (small.patch_embed.proj.weight.flatten(2) * patch).sum(dim=(1, 2))
    after = (large.patch_embed.proj.weight.flatten(2) * (patch @ resize.t())).sum(dim=(1, 2))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)
