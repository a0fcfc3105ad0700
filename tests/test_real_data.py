"""Real crops and real pre-trained weights, where AAFORMER_TEST_DATA says they are; skipped elsewhere."""

import os
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from safetensors.torch import load_file

from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.models import AAformer, build_backbone
from cli_tools import only, read_json, run_cli

DATA = Path(os.environ.get("AAFORMER_TEST_DATA") or "/nonexistent")
WEIGHTS = DATA / "weights" / "dinov2_vits16.safetensors"
pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="AAFORMER_TEST_DATA names no folder with real data")


def test_pretrained_weights_load_whole_and_keep_the_projections():
    network = AAformer(build_backbone("vit_small_patch16_224", (256, 128), weights=WEIGHTS))
    source = load_file(WEIGHTS)
    for layer in (0, 11):
        key = f"blocks.{layer}.attn.qkv.weight"
        torch.testing.assert_close(network.backbone.get_parameter(key), source[key].float())
    assert network.backbone.pos_embed.shape == (1, 1 + 16 * 8, 384)


def test_cosine_transport_shares_real_patches_where_nearest_collapses():
    """Design note 1: on real crops three iterations on cosine similarities come near the equal partition of Eq. 4."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", ["data=market1501", f"paths.data={DATA}/real/mini_market1501", "data.num_workers=0"])
    data = instantiate(cfg.data)
    data.setup("test")
    batch = next(iter(data.test_dataloader()[0]))["image"][:8]
    largest = {}
    for similarity in ("cosine", "dot"):
        torch.manual_seed(0)
        backbone = build_backbone("vit_small_patch16_224", (256, 128), weights=WEIGHTS)
        network = AAformer(backbone, parts=[3], similarity=similarity).eval()
        shares = torch.stack([m.float().mean(-1) for m in network.assignments(batch)])
        largest[similarity] = shares.amax(-1).mean().item()
    assert largest["cosine"] < 0.45 < largest["dot"]


@pytest.mark.slow
def test_fine_tuning_lifts_map_on_real_crops(tmp_path):
    code = run_cli(
        "train", "experiment=finetune_laptop", f"paths.data={DATA}/real/mini_market1501", f"paths.runs={tmp_path}",
        f"model.backbone.weights={WEIGHTS}", "data.images_per_id=2", "trainer.max_epochs=20", "trainer=cpu",
    )  # fmt: skip
    assert code == 0
    metrics = read_json(only(tmp_path.rglob("metrics.json")))
    assert metrics["test/mAP"] > metrics["test/untrained/mAP"] + 0.1
