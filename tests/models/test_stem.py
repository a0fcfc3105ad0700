"""The convolution stem through the command line: trained, and exported to a file that computes the same."""

import torch

from aaformer_lit import load_model
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
