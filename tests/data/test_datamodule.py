"""The data module: what its loaders deliver, to one process and to several, and what it refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from PIL import Image

from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.data.datasets.market1501 import Market1501DataModule
from aaformer_lit.data.images import read_image
from aaformer_lit.data.preparation import resize
from aaformer_lit.data.sampler import PKSampler
from aaformer_lit.errors import ConfigError, DatasetNotFoundError, ImageError, ProtocolError
from aaformer_lit.structures import NO_PART

TRAIN_PIDS = (2, 7, 10, 11, 30, 31)
SIZE = (16, 8)


@pytest.fixture
def market(tmp_path: Path, write_images: Callable[..., list[Path]]) -> Path:
    """Market-1501 with 6 training people (8 images, one has 2) and 3 test people in 3 cameras, and a distractor."""
    folder = tmp_path / "data" / "market1501"
    counts = dict.fromkeys(TRAIN_PIDS, 8) | {31: 2}
    train = [f"{p:04d}_c{1 + n % 3}s1_{n:06d}_00.jpg" for p, count in counts.items() for n in range(count)]
    write_images(folder / "bounding_box_train", train)
    write_images(folder / "query", [f"{p:04d}_c1s1_000001_00.jpg" for p in (3, 4, 5)])
    gallery = [f"{p:04d}_c{c}s1_000002_00.jpg" for p in (3, 4, 5) for c in (1, 2, 3)]
    write_images(folder / "bounding_box_test", [*gallery, "0000_c2s1_000001_00.jpg", "-1_c2s1_000001_00.jpg"])
    return folder


def module(folder: Path, **changes: Any) -> Market1501DataModule:
    how: dict[str, Any] = {"image_size": SIZE, "ids_per_batch": 3, "images_per_id": 2, "num_workers": 0}
    return Market1501DataModule(folder.parent, **(how | changes))


def fitted(folder: Path, **changes: Any) -> Market1501DataModule:
    data = module(folder, **changes)
    data.setup("fit")
    return data


def test_training_batches(market: Path) -> None:
    data = fitted(market, seed=4)
    assert data.labels == {pid: label for label, pid in enumerate(TRAIN_PIDS)}
    loader = data.train_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader)
    labels = [data.labels[r.pid] for r in data.train_records]
    expected = list(PKSampler(labels, 3, 2, seed=4))
    assert [batch["index"].tolist() for batch in batches] == [[draw.index for draw in batch] for batch in expected]
    for batch in batches:
        assert batch["image"].shape == (6, 3, *SIZE)
        assert batch["image"].dtype == torch.float32
        assert batch["pid"].tolist() == [labels[i] for i in batch["index"]]
        assert batch["camid"].tolist() == [data.train_records[i].camid for i in batch["index"]]


def test_test_batches(market: Path) -> None:
    data = module(market, eval_batch_size=5)
    data.setup("test")
    (test_set,) = data.test_sets.values()
    assert (len(test_set.query), len(test_set.gallery)) == (3, 10)
    (loader,) = data.test_dataloader()
    samples = [{key: batch[key][n] for key in batch} for batch in loader for n in range(len(batch["pid"]))]
    records = [*test_set.query, *test_set.gallery]
    assert [int(s["index"]) for s in samples] == list(range(13))
    assert [(int(s["pid"]), int(s["camid"])) for s in samples] == [(r.pid, r.camid) for r in records]
    for sample, record in zip(samples, records, strict=True):
        expected = (resize(read_image(record.path), SIZE) / 255 - 0.5) / 0.5
        np.testing.assert_allclose(sample["image"], expected.transpose(2, 0, 1), atol=1e-6)


def as_rank(data: Market1501DataModule, rank: int, world_size: int, epoch: int = 0) -> Market1501DataModule:
    progress = SimpleNamespace(current=SimpleNamespace(processed=epoch))
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=rank, world_size=world_size, fit_loop=SimpleNamespace(epoch_progress=progress), current_epoch=epoch
    )
    return data


def test_the_devices_of_a_machine_share_its_cpus(market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(20)), raising=False)
    data = Market1501DataModule(market.parent)
    assert data.workers == 8
    for devices, workers in ((1, 8), (4, 5), (40, 1)):
        alike = {"accelerator": "cpu", "devices": devices, "logger": False, "enable_checkpointing": False}
        data.trainer = Trainer(strategy="ddp" if devices > 1 else "auto", **alike)
        assert data.workers == workers
    # SLURM gives each process CPUs of its own
    for name in ("NODEID", "LOCALID", "PROCID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    data.trainer = Trainer(strategy="ddp", plugins=[SLURMEnvironment(auto_requeue=False)], **alike)
    assert data.workers == 8
    assert Market1501DataModule(market.parent, num_workers=0).workers == 0


def test_a_continued_training_starts_in_its_epoch(market: Path) -> None:
    """Workers draw ahead before Lightning calls `set_epoch`."""
    sampler = as_rank(fitted(market), 0, 1, epoch=3).train_dataloader().batch_sampler
    assert {draw.epoch for batch in sampler for draw in batch} == {3}


def test_ranks_share_a_batch_and_the_test_images(market: Path) -> None:
    alone = fitted(market)
    ranks = [as_rank(fitted(market), rank, 3) for rank in range(3)]
    for whole, *parts in zip(alone.train_dataloader(), *(r.train_dataloader() for r in ranks), strict=True):
        joined = {key: torch.cat([part[key] for part in parts]) for key in whole}
        assert all(torch.equal(joined[key], whole[key]) for key in whole)
    seen = [torch.cat([batch["index"] for batch in r.test_dataloader()[0]]).tolist() for r in ranks]
    assert seen[1] == [1, 4, 7, 10, 0], "every third, then a copy so that all ranks have as many"
    assert set().union(*seen) == set(range(13))
    with pytest.raises(ConfigError, match="Use a multiple of 2"):
        as_rank(alone, 0, 2).train_dataloader()


class Recorder(LightningModule):
    """Trains nothing, remembers what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch["index"].tolist()))
        return self.weight * 0

    def validation_step(self, batch: dict[str, torch.Tensor]) -> None:
        """Nothing: the data module gives no validation loader."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the images are tiny
@pytest.mark.filterwarnings("ignore:Total length of `list`")  # no validation ids, no validation loader
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec")  # Lightning's own use of torch
def test_the_trainer_moves_the_epoch_on(market: Path) -> None:
    data, recorder = module(market, ids_per_batch=2, seed=1), Recorder()
    trainer = Trainer(
        accelerator="cpu", max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(recorder, datamodule=data)
    sampler = PKSampler([data.labels[r.pid] for r in data.train_records], 2, 2, seed=1)
    lengths = []
    for epoch in range(5):
        sampler.set_epoch(epoch)
        lengths.append(len(sampler))
        got = [indices for at, indices in recorder.seen if at == epoch]
        expected = [[draw.index for draw in batch] for batch in sampler]
        assert got == expected[: len(got)]
        assert len(got) == min(lengths[0], len(expected)), "Lightning asks for the length once"
    assert len(set(lengths)) > 1, "the case of interest: epochs of different lengths"


def test_workers_and_cache_change_nothing(market: Path) -> None:
    reference = list(fitted(market).train_dataloader())
    for how in ({"num_workers": 2}, {"cache": True}, {"cache": True, "num_workers": 1}):
        data = fitted(market, **how)
        for _ in range(2):  # the cache is filled once
            batches = list(data.train_dataloader())
            for batch, expected in zip(batches, reference, strict=True):
                assert all(torch.equal(batch[key], expected[key]) for key in expected)


def test_the_loader_leaves_the_global_generator_alone(market: Path) -> None:
    data = fitted(market)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(data.train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_validation_ids(market: Path) -> None:
    assert fitted(market).val_dataloader() == []
    data = fitted(market, val_ids=0.4)
    assert data.val_set is not None
    held = {r.pid for r in data.val_set.query}
    assert len(held) == 2
    assert data.num_classes == 4
    assert set(data.labels) == set(TRAIN_PIDS) - held
    assert data.fingerprint["held_out_ids"] == 2
    loader = data.val_dataloader()
    assert not isinstance(loader, list)
    assert torch.cat([batch["index"] for batch in loader]).tolist() == list(
        range(len(data.val_set.query) + len(data.val_set.gallery))
    )
    assert {r.pid for r in data.query_records} == {3, 4, 5}, "the test set is as before"


def test_a_bad_image_is_an_error(market: Path) -> None:
    path = market / "bounding_box_train" / "0002_c1s1_000000_00.jpg"
    path.write_bytes(path.read_bytes()[:200])
    data = fitted(market, images_per_id=8)
    with pytest.raises(ImageError, match=r"0002_c1s1_000000_00.jpg cannot be decoded: .*on_bad_image=skip"):
        list(data.train_dataloader())


def test_bad_images_are_skipped_and_counted(market: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = [market / "bounding_box_train" / "0002_c1s1_000000_00.jpg", market / "query" / "0003_c1s1_000001_00.jpg"]
    for path in bad:
        path.write_bytes(b"")
    data = fitted(market, on_bad_image="skip")
    assert not {r.path for r in [*data.train_records, *data.query_records]} & set(bad)
    assert len(data.train_records) == 41
    assert {len(batch["pid"]) for batch in data.train_dataloader()} == {6}
    assert sum(len(batch["pid"]) for batch in data.test_dataloader()[0]) == 12
    assert data.fingerprint["bad_images"] == 2
    assert "left out: 2 images that cannot be decoded" in caplog.text
    assert str(bad[0]) in caplog.text
    caplog.clear()
    data.teardown("fit")
    assert "2 images left out of this run" in caplog.text


def test_part_masks(market: Path) -> None:
    for path in sorted(market.rglob("*.jpg")):
        mask = market / "masks" / path.relative_to(market).with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat([0, 4, 9], 4)[:, None].repeat(6, 1).astype(np.uint8)).save(mask)
    data = fitted(market, masks="masks", mask_parts={"legs": [9], "torso": [3, 4]})
    assert data.part_names == ("legs", "torso")
    batch = next(iter(data.train_dataloader()))
    assert batch["part_mask"].shape == (6, *SIZE)
    assert set(batch["part_mask"].unique().tolist()) <= {0, 1, NO_PART}
    tested = next(iter(data.test_dataloader()[0]))
    assert tested["part_mask"][0, :, 0].tolist() == [NO_PART] * 5 + [1] * 6 + [0] * 5
    assert module(market).part_names == ()


def test_distractors(market: Path, write_images: Callable[..., list[Path]]) -> None:
    write_images(market / "more", ["1.jpg", "0000_c5s1_000001_00.jpg", "0007_c3s1_000001_00.jpg"])
    data = fitted(market, distractors="more")
    extra = data.gallery_records[10:]
    assert [(r.path.name[:6], r.pid, r.camid) for r in extra] == [("0000_c", 0, 5), ("0007_c", 0, 3), ("1.jpg", 0, -1)]
    with pytest.raises(DatasetNotFoundError, match="distractors=nowhere"):
        fitted(market, distractors="nowhere")


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"ids_per_batch": 16}, ProtocolError, "has 6 ids, fewer than data.ids_per_batch=16"),
        ({"images_per_id": 1}, ConfigError, "images_per_id=1"),
        ({"image_size": (256,)}, ConfigError, r"image_size=\[256\] must be \[height, width\]"),
        ({"val_ids": 1.0}, ConfigError, "val_ids=1.0"),
        ({"val_ids": 0.9}, ProtocolError, "val_ids=0.9 asks to hold out"),
        ({"on_bad_image": "ignore"}, ConfigError, "data.on_bad_image must be one of error, skip; got 'ignore'"),
        ({"masks": "masks"}, ConfigError, "mask_parts is not"),
        ({"masks": "nowhere", "mask_parts": {"a": [1]}}, ProtocolError, "data.masks=nowhere is no folder"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before_training(
    market: Path, wrong: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        fitted(market, **wrong)


def test_testing_needs_no_trainable_split(market: Path) -> None:
    data = module(market, ids_per_batch=16)
    data.setup("test")
    assert len(data.test_dataloader()) == 1


@pytest.mark.parametrize("split", ["query", "bounding_box_test"])
def test_an_empty_test_set_is_refused(market: Path, split: str) -> None:
    for path in (market / split).iterdir():
        path.unlink()
    with pytest.raises(ProtocolError, match=rf"has no \w+ images, so it cannot be tested on. Complete {split}/"):
        module(market).setup("test")


def test_surprises_in_the_data_are_named(
    market: Path, write_images: Callable[..., list[Path]], caplog: pytest.LogCaptureFixture
) -> None:
    write_images(market / "query", ["0044_c1s1_000001_00.jpg", "0007_c1s1_000001_00.jpg"])
    write_images(market / "query", ["0066_c1s1_000001_00.jpg"])
    write_images(market / "bounding_box_test", ["0066_c1s1_000009_00.jpg"])
    with caplog.at_level(logging.WARNING):
        module(market).setup()
    assert "2 query ids not in the gallery, so the queries are skipped: pid 7, 44." in caplog.text
    assert "1 query image with gallery matches in the same camera only" in caplog.text
    assert "1 id in both train and query, so the test is not on unseen people: pid 7." in caplog.text


def test_the_config_makes_it(market: Path) -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", ["data=market1501", f"paths.data={market.parent}", "data.image_size=[32,16]", "seed=5"])
    data = instantiate(cfg.data)
    assert isinstance(data, Market1501DataModule)
    assert (data.image_size, data.seed, data.ids_per_batch, data.images_per_id) == ((32, 16), 5, 16, 4)
    data.setup("test")
    assert len(data.train_records) == 42
    assert data.fingerprint["name"] == "market1501"
