"""Alignment measured during the test, against loops over the same images; with other networks, options and processes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import OmegaConf
from sklearn.metrics import normalized_mutual_info_score
from torch.utils.data import DataLoader, DistributedSampler

from aaformer_lit import load_model
from aaformer_lit.assign import Placed
from aaformer_lit.engine.callbacks.alignment import AlignmentTest
from aaformer_lit.engine.module import ReIDModule
from aaformer_lit.engine.results import flatten_alignment
from aaformer_lit.metrics import patch_labels
from aaformer_lit.models import AAformer, PooledViT, TransReID, ViTBaseline, build_backbone
from aaformer_lit.structures import NO_PART
from cli_tools import TINY_DATA, only, read_json, run_cli


@pytest.fixture(scope="module")
def data(trained):
    module = instantiate(OmegaConf.load(trained / "config.yaml").data)
    module.setup("test")
    return module


@pytest.fixture(scope="module")
def network(trained):
    return load_model(trained / "checkpoints" / "last.ckpt")


def measured(network, data, folder: Path, images: int | None = 2000, **options) -> AlignmentTest:
    callback = AlignmentTest(images)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    trainer = Trainer(callbacks=[callback], default_root_dir=folder, **quiet)
    trainer.test(ReIDModule(network, **options), datamodule=data, verbose=False)
    return callback


def test_a_training_writes_the_alignment_of_its_test(trained, data, network):
    """The table in alignment.json against a loop over images, layers and heads with scikit-learn's NMI."""
    content = read_json(trained / "alignment.json")
    assert content["body_parts"] == [*data.part_names, "background"]
    labels, chosen, background = [], {2: [], 3: []}, []
    (loader,) = data.test_dataloader()
    for batch in loader:
        labels.append(patch_labels(batch["part_mask"], network.grid))
        maps = [network.part_attention_maps(batch["image"], layer) for layer in range(2)]
        for parts, tokens in ((2, slice(0, 2)), (3, slice(2, 5))):
            # (layers, images, heads, patches): which part; a patch lent to an empty part counts for both, and is rare
            chosen[parts].append(torch.stack([m[:, :, tokens] for _, m in maps]))
        on_background = (labels[-1] == NO_PART).float()
        background.append(torch.stack([torch.einsum("bhpn,bn->bhp", w, on_background) for w, _ in maps]))
    labels = torch.cat(labels).numpy()
    background = torch.cat(background, dim=1).mean(dim=1)  # each part's attention sums to 1 on every image
    rows = {(row["parts"], row["layer"], row["head"]): row for row in content["rows"]}
    assert len(rows) == len(content["rows"]) == 2 * 2 * network.backbone.blocks[0].attn.num_heads
    for (parts, layer, head), row in rows.items():
        member = torch.cat(chosen[parts], dim=1)[layer - 1, :, head - 1].numpy()
        images, part, patch = np.nonzero(member)
        label = labels[images, patch]
        shown = label != NO_PART
        assert row["nmi"] == pytest.approx(normalized_mutual_info_score(label[shown], part[shown]), abs=1e-9)
        best = sum(np.bincount(label[shown & (part == p)]).max() for p in range(parts))
        assert row["purity"] == pytest.approx(best / shown.sum())
        tokens = slice(0, 2) if parts == 2 else slice(2, 5)
        expected = background[layer - 1, head - 1, tokens].mean().item()
        assert row["background_share"] == pytest.approx(expected, abs=1e-5)
        assert row["subset_share"] == pytest.approx([(part == p).mean() for p in range(parts)])
        assert np.sum(row["counts"]) == len(part)
    written = read_json(trained / "metrics.json")
    last = [[row["nmi"] for (p, layer, _), row in rows.items() if p == parts and layer == 2] for parts in (2, 3)]
    assert written["test/alignment/nmi_parts_2"] == pytest.approx(np.mean(last[0]))
    assert written["test/alignment/nmi_parts_3"] == pytest.approx(np.mean(last[1]))
    assert written["test/alignment/nmi"] == pytest.approx(np.mean([np.mean(heads) for heads in last]))
    for name in ("purity", "background_share", "background_patches", "subset_entropy"):
        assert 0 < written[f"test/alignment/{name}"] <= 1


def counts_of_the_last_layer(network, data, drawn=None) -> torch.Tensor:
    """A loop over the images (all, or those drawn) with what a forward pass gives."""
    (loader,) = data.test_dataloader()
    table, bodies = 0, len(data.part_names)
    for batch in loader:
        rows = [row for row, index in enumerate(batch["index"].tolist()) if drawn is None or index in drawn]
        if rows:
            labels = patch_labels(batch["part_mask"][rows], network.grid).long()
            one_hot = torch.nn.functional.one_hot(labels.masked_fill(labels == NO_PART, bodies), bodies + 1).float()
            membership = network.assignments(batch["image"][rows])[-1].float()
            table = table + torch.einsum("bhpn,bnc->hpc", membership, one_hot)
    return table.long()


def test_a_sample_is_measured_alone_and_is_the_same_in_every_run(network, data, tmp_path):
    """Its tables are those of a loop over the drawn images, and no other image costs a second pass."""
    test_set = next(iter(data.test_sets.values()))
    images = len(test_set.query) + len(test_set.gallery)
    assert images > 5
    drawn = sorted(np.random.default_rng(0).permutation(images)[:5].tolist())
    (some,) = measured(network, data, tmp_path, images=5).results.values()
    counted = torch.cat([alignment.counts[-1] for alignment in some], dim=1)
    assert torch.equal(counted, counts_of_the_last_layer(network, data, drawn))
    (every,) = measured(network, data, tmp_path, images=None).results.values()
    assert every[0].counts.sum() > some[0].counts.sum() >= 5 * network.grid[0] * network.grid[1]


def test_parts_that_follow_the_body_are_measured_where_they_are(data, tmp_path):
    torch.manual_seed(0)
    backbone = build_backbone("vit_tiny_patch16_224", (64, 32), embed_dim=24, depth=2, num_heads=2, patch_size=8)
    made = AAformer(backbone, [2, 3], Placed(1.0, rounding="soft"), visibility="isolated", follow_body=1).eval()
    with torch.no_grad():
        made.heights.edges.bias.copy_(torch.tensor([0.5, 1.0]))  # every image shows the lower half
    (results,) = measured(made, data, tmp_path, images=None).results.values()
    counted = torch.cat([alignment.counts[-1] for alignment in results], dim=1)
    assert torch.equal(counted, counts_of_the_last_layer(made, data))
    assert results[0].subset_share[-1, :, 1].min() > 0.7  # by the image it would be half


def test_the_mirror_image_does_not_count(network, data, tmp_path):
    plain, mirrored = measured(network, data, tmp_path), measured(network, data, tmp_path, flip_test=True)
    assert flatten_alignment(plain.results) == flatten_alignment(mirrored.results)
    assert not any(layer._forward_hooks for layer in network.modules()), "left its hooks behind"


def test_networks_that_pool_or_have_no_parts(data, tmp_path):
    backbone = build_backbone("vit_tiny_patch16_224", (64, 32), embed_dim=24, depth=1, num_heads=2, patch_size=8)
    assert measured(ViTBaseline(backbone), data, tmp_path).results == {}
    ((stripes,),) = measured(PooledViT(backbone, parts=[4]), data, tmp_path).results.values()
    assert stripes.counts.shape == (1, 1, 4, len(data.part_names) + 1)
    assert stripes.subset_share.flatten().tolist() == pytest.approx([0.25] * 4)  # 8 rows in 4 stripes
    assert stripes.background_attention is None
    ((jigsaw,),) = measured(TransReID(backbone, groups=2), data, tmp_path).results.values()
    # groups from all over the body mean nothing; stripes from head to foot do
    assert stripes.nmi.item() > 0.2 > jigsaw.nmi.item()


def test_several_test_sets_have_a_mean(data, network, tmp_path):
    (alignments,) = measured(network, data, tmp_path).results.values()
    flat = flatten_alignment({"a": alignments[:1], "b": alignments[1:]})
    assert flat["test/a/alignment/nmi"] == alignments[0].last_layer()["nmi"]
    assert flat["test/alignment/purity"] == pytest.approx(
        (flat["test/a/alignment/purity"] + flat["test/b/alignment/purity"]) / 2
    )


@pytest.mark.slow  # TorchDynamo takes its time
def test_a_compiled_network_is_measured_too(trained, data, network, tmp_path):
    compiled = load_model(trained / "checkpoints" / "last.ckpt")
    compiled.compile(backend="eager")
    with torch.no_grad():
        compiled(next(iter(data.test_dataloader()[0]))["image"])  # compiled before there were hooks
    ours, theirs = (flatten_alignment(measured(n, data, tmp_path).results) for n in (compiled, network))
    assert ours
    assert ours == theirs


def test_it_can_be_switched_off_and_needs_masks(trained, data_dir, tmp_path):
    for number, off in enumerate([("alignment=false",), ("data.masks=null", "data.mask_parts=null")]):
        runs = tmp_path / str(number)
        code = run_cli(
            "evaluate", f"ckpt={trained}/checkpoints/last.ckpt", *TINY_DATA, f"paths.data={data_dir}", "trainer=cpu",
            f"paths.runs={runs}", "trainer.enable_progress_bar=false", *off,
        )  # fmt: skip
        assert code == 0
        run = only(runs.rglob("metrics.json")).parent
        assert not any("alignment" in key for key in read_json(run / "metrics.json"))
        assert not (run / "alignment.json").exists()


def test_three_processes_count_every_image_once(network, data, tmp_path):
    """16 images do not divide by three: two copies fill the last batches (the processes' tables are added up in
    tests/metrics, real processes compared in tests/test_distributed.py)."""
    images = data.test_dataloader()[0].dataset
    assert len(images) == 16
    tables, seen = [], 0
    for rank in range(3):
        trainer: Any = SimpleNamespace(datamodule=data, world_size=3, global_rank=rank)
        callback, module = AlignmentTest(), ReIDModule(network)
        callback.on_test_epoch_start(trainer, module)
        sampler = DistributedSampler(images, 3, rank, shuffle=False)
        seen += len(sampler)
        for number, batch in enumerate(DataLoader(images, batch_size=5, sampler=sampler)):
            callback.on_test_batch_start(trainer, module, batch, number)
            with torch.no_grad():
                network(batch["image"])
            callback.on_test_batch_end(trainer, module, None, batch, number)
        tables.append(callback._meters["synthetic"].table)
        callback.on_exception(trainer, module, KeyboardInterrupt())
    assert seen == 18
    (whole,) = measured(network, data, tmp_path).results.values()
    assert torch.equal(sum(tables), torch.cat([alignment.counts for alignment in whole], dim=2))
