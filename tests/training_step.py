"""One training step on a rank's share of a batch; of two ranks, each is a process of its own: RANK WORLD STORE OUT."""

import sys

import torch
import torch.distributed as dist

from aaformer_lit.losses import ReIDLoss
from aaformer_lit.models import AAformer, build_backbone
from aaformer_lit.ops.distributed import gather_batch

STEMS = ("patch", "ics")


def step(stem, rank=0, world=1):
    """Gradients and buffers after a step on 16 images in `world` shares."""
    torch.manual_seed(0)
    shape = {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8, "drop_path": 0.0, "stem": stem}
    backbone = build_backbone("vit_tiny_patch16_224", (32, 32), **shape)
    network = AAformer(backbone, parts=[2], num_classes=4, visibility="isolated").double().train()
    wrapped = torch.nn.parallel.DistributedDataParallel(network) if world > 1 else network
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    pids = torch.arange(4).repeat_interleave(4)
    rows = slice(rank * 16 // world, (rank + 1) * 16 // world)
    loss = ReIDLoss()(wrapped(images[rows]), pids[rows], gather_batch if world > 1 else None)["loss"]
    loss.backward()
    return {n: p.grad for n, p in network.named_parameters() if p.grad is not None} | dict(network.named_buffers())


if __name__ == "__main__":
    rank, world, (store, out) = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    results = {stem: step(stem, rank, world) for stem in STEMS}
    if rank == 0:
        torch.save(results, out)
