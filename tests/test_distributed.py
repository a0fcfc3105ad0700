"""Two processes on CPU (gloo): trained and tested from the command line, with the metrics of one process."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh

import training_step
from aaformer_lit import load_model
from aaformer_lit.checkpoints.load import describe, read_checkpoint
from aaformer_lit.engine.callbacks.ema import EMA
from aaformer_lit.engine.fsdp import Sharded, shard, unsharded
from aaformer_lit.errors import ConfigError
from aaformer_lit.models import AAformer, build_backbone
from cli_tools import TINY, TINY_DATA, only, read_json

DDP = ("trainer=ddp", "trainer.accelerator=cpu")
OPTIONS = (*(option for option in TINY if option != "trainer=cpu"), "trainer.max_epochs=2")
OPTIONS += ("model.backbone.drop_path=0.5",)  # of which each rank has its own, also when continued
# parameters in several groups, some of them frozen
OPTIONS += ("optim=adamw", "+optim.optimizer.eps=1e-4", "optim.head_lr_factor=3", "optim.freeze=[patch_embed]")


def start(entry: str, *overrides: str) -> None:
    """As a user would: Lightning starts the second process by itself."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"aaformer_lit.{entry}", *overrides]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory, data_dir, trained):
    """The run directory of two epochs."""
    runs = tmp_path_factory.mktemp("ddp")
    start("train", *DDP, *OPTIONS, "pictures=[rankings]", f"paths.data={data_dir}", f"paths.runs={runs}")
    return only(runs.rglob("metrics.json")).parent  # one run directory, not one for each process


def moments(checkpoint):
    """All that the optimizer remembers, parameter by parameter in the order of its groups."""
    (optimizer,) = checkpoint["optimizer_states"]
    numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
    return [moment for number in numbers for moment in optimizer["state"][number].values()]


def test_two_processes_train_and_give_the_metrics_of_one(tmp_path, data_dir, two_processes):
    run = two_processes
    assert (run / "pictures" / "rankings.png").is_file()  # which needs the features of both
    checkpoint = run / "checkpoints" / "last.ckpt"
    first, second = read_checkpoint(checkpoint)["random_state"]["cpu"]
    assert not torch.equal(first, second)  # or both would drop the same paths
    options = (f"ckpt={checkpoint}", *TINY_DATA, f"paths.data={data_dir}", "trainer.enable_progress_bar=false")
    options += ("save_features=true",)
    start("evaluate", *options, f"paths.runs={tmp_path / 'one'}", "trainer=cpu")
    one = read_json(only((tmp_path / "one").rglob("metrics.json")))
    assert one == pytest.approx(read_json(run / "metrics.json"), abs=1e-6)
    # the test set's size is odd for three processes, which therefore repeat images that must not count twice
    start("evaluate", *options, f"paths.runs={tmp_path / 'three'}", *DDP, "trainer.devices=3")
    three = read_json(only((tmp_path / "three").rglob("metrics.json")))
    assert three == pytest.approx(one, abs=1e-6)
    of_one, of_three = (load_file(only((tmp_path / n).rglob("features.safetensors"))) for n in ("one", "three"))
    for name in of_one:
        torch.testing.assert_close(of_three[name], of_one[name], atol=1e-6, rtol=0)


def test_shards_train_to_the_weights_of_whole_copies(tmp_path, data_dir, two_processes):
    """`trainer=fsdp` continues after the first epoch of `trainer=ddp`, and ends where that ended, dropped paths included."""
    checkpoint = two_processes / "checkpoints" / "last.previous.ckpt"
    sharded = ("trainer=fsdp", "trainer.accelerator=cpu", f"ckpt_path={checkpoint}")
    start("train", *sharded, *OPTIONS, "pictures=[attention]", f"paths.data={data_dir}", f"paths.runs={tmp_path}")
    run = only(tmp_path.rglob("metrics.json")).parent
    assert (run / "pictures" / "attention.png").is_file()
    assert read_json(run / "metrics.json") == pytest.approx(read_json(two_processes / "metrics.json"), abs=1e-6)
    ours, theirs = (read_checkpoint(r / "checkpoints" / "last.ckpt") for r in (run, two_processes))
    for name, weights in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], weights, atol=1e-6, rtol=1e-5)
    for one, other in zip(*(moments(checkpoint) for checkpoint in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_short_descriptors_of_shards_are_kept_as_models(tmp_path, data_dir, two_processes):
    options = (f"ckpt={two_processes}", *TINY_DATA, f"paths.data={data_dir}", "trainer.enable_progress_bar=false")
    options += ("compress=[8]", f"paths.runs={tmp_path}", "alignment=false", "stability=0")
    start("evaluate", *options, "trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2")
    assert load_model(only(tmp_path.rglob("compressed_8"))).compression.size == 8


def test_a_whole_copy_of_shards_takes_no_random_numbers(tmp_path):
    network = AAformer(build_backbone("vit_tiny_patch16_224", (32, 16)), parts=[2])
    model = {"_target_": "aaformer_lit.models.AAformer", "parts": [2]}
    model["backbone"] = {"_target_": "aaformer_lit.models.build_backbone", "name": "vit_tiny_patch16_224"}
    model["backbone"]["image_size"] = [32, 16]
    about = describe(model, 0, {"image_size": [32, 16], "mean": [0.5] * 3, "std": [0.5] * 3})
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        shard(network, init_device_mesh("cpu", (1,)))
        before = torch.get_rng_state()
        copy = unsharded(network, about)
        assert torch.equal(torch.get_rng_state(), before)
        assert copy is not network
    finally:
        dist.destroy_process_group()


def test_shards_have_no_average():
    with pytest.raises(ConfigError, match="trainer=ddp"):
        EMA().setup(SimpleNamespace(strategy=Sharded()), None, "fit")


@pytest.fixture(scope="module")
def step_of_two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("step")
    command = [sys.executable, training_step.__file__]
    rest = ["2", str(folder / "store"), str(folder / "step.pt")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([*command, rank, *rest], env=environment) for rank in ("0", "1")]
    assert [p.wait(timeout=240) for p in processes] == [0, 0]
    return torch.load(folder / "step.pt", weights_only=True)


@pytest.mark.parametrize("stem", training_step.STEMS)
def test_a_training_step_on_two_ranks_is_the_step_of_one(step_of_two_ranks, stem):
    """Same gradients and batch-norm statistics: mining, BNNeck and the convolution stem's norms see the global batch."""
    one, two = training_step.step(stem), step_of_two_ranks[stem]
    assert one.keys() == two.keys()
    assert any("part_tokens" in key for key in one)
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=1e-8, rtol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
