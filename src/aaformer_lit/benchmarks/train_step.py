"""Forward pass and training step of AAformer against the ViT baseline on the same backbone."""

from __future__ import annotations

from collections.abc import Callable

import torch

from aaformer_lit.benchmarks.measure import Measurement, check, compare, flops_of, product_rate


def train_step(full: bool, repeats: int) -> list[Measurement]:
    """Parts [2,3] at 256x128: ViT-B/16 with a batch of 8 (64 in bfloat16 on a GPU), or ViT-T with 4."""
    from aaformer_lit.models import AAformer, ViTBaseline, build_backbone

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name, batch = ("vit_base_patch16_224", 64 if device == "cuda" else 8) if full else ("vit_tiny_patch16_224", 4)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    images = torch.randn(batch, 3, 256, 128, device=device)
    backbones = [build_backbone(name, (256, 128), drop_path=0.0) for _ in range(3)]
    for backbone in backbones[1:]:
        backbone.load_state_dict(backbones[0].state_dict())
    baseline = ViTBaseline(backbones[0]).to(device)
    isolated = AAformer(backbones[1], visibility="isolated").to(device)
    with torch.no_grad():
        check("train_step", isolated.eval()(images).global_feat, baseline.eval()(images).global_feat, 1e-4)
    del isolated
    network = AAformer(backbones[2], parts=[2, 3]).to(device)

    def forward(net: torch.nn.Module) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad(), torch.autocast(device, dtype, enabled=device == "cuda"):
                net.eval()(images)

        return run

    def step(net: torch.nn.Module) -> Callable[[], object]:
        def run() -> None:
            with torch.autocast(device, dtype, enabled=device == "cuda"):
                output = net.train()(images)
                loss = output.global_feat.float().sum() + output.part_feats.float().sum()
            loss.backward()

        return run

    rate = product_rate(device, dtype)
    rows = []
    for label, make in (("forward", forward), ("forward and backward", step)):
        what = f"{label}, {name}, parts [2,3], batch {batch}, {str(dtype).removeprefix('torch.')}"
        floor = flops_of(make(network)) / rate
        seconds = compare(make(network), make(baseline), repeats)
        floor_is = "its FLOPs at the rate of a large product"
        rows.append(Measurement("train_step", what, "ViT baseline", *seconds, floor, floor_is))
    return rows
