"""The main job from the command line: what a run leaves, continuing, sweeping, evaluating, and errors in one message."""

import math

import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from aaformer_lit import load_model
from aaformer_lit.checkpoints.load import read_checkpoint
from aaformer_lit.cli import resolvers
from aaformer_lit.engine.module import ReIDModule
from aaformer_lit.metrics import evaluate_retrieval
from aaformer_lit.structures import FeatureSet
from aaformer_lit.train import _continue_from
from cli_tools import TINY, TINY_DATA, TINY_MODEL, only, read_json, run_cli


def test_a_run_leaves_what_it_promises(trained):
    metrics = read_json(trained / "metrics.json")
    for name in ("mAP", "rank1", "rank5", "rank10", "mINP", "mAP_global", "mAP_parts", "mAP_parts_2", "mAP_parts_3"):
        assert 0 <= metrics[f"test/{name}"] <= 1
    metadata = read_json(trained / "metadata.json")
    assert metadata["config"]["model"]["parts"] == [2, 3]
    assert metadata["data"]["name"] == "synthetic"
    assert metadata["choices"]["data"] == "synthetic"
    assert {"torch", "lightning", "timm"} <= metadata["versions"].keys()
    for name in ("curves", "rankings", "assignment"):
        assert (trained / "pictures" / f"{name}.png").stat().st_size > 5_000
    log = pd.read_csv(trained / "metrics.csv")
    assert log["train/loss"].notna().any()
    assert log["assign/largest_share"].dropna().between(0, 1).all()
    assert not list(trained.rglob("*.tmp"))


def test_metrics_of_the_checkpoint_by_hand(trained, data_dir):
    """Embedding the images and ranking them here gives the numbers in metrics.json, and per-query rows average to them."""
    network = load_model(trained / "checkpoints" / "last.ckpt")
    cfg = OmegaConf.load(trained / "config.yaml")
    data = instantiate(cfg.data)
    data.prepare_data()
    data.setup("test")
    (loader,) = data.test_dataloader()
    with torch.no_grad():
        batches = [(network.embed(b["image"]), b["pid"], b["camid"]) for b in loader]
    features, pids, camids = (torch.cat(parts) for parts in zip(*batches, strict=True))
    split = len(data.query_records)
    metrics = evaluate_retrieval(
        FeatureSet(features[:split], pids[:split], camids[:split]),
        FeatureSet(features[split:], pids[split:], camids[split:]),
    )
    written = read_json(trained / "metrics.json")
    assert metrics.mAP == pytest.approx(written["test/mAP"], abs=1e-6)
    table = pd.read_parquet(trained / "per_query.parquet")
    assert table[table.subset == ""].average_precision.mean() == pytest.approx(written["test/mAP"], abs=1e-6)
    assert (table[table.subset == "parts"].first_hit_rank == 1).mean() == pytest.approx(
        written["test/rank1_parts"], abs=1e-6
    )


def test_evaluate_gives_the_same_numbers(trained, data_dir, tmp_path):
    code = run_cli(
        "evaluate", f"ckpt={trained}/checkpoints/last.ckpt", *TINY_DATA, "trainer=cpu", f"paths.data={data_dir}",
        f"paths.runs={tmp_path}", "save_features=true", "data.image_size=[128,64]", "trainer.enable_progress_bar=false",
    )  # fmt: skip
    assert code == 0
    evaluated = only(tmp_path.rglob("metrics.json"))
    ours, theirs = read_json(evaluated), read_json(trained / "metrics.json")
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert (evaluated.parent / "features.safetensors").exists()


def test_the_checkpoint_says_what_it_is_and_loads_safely(trained):
    about = read_checkpoint(trained / "checkpoints" / "last.ckpt")["aaformer_lit"]
    assert about["num_classes"] == 8
    assert about["data"]["image_size"] == [64, 32]
    assert about["model"]["_target_"] == "aaformer_lit.models.AAformer"


def test_the_place_of_parts_and_of_the_body_is_taught_beside_the_loss(tmp_path, data_dir):
    code = run_cli(
        "train",
        *TINY,
        "ablation=placed_following",
        "model.follow_body=2",
        f"paths.data={data_dir}",
        f"run_dir={tmp_path}",
    )
    assert code == 0
    log = pd.read_csv(tmp_path / "metrics.csv").dropna(subset=["train/loss"]).iloc[-1]
    assert 0.3 < log["train/place"] < 10  # a cross entropy over 2 and 3 parts
    assert pd.isna(log.get("assign/marginal_error"))  # parts that follow are not to be equal
    assert 0.01 < log["train/heights"] < 0.2  # of the body's height; moved boxes are off by 0.1 in the mean
    others = log["train/id"] + log["train/triplet"]
    assert log["train/loss"] == pytest.approx(others + 0.3 * log["train/place"] + 10 * log["train/heights"], rel=1e-4)


DROPPING = (*TINY, "trainer.max_epochs=4", "model.backbone.drop_path=0.3")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
    """The last checkpoint of a run with drop path that nothing interrupted."""
    runs = tmp_path_factory.mktemp("whole")
    assert run_cli("train", *DROPPING, f"paths.data={data_dir}", f"paths.runs={runs}") == 0
    return only(runs.rglob("last.ckpt"))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_run_continues_to_the_same_weights(tmp_path, data_dir, whole, monkeypatch, workers):
    """Weights and optimizer of an interrupted and a whole run are equal to the bit, drop path included."""
    options = (
        *DROPPING,
        "resume=auto",
        f"data.num_workers={workers}",
        f"paths.data={data_dir}",
        f"paths.runs={tmp_path}",
    )
    with monkeypatch.context() as patch:
        patch.setattr(ReIDModule, "on_train_epoch_end", killed_in_epoch_2)
        with pytest.raises(Killed):
            run_cli("train", *options)
    interrupted = only(tmp_path.rglob("last.ckpt"))
    assert torch.load(interrupted, weights_only=True)["epoch"] == 1
    assert run_cli("train", *options) == 0
    assert only(tmp_path.rglob("metrics.json")).parent == interrupted.parent.parent
    ends = [torch.load(p, weights_only=True) for p in (interrupted, whole)]
    assert ends[0]["epoch"] == ends[1]["epoch"] == 3
    assert all(torch.equal(ends[0]["state_dict"][k], ends[1]["state_dict"][k]) for k in ends[0]["state_dict"])
    momenta = [list(end["optimizer_states"][0]["state"].values()) for end in ends]
    assert all(torch.equal(m["momentum_buffer"], n["momentum_buffer"]) for m, n in zip(*momenta, strict=True))


class Killed(Exception):
    pass


def killed_in_epoch_2(module):
    if module.current_epoch == 2:
        raise Killed


def test_a_finished_run_is_not_continued(tmp_path, data_dir, trained):
    options = (*TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "resume=auto", "seed=3")
    assert run_cli("train", *options) == 0
    first = only(tmp_path.rglob("metrics.json"))
    first.parent.rename(first.parent.with_name("1999-01-01_00-00-00"))
    assert run_cli("train", *options) == 0
    assert len(list(tmp_path.rglob("metrics.json"))) == 2


def test_multirun_sweeps_parts_and_assigners(tmp_path, data_dir):
    code = run_cli(
        "train", "-m", "model.parts=[2],[2,3]", "model/assigner=sinkhorn,nearest", *TINY, f"paths.data={data_dir}",
        f"paths.runs={tmp_path}", "trainer.limit_train_batches=1", "part_start=stripes", "loss.part_warmup=1",
    )  # fmt: skip
    assert code == 0
    metadata = [read_json(path) for path in tmp_path.rglob("metadata.json")]
    assert len({path.parent for path in tmp_path.rglob("metrics.json")}) == 4
    rows = {(str(m["config"]["model"]["parts"]), m["choices"]["model/assigner"]) for m in metadata}
    assert rows == {(p, a) for p in ("[2]", "[2, 3]") for a in ("sinkhorn", "nearest")}


def test_part_losses_warm_up_with_the_epochs(tmp_path, data_dir):
    options = (*TINY, "trainer.max_epochs=2", "loss.part_warmup=1", "part_start=stripes", "ablation=spreid_part_tokens")
    assert run_cli("train", *options, f"paths.data={data_dir}", f"paths.runs={tmp_path}") == 0
    epochs = pd.read_csv(only(tmp_path.rglob("metrics.csv"))).dropna(subset="train/id")
    first, second = epochs["train/id"] - epochs["train/id_global"]
    assert first == pytest.approx(0, abs=1e-6), "CLS alone"
    share = 1 - 1 / 7  # six body parts and CLS
    apart = (epochs["train/id_parts"] - epochs["train/id_global"]).iloc[1]
    assert second == pytest.approx(share * apart, abs=1e-5)
    assert abs(apart) > 1e-4


def test_epochs_of_different_length_are_whole_and_validated(tmp_path, data_dir):
    """The PK sampler's epochs differ in length; every batch is trained on and every epoch validated."""
    extra = ("data.val_ids=0.25", "trainer.max_epochs=6", "seed=1")
    options = (*TINY, *extra, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "trainer.check_val_every_n_epoch=1")
    assert run_cli("train", *options) == 0
    run = only(tmp_path.rglob("metrics.json")).parent
    data = instantiate(OmegaConf.load(run / "config.yaml").data)
    data.setup("fit")
    sampler = data.train_dataloader().batch_sampler
    lengths = []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        lengths.append(len(sampler))
    assert len(set(lengths)) > 1, "a test of nothing"
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == sum(lengths)
    assert pd.read_csv(run / "metrics.csv")["val/mAP"].notna().sum() == 6


@pytest.mark.parametrize(
    "overrides",
    [
        ("callbacks=ema", "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1.0"),
        ("trainer.precision=bf16-true",),
        ("trainer.precision=bf16-mixed", "model.grad_checkpointing=true", "recipe=transreid"),
        ("data.val_ids=0.25", "data.ids_per_batch=2", "trainer.check_val_every_n_epoch=1", "model=vit_baseline"),
        ("logger=[csv,tensorboard]", "optim=adamw", "optim.layer_decay=0.7", "optim.freeze=[patch_embed]"),
        ("model/assigner=parsing", "model.parts=[6]", "flip_test=true", "test_untrained=true", "logger=[]"),
    ],
)
def test_options_that_promise_to_work(overrides, tmp_path, data_dir):
    options = (*TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "trainer.limit_train_batches=1", *overrides)
    assert run_cli("train", *options) == 0
    run = only(tmp_path.rglob("metrics.json")).parent
    metrics = read_json(run / "metrics.json")
    assert ("test/untrained/mAP" in metrics) is ("test_untrained=true" in overrides)
    assert (run / "checkpoints" / "best.ckpt").exists() is ("data.val_ids=0.25" in overrides)


@pytest.mark.parametrize("other", [("optim=adamw", "optim.decay_all=true"), ("optim.layer_decay=0.7",)])
def test_another_optimizer_does_not_continue_a_training(other, tmp_path, data_dir, trained, capsys):
    options = (*TINY, f"paths.data={data_dir}", f"paths.runs={tmp_path}", "trainer.max_epochs=2")
    assert run_cli("train", *options, f"ckpt_path={trained}/checkpoints/last.ckpt", *other) == 2
    assert "init_from in place of ckpt_path" in " ".join(capsys.readouterr().err.split())


VALIDATED = (*TINY, "data.val_ids=0.25", "data.ids_per_batch=2", "trainer.check_val_every_n_epoch=1")


def test_the_average_of_the_best_epoch_is_what_is_tested(tmp_path, data_dir):
    options = (
        *VALIDATED,
        "callbacks=ema",
        "callbacks.ema.decay=0.8",
        "trainer.max_epochs=3",
        "optim.optimizer.lr=0.05",
    )
    options += ("optim.schedule.warmup_epochs=0", f"paths.data={data_dir}", f"paths.runs={tmp_path}")
    assert run_cli("train", *options) == 0
    run = only(tmp_path.rglob("metrics.json")).parent
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    name = "network.part_tokens"
    assert not torch.equal(best["state_dict"][name], best["current_model_state"][name]), "a test of nothing"
    again = (
        "trainer=cpu",
        "trainer.enable_progress_bar=false",
        f"paths.runs={tmp_path}/again",
        f"paths.data={data_dir}",
    )
    assert run_cli("evaluate", f"ckpt={run}/checkpoints/best.ckpt", *again) == 0
    tested = read_json(only((tmp_path / "again").rglob("metrics.json")))
    assert tested["test/mAP"] == pytest.approx(read_json(run / "metrics.json")["test/mAP"], abs=1e-6)


def test_a_run_whose_folder_was_moved_still_knows_its_best(tmp_path, data_dir):
    options = (*VALIDATED, "trainer.max_epochs=2", f"paths.data={data_dir}", "resume=auto")
    assert run_cli("train", *options, f"paths.runs={tmp_path}/old") == 0
    metrics = only((tmp_path / "old").rglob("metrics.json"))
    states = read_checkpoint(metrics.parent / "checkpoints" / "last.ckpt")["callbacks"]
    assert sum(key.startswith("ModelCheckpoint{") for key in states) == 2  # by Lightning's name, as in earlier runs
    expected = read_json(metrics)
    metrics.unlink()
    (tmp_path / "old").rename(tmp_path / "new")
    assert run_cli("train", *options, f"paths.runs={tmp_path}/new") == 0
    assert read_json(only((tmp_path / "new").rglob("metrics.json"))) == pytest.approx(expected, abs=1e-6)
    assert not (tmp_path / "old").exists()


def test_a_longer_training_goes_on_at_its_own_rate_and_a_shorter_one_is_refused(tmp_path, data_dir, capsys):
    options = (*TINY, "optim.optimizer.lr=0.01", "optim.schedule.warmup_epochs=0", f"paths.data={data_dir}")
    assert run_cli("train", *options, "trainer.max_epochs=2", f"paths.runs={tmp_path}/two") == 0
    checkpoint = only((tmp_path / "two").rglob("last.ckpt"))
    longer = ("trainer.max_epochs=4", f"ckpt_path={checkpoint}", f"paths.runs={tmp_path}/four")
    assert run_cli("train", *options, *longer) == 0
    log = pd.read_csv(only((tmp_path / "four").rglob("metrics.csv")))
    (rates,) = (log[name].dropna() for name in log if name.startswith("lr-"))
    assert rates.tolist()[2:] == pytest.approx(
        [0.005, 0.01 * (1 + math.cos(3 * math.pi / 4)) / 2]
    )  # after those of the two
    shorter = ("trainer.max_epochs=1", f"ckpt_path={checkpoint}", f"paths.runs={tmp_path}/one")
    assert run_cli("train", *options, *shorter) == 2
    assert "has been trained for 2 epochs, more than trainer.max_epochs=1" in " ".join(capsys.readouterr().err.split())


def test_a_check_of_the_validation_before_the_training_is_no_validation_of_an_epoch(tmp_path, data_dir):
    options = (*VALIDATED, "trainer.check_val_every_n_epoch=2", "trainer.num_sanity_val_steps=1")
    options += ("callbacks.progress={_target_: aaformer_lit.engine.callbacks.progress.EpochLines}",)
    options += ("trainer.enable_progress_bar=true", f"paths.data={data_dir}", f"paths.runs={tmp_path}")
    assert run_cli("train", *options) == 0


def test_a_run_directory_at_the_root_starts_anew():
    cfg = OmegaConf.create({"run_dir": "/run", "resume": "auto", "ckpt_path": None, "paths": {"runs": "runs"}})
    assert _continue_from(cfg, True) is None


def said(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_without_a_validation_the_last_weights_are_tested(tmp_path, data_dir, capsys):
    options = (*TINY, f"paths.data={data_dir}", "data.val_ids=0.25", "data.ids_per_batch=2")
    assert run_cli("train", *options, f"paths.runs={tmp_path}") == 0
    assert "there was no validation with trainer.check_val_every_n_epoch=10" in said(capsys)
    assert read_json(only(tmp_path.rglob("metrics.json")))["test/mAP"] > 0
    assert not list(tmp_path.rglob("best.ckpt"))


def test_images_for_training_alone_are_trained_on_and_not_tested(tmp_path, people, capsys):
    pids = [path.name.split("_")[0] for path in sorted((people / "bounding_box_train").glob("*.jpg"))]
    paths = sorted((people / "bounding_box_train").glob("*.jpg"))
    pd.DataFrame({"path": paths, "pid": pids, "split": "train"}).to_csv(tmp_path / "people.csv", index=False)
    data = ("data=folder", f"data.table={tmp_path}/people.csv", "data.image_size=[64,32]", "data.num_workers=0")
    batches = (
        "data.ids_per_batch=4",
        "data.images_per_id=2",
        "test_untrained=true",
        "pictures=[curves]",
        "logger=[csv,tensorboard]",
    )
    options = (*data, f"paths.runs={tmp_path}/runs", "trainer=cpu", "trainer.enable_progress_bar=false")
    assert run_cli("train", *TINY_MODEL, *options, *batches, "trainer.max_epochs=1", "callbacks.progress=null") == 0
    assert "no query images, so nothing is tested" in said(capsys)
    run = only(tmp_path.rglob("metrics.json")).parent
    assert read_json(run / "metrics.json") == {}, "it is finished"
    capsys.readouterr()
    for command in ("evaluate", "visualize"):
        kind = ("kind=rankings",) if command == "visualize" else ()
        assert run_cli(command, f"ckpt={run}/checkpoints/last.ckpt", *options, *kind) == 2
        assert "has no query images, so there is nothing to test on" in " ".join(capsys.readouterr().err.split())


def test_killed_and_started_again_with_fewer_workers_it_continues(tmp_path, data_dir, monkeypatch, capsys):
    """The user's story: out of memory, so fewer workers, a smaller batch in the test, no pictures."""
    options = (*TINY, f"paths.data={data_dir}", "trainer.max_epochs=4", "resume=auto", f"paths.runs={tmp_path}")
    with monkeypatch.context() as patch:
        patch.setattr(ReIDModule, "on_train_epoch_end", killed_in_epoch_2)
        patch.setattr(resolvers, "config_hash", lambda _: "12345678")  # as an earlier version would have named it
        with pytest.raises(Killed):
            run_cli("train", *options, "data.num_workers=2", "pictures=[curves]")
    changes = (
        "data.num_workers=0",
        "data.eval_batch_size=5",
        "trainer.log_every_n_steps=3",
        "logger=[csv,tensorboard]",
    )
    assert run_cli("train", *options, *changes) == 0
    run = only(tmp_path.rglob("metrics.json")).parent
    assert run.parent.name == "12345678"
    assert "continuing after epoch 2 of" in said(capsys)
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 3


def test_another_run_that_lies_unfinished_is_named(tmp_path, data_dir, monkeypatch, capsys):
    options = (*TINY, f"paths.data={data_dir}", "trainer.max_epochs=3", "resume=auto", f"paths.runs={tmp_path}")
    with monkeypatch.context() as patch:
        patch.setattr(ReIDModule, "on_train_epoch_end", killed_in_epoch_2)
        with pytest.raises(Killed):
            run_cli("train", *options)
    unfinished = only(tmp_path.rglob("last.ckpt")).parents[1]
    assert run_cli("train", *options, "trainer.max_epochs=1", "seed=1") == 0
    told = f"{unfinished} lies unfinished, but is another run: data.seed=0 (here 1)"
    assert told not in said(capsys), "another order of the data"
    assert run_cli("train", *options, "trainer.max_epochs=1", "optim.optimizer.lr=0.1") == 0
    told = (
        f"{unfinished} lies unfinished, but is another run: optim.optimizer.lr=0.008 (here 0.1), trainer.max_epochs=3"
    )
    assert told in said(capsys)
    assert len(list(tmp_path.rglob("metrics.json"))) == 2


def test_a_sweep_skips_the_jobs_that_an_earlier_version_finished(tmp_path, data_dir, capsys):
    options = ("-m", "seed=0,1", *TINY, f"paths.data={data_dir}", f"hydra.sweep.dir={tmp_path}/sweep")
    assert run_cli("train", *options, "trainer.limit_train_batches=1") == 0
    first, second = sorted((tmp_path / "sweep").glob("*/metrics.json"))
    first.parent.rename(first.parent.with_name("12345678"))
    (second.parent / "metrics.json").unlink()
    assert run_cli("train", *options, "trainer.limit_train_batches=1", "data.eval_batch_size=3") == 0
    assert said(capsys).count("finished already, skipped") == 1
    assert len(list((tmp_path / "sweep").glob("*/metrics.json"))) == 2
