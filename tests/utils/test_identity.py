"""Which configs are the same run: for resume=auto, sweeps, tables and publishing alike."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.cli.resolvers import config_hash
from aaformer_lit.utils.identity import differences, identity, identity_hash, relevant


def composed(*overrides: str):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", ["run_dir=RUN", *overrides])


@pytest.fixture(scope="module")
def plain():
    return composed()


@pytest.mark.parametrize(
    "override",
    [
        "data.num_workers=2", "data.pin_memory=false", "data.cache=true", "data.eval_batch_size=64", "trainer.devices=2",
        "trainer=ddp", "trainer=cpu", "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=5",
        "pictures=[curves]", "compile=true", "paths.data=X", "paths.runs=X", "logger=[csv,wandb]", "callbacks.probe=null",
        "run_dir=X", "resume=auto", "sweep=table5", "model.grad_checkpointing=true", "ops.kernel=torch",
    ],
)  # fmt: skip
def test_what_cannot_change_results(plain, override):
    assert config_hash(composed(override)) == config_hash(plain)


@pytest.mark.parametrize(
    "override",
    [
        "seed=1", "optim.optimizer.lr=0.1", "callbacks=ema", "model.parts=[2]", "ablation=nearest", "trainer=gpu",
        "data=folder",
        "trainer.max_epochs=1", "trainer.gradient_clip_val=1.0", "data.val_ids=0.1", "data.image_size=[384,128]",
        "flip_test=true", "part_start=cls", "recipe=transreid", "+trainer.sync_batchnorm=true", "data.masks=null",
    ],
)  # fmt: skip
def test_what_can(plain, override):
    assert config_hash(composed(override)) != config_hash(plain)


def test_a_config_that_was_written_is_the_one_that_was_composed(plain):
    plain = composed("callbacks=ema", "ablation=spreid_part_tokens")
    written = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(plain, resolve=True)))
    assert identity_hash(written) == config_hash(plain)


def test_classes_count_by_name_and_files_by_theirs():
    earlier = {
        "data": {
            "_target_": "aaformer_lit.data.market1501.Market1501DataModule",
            "root": "/a",
            "table": "/a/people.csv",
        },
        "trainer": {"strategy": {"_target_": "aaformer_lit.sharding.Sharded"}, "devices": 8},
        "callbacks": {"last": {"dirpath": "/a"}, "ema": {"_target_": "aaformer_lit.callbacks.EMA", "decay": 0.99}},
    }
    today = {
        "data": {"_target_": "aaformer_lit.data.datasets.market1501.Market1501DataModule", "table": "/b/people.csv"},
        "trainer": {"strategy": "auto", "devices": 1, "accelerator": "cpu"},
        "callbacks": {"ema": {"_target_": "aaformer_lit.engine.callbacks.ema.EMA", "decay": 0.99}, "new": None},
        "new_in_this_version": None,
    }
    assert identity(earlier) == identity(today)
    assert "/" not in str(relevant(earlier))
    today["callbacks"]["ema"]["decay"] = 0.9
    assert list(differences(earlier, today)) == [("callbacks.ema.decay", 0.99, 0.9)]
    others = {"optim": {"_target_": "torch.optim.SGD"}}, {"optim": {"_target_": "mine.SGD"}}
    assert identity(others[0]) != identity(others[1])


def test_checkpoints_are_called_alike_and_own_images_lie_anywhere():
    def hashed(*overrides):
        return config_hash(composed(*overrides))

    start = hashed("init_from=/runs/a/checkpoints/last.ckpt")
    assert start == hashed("init_from=/elsewhere/a/checkpoints/last.ckpt")
    assert start != hashed("init_from=/runs/b/checkpoints/last.ckpt")
    own = hashed("data=folder", "paths.data=/shop")
    assert own == hashed("data=folder", "paths.data=/mnt/shop") == hashed("data=folder", "paths.data=shop")
    assert own != hashed("data=folder", "paths.data=/station")
    assert hashed("data=msmt17", "paths.data=/a") == hashed("data=msmt17", "paths.data=/b")


@pytest.mark.parametrize(
    ("key", "default", "other"),
    [
        ("model.backbone.init", "timm", "nearby"),
        ("model.descriptor", "tokens", "cls_mean"),
        ("model.follow_body", 0, 2),
        ("place_loss.heights_weight", 10.0, 1.0),
        ("optim.schedule.first_epoch", 0, 1),
        ("data.spec.box_width", 1.0, 0.75),
        ("data.cut", 0.0, 0.2),
        ("data.transforms.box", 0.0, 0.3),
        ("data.transforms.move_box", 0.75, 0.5),
    ],
)
def test_a_key_that_is_not_said_is_the_key_that_says_what_held_before_it(key, default, other):
    cfg = OmegaConf.create({"place_loss": {"weight": 0.3}, "data": {"name": "x"}})
    said = [OmegaConf.merge(cfg, OmegaConf.from_dotlist([f"{key}={value}"])) for value in (default, other)]
    plain, same, another = (identity_hash(OmegaConf.to_container(one)) for one in (cfg, *said))
    assert plain == same != another


def test_a_run_from_before_a_key_is_the_run_that_says_its_default(plain):
    earlier = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(plain, resolve=True)))
    del earlier["model"]["backbone"]["init"], earlier["data"]["spec"]["box_width"], earlier["init_from"]
    del earlier["model"]["follow_body"], earlier["data"]["transforms"]["move_box"]
    assert identity_hash(earlier) == config_hash(plain)
    assert config_hash(composed("model.follow_body=2")) != config_hash(plain)
    assert config_hash(composed("model.backbone.init=nearby")) != config_hash(plain)
