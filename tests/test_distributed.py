"""Two processes on CPU (gloo): trained and tested from the command line, with the metrics of one process."""

import os
import subprocess
import sys

import pytest
import torch

from cli_tools import TINY, TINY_DATA, only, read_json

DDP = ("trainer=ddp", "trainer.accelerator=cpu")


def start(entry: str, *overrides: str) -> None:
    """As a user would: Lightning starts the second process by itself."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"aaformer_lit.{entry}", *overrides]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_processes_train_and_give_the_metrics_of_one(tmp_path, data_dir, trained):
    paths = (f"paths.data={data_dir}", f"paths.runs={tmp_path}")
    tiny = [option for option in TINY if option != "trainer=cpu"]
    start("train", *DDP, *tiny, *paths)
    run = only(tmp_path.rglob("metrics.json")).parent  # one run directory, not one for each process
    checkpoint = run / "checkpoints" / "last.ckpt"
    options = (f"ckpt={checkpoint}", *TINY_DATA, f"paths.data={data_dir}", "trainer.enable_progress_bar=false")
    start("evaluate", *options, f"paths.runs={tmp_path / 'one'}", "trainer=cpu")
    one = read_json(only((tmp_path / "one").rglob("metrics.json")))
    assert one == pytest.approx(read_json(run / "metrics.json"), abs=1e-6)
    # the test set's size is odd for three processes, which therefore repeat images that must not count twice
    start("evaluate", *options, f"paths.runs={tmp_path / 'three'}", *DDP, "trainer.devices=3")
    three = read_json(only((tmp_path / "three").rglob("metrics.json")))
    assert three == pytest.approx(one, abs=1e-6)


STEP = """
import sys, torch, torch.distributed as dist
from aaformer_lit.losses import ReIDLoss
from aaformer_lit.models import AAformer, build_backbone
from aaformer_lit.ops.distributed import gather_batch

rank, world, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
torch.manual_seed(0)
backbone = build_backbone("vit_tiny_patch16_224", (32, 32), embed_dim=24, depth=2, num_heads=3, patch_size=8, drop_path=0.0)
network = AAformer(backbone, parts=[2], num_classes=4, visibility="isolated").double().train()
wrapped = torch.nn.parallel.DistributedDataParallel(network) if world > 1 else network
images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
pids = torch.arange(4).repeat_interleave(4)
rows = slice(rank * 16 // world, (rank + 1) * 16 // world)
loss = ReIDLoss()(wrapped(images[rows]), pids[rows], gather_batch if world > 1 else None)["loss"]
loss.backward()
if rank == 0:
    torch.save({n: p.grad for n, p in network.named_parameters() if p.grad is not None} | dict(network.named_buffers()), out)
"""


def test_a_training_step_on_two_ranks_is_the_step_of_one(tmp_path):
    """Same gradients and batch-norm statistics: mining and BNNeck see the global batch."""
    results = []
    for world in (1, 2):
        out = tmp_path / f"{world}.pt"
        commands = [
            [sys.executable, "-c", STEP, str(r), str(world), str(tmp_path / f"s{world}"), str(out)]
            for r in range(world)
        ]
        processes = [subprocess.Popen(c, env=os.environ | {"OMP_NUM_THREADS": "1"}) for c in commands]
        assert [p.wait(timeout=120) for p in processes] == [0] * world
        results.append(torch.load(out, weights_only=True))
    one, two = results
    assert one.keys() == two.keys()
    assert any("part_tokens" in key for key in one)
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=1e-8, rtol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
