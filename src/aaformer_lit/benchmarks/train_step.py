"""Forward pass and training step of AAformer against the ViT baseline on the same backbone."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

from aaformer_lit.benchmarks.measure import Measurement, check, compare, flops_of, product_rate


def train_step(full: bool, repeats: int) -> list[Measurement]:
    """Parts [2,3]: ViT-B/16 at 256x128 with a batch of 8 (64 in bfloat16 on a GPU), and on a CPU ViT-S/16 at 128x64 with 64,
    in float32 and in bfloat16 autocast; of size `small`, ViT-T with 4.
    """
    large, little = ("vit_base_patch16_224", "vit_small_patch16_224") if full else ("vit_tiny_patch16_224",) * 2
    if torch.cuda.is_available():
        return _rows(large, (256, 128), 64 if full else 4, torch.bfloat16, repeats)
    rows = _rows(large, (256, 128), 8 if full else 4, torch.float32, repeats)
    for dtype in (torch.float32, torch.bfloat16):
        rows += _rows(little, (128, 64), 64 if full else 4, dtype, repeats)
    return rows


def _rows(name: str, size: tuple[int, int], batch: int, dtype: torch.dtype, repeats: int) -> list[Measurement]:
    from aaformer_lit.assign import Placed
    from aaformer_lit.models import AAformer, ViTBaseline, build_backbone

    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.randn(batch, 3, *size, device=device)
    backbones = [build_backbone(name, size, drop_path=0.0) for _ in range(3)]
    for backbone in backbones[1:]:
        backbone.load_state_dict(backbones[0].state_dict())
    baseline = ViTBaseline(backbones[0]).to(device)
    placed = AAformer(backbones[1], assigner=Placed(rounding="soft"), visibility="isolated").to(device)
    with torch.no_grad():
        check("train_step", placed.eval()(images).global_feat, baseline.eval()(images).global_feat, 1e-4)
    forms = {"argmax": AAformer(backbones[2]).to(device), "soft with a cost of place": placed}

    def forward(net: torch.nn.Module) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad(), torch.autocast(device, dtype, enabled=dtype != torch.float32):
                net.eval()(images)

        return run

    def step(net: torch.nn.Module) -> Callable[[], object]:
        def run() -> None:
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                output = net.train()(images)
                loss = output.global_feat.float().sum() + output.part_feats.float().sum()
            loss.backward()

        return run

    rate = product_rate(device, dtype)
    rows = []
    passes = (("forward", forward), ("forward and backward", step))
    for (form, network), (label, make) in itertools.product(forms.items(), passes):
        where = f"{name}, {size[0]}x{size[1]}, batch {batch}, {str(dtype).removeprefix('torch.')}"
        floor = flops_of(make(network)) / rate
        seconds = compare(make(network), make(baseline), repeats)
        floor_is = "its FLOPs at the rate of a large product"
        rows.append(Measurement("train_step", f"{form}: {label}, {where}", "ViT baseline", *seconds, floor, floor_is))
    return rows
