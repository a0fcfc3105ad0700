"""The convolution stem through the command line: trained, and exported to a file that computes the same."""

import torch

from aaformer_lit import load_model
from aaformer_lit.models import stem
from aaformer_lit.models.stem import GlobalBatchNorm, InstanceBatchNorm
from cli_tools import TINY_DATA, TINY_TRAINER, only, read_json, run_cli


def test_a_network_with_the_stem_is_trained_and_exported(data_dir, tmp_path):
    shape = ("+model.backbone.depth=1", "+model.backbone.embed_dim=24", "+model.backbone.num_heads=3")
    model = ("model/backbone=vit_small_ics", "model.parts=[2]", *shape)
    runs = f"paths.runs={tmp_path}"
    assert run_cli("train", *TINY_DATA, *TINY_TRAINER, *model, f"paths.data={data_dir}", runs) == 0
    run = only(tmp_path.rglob("metrics.json")).parent
    assert run_cli("export", f"ckpt={run}", f"output={tmp_path / 'model.onnx'}", "check.images=8", runs) == 0
    report = read_json(tmp_path / "model.onnx.report.json")
    assert report["all"]["deviation_at_equal_assignments"]["cls"] < 1e-4
    stem = load_model(run).backbone.patch_embed.conv
    assert stem[1].BN.num_batches_tracked > 0, "its statistics were trained"


def test_half_of_the_channels_are_normalized_by_image_and_half_by_batch():
    norm = InstanceBatchNorm(4).train()
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1
    out = norm(x)
    assert isinstance(norm.BN, GlobalBatchNorm)
    torch.testing.assert_close(out[:, :2].mean(dim=(2, 3)), torch.zeros(3, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[:, 2:].mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    assert out[:, 2:].mean(dim=(2, 3)).abs().max() > 0.05


def test_the_norm_of_two_ranks_is_that_of_their_whole_batch(monkeypatch):
    """Values, gradients and statistics; the exchange itself is tested by real processes in tests/test_distributed.py."""
    x = torch.randn(6, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    whole = torch.nn.BatchNorm2d(3).double().train()
    ranks = [GlobalBatchNorm(3).double().train() for _ in range(2)]
    halves = x.split(3)
    moments = [torch.cat([half.mean(dim=(0, 2, 3)), half.square().mean(dim=(0, 2, 3))]) for half in halves]
    monkeypatch.setattr(stem, "is_distributed", lambda: True)
    monkeypatch.setattr(stem, "gather_batch", lambda own: torch.stack(moments))
    monkeypatch.setattr(stem.dist, "get_world_size", lambda: 2)
    weights = torch.arange(x.numel(), dtype=torch.float64).view_as(x).sin()
    ours = torch.cat([norm(half) for norm, half in zip(ranks, halves, strict=True)])
    expected = whole(x)
    torch.testing.assert_close(ours, expected)
    gradients = [torch.autograd.grad((out * weights).sum(), x)[0] for out in (ours, expected)]
    torch.testing.assert_close(*gradients)
    for norm in ranks:
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(norm.state_dict()[name], value)
