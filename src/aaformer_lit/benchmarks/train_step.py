"""Forward pass and training step of AAformer against the ViT baseline on the same backbone."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from aaformer_lit.benchmarks.measure import Measurement, Run, check, flops_of, in_turns, product_rate

IDS, IMAGES_PER_ID = 751, 4  # of Market-1501; of a person in a batch


def train_step(full: bool, repeats: int) -> Iterator[Measurement]:
    """Parts [2,3]: ViT-B/16 at 256x128 with a batch of 8 (64 in bfloat16 on a GPU), and on a CPU ViT-S/16 at 128x64 with 64,
    in float32 and in bfloat16 autocast; of size `small`, ViT-T with 4. A step is the forward pass, the losses, the
    backward pass and AdamW, where the data lie ready.
    """
    large, little = ("vit_base_patch16_224", "vit_small_patch16_224") if full else ("vit_tiny_patch16_224",) * 2
    if torch.cuda.is_available():
        yield from _rows(large, (256, 128), 64 if full else 4, torch.bfloat16, repeats)
        return
    for dtype in (torch.float32, torch.bfloat16):
        yield from _rows(little, (128, 64), 64 if full else 4, dtype, repeats)
    yield from _rows(large, (256, 128), 8 if full else 4, torch.float32, repeats)


def _rows(name: str, size: tuple[int, int], batch: int, dtype: torch.dtype, repeats: int) -> Iterator[Measurement]:
    from aaformer_lit.assign import Placed, PlaceLoss
    from aaformer_lit.losses import ReIDLoss
    from aaformer_lit.models import AAformer, ReIDViT, ViTBaseline, build_backbone

    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.randn(batch, 3, *size, device=device)
    pids = torch.arange(batch, device=device) // IMAGES_PER_ID
    backbones = [build_backbone(name, size, drop_path=0.0) for _ in range(3)]
    for backbone in backbones[1:]:
        backbone.load_state_dict(backbones[0].state_dict())
    baseline = ViTBaseline(backbones[0], num_classes=IDS).to(device)
    soft = Placed(rounding="soft")
    placed = AAformer(backbones[1], assigner=soft, num_classes=IDS, visibility="isolated").to(device)
    with torch.no_grad():
        check("train_step", placed.eval()(images).global_feat, baseline.eval()(images).global_feat, 1e-4)
    printed = AAformer(backbones[2], num_classes=IDS).to(device)
    criterion, teacher = ReIDLoss(), PlaceLoss()

    def forward(net: ReIDViT, taught: bool = False) -> Run:
        def run() -> None:
            with torch.no_grad(), torch.autocast(device, dtype, enabled=dtype != torch.float32):
                net.eval()(images)

        return run

    def step(net: ReIDViT, taught: bool = False) -> Run:
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-6, fused=True)

        def run() -> None:
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                output = net.train()(images, return_scores=taught)
                loss = criterion(output, pids)["loss"]
                if taught:
                    loss = loss + teacher(output, net.granularities, net.grid)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return run

    rate = product_rate(device, dtype)
    where = f"{name}, {size[0]}x{size[1]}, batch {batch}, {str(dtype).removeprefix('torch.')}"
    forms = [
        ("argmax", printed, False),
        ("soft with a cost of place", placed, False),
        ("the same, taught where parts belong", placed, True),
    ]
    for make, some in ((forward, forms[:2]), (step, forms)):  # a forward pass is not taught
        runs = [make(network, taught) for _, network, taught in some]
        plain, *ours = in_turns([make(baseline), *runs], repeats)
        for (form, *_), run, seconds in zip(some, runs, ours, strict=True):
            floor, floor_is = flops_of(run) / rate, "its FLOPs at the rate of a large product"
            what = f"{form}: {make.__name__}, {where}"
            yield Measurement("train_step", what, "ViT baseline", seconds, plain, floor, floor_is)
