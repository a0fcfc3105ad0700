"""Every option of every config group composes, and what it names can be built."""

from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.cli.resolvers import config_hash
from aaformer_lit.models import AAformer, ReIDViT

SMALL = ["model/backbone=small_scratch", "data.image_size=[64,32]", "run_dir=RUN"]
ENTRIES = sorted(path.stem for path in CONF_DIR.glob("*.yaml"))


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml") if not path.stem.startswith("_"))


def composed(overrides: list[str]):
    return _composed(*overrides)


@cache  # 0.3 s each; nobody changes what comes back
def _composed(*overrides: str):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", list(overrides))


def test_conf_is_the_checkouts():
    assert Path(__file__).parents[1] / "conf" == CONF_DIR


@pytest.mark.parametrize("group", ["data", "loss", "trainer", "callbacks", "experiment"])
def test_every_option_composes(group):
    """The other groups' options are composed where they are built, below."""
    for option in options(group):
        cfg = composed([f"{group}={option}", "run_dir=RUN"])
        assert "model" in cfg, option


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_point_has_help_with_examples(name):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose(name, return_hydra_config=True)
    assert f"python -m aaformer_lit.{name}" in cfg.hydra.help.header
    assert cfg.hydra.mode is None, "else conftest's composed_once leaves it out"


def without_assigner(model: str) -> list[str]:
    return [*SMALL, f"model={model}"] + ["model.parts=[2,3]"] * (model == "pooled")  # six stripes need more rows


@pytest.mark.parametrize("model", options("model"))
def test_every_model_and_assigner_builds(model):
    plain = without_assigner(model)
    assigners = options("model/assigner") if "assigner" in composed(plain).model else []
    if model == "pooled":
        assigners = ["stripes", "parsing"]
    for overrides in (plain, *([*plain, f"model/assigner={assigner}"] for assigner in assigners)):
        network = instantiate(composed(overrides).model, num_classes=5)
        assert isinstance(network, ReIDViT), overrides
        assert network.num_classes == 5, overrides


@pytest.mark.parametrize("assigner", sorted({*options("model/assigner")} - {"stripes", "parsing"}))
def test_pooling_refuses_assigners_that_compare(assigner):
    with pytest.raises(InstantiationException, match="pooling needs a scheme"):
        instantiate(composed([*without_assigner("pooled"), f"model/assigner={assigner}"]).model, num_classes=5)


@pytest.mark.parametrize("backbone", options("model/backbone"))
def test_every_backbone_is_timms_and_builds(backbone):
    import timm

    config = composed([f"model/backbone={backbone}", "model.backbone.weights=null"]).model.backbone
    assert config.name in timm.list_models(pretrained="." in config.name)
    network = instantiate(config, image_size=[64, 32], depth=1, embed_dim=24, num_heads=2)
    assert len(network.blocks) == 1


@pytest.mark.parametrize("optim", options("optim"))
@pytest.mark.parametrize("recipe", options("recipe"))
def test_optimization_and_losses_build(optim, recipe):
    cfg = composed([*SMALL, f"optim={optim}", f"recipe={recipe}"])
    network = instantiate(cfg.model, num_classes=3)
    optimizer, schedule = instantiate(cfg.optim).build(network, 120)
    assert optimizer.param_groups
    assert schedule.get_last_lr()[0] > 0
    instantiate(cfg.loss)


def test_adamw_is_fused_unless_gradients_are_clipped():
    """Lightning refuses to clip them before a fused optimizer in mixed precision."""
    assert composed(["optim=adamw"]).optim.optimizer.fused
    assert not composed(["optim=adamw", "trainer.gradient_clip_val=1"]).optim.optimizer.fused


def test_data_alone_makes_the_data_module(tmp_path):
    cfg = composed(["data=market1501", f"paths.data={tmp_path}"])
    module = instantiate(cfg.data)
    assert module.root == tmp_path
    assert module.image_size == (256, 128)


def test_the_papers_recipe_is_the_default():
    cfg = composed(["data=market1501", "run_dir=RUN"])
    assert (cfg.data.image_size, cfg.data.ids_per_batch, cfg.data.images_per_id) == ([256, 128], 16, 4)
    assert cfg.trainer.max_epochs == 120
    assert (cfg.optim.optimizer.lr, cfg.optim.optimizer.momentum, cfg.optim.optimizer.weight_decay) == (8e-3, 0.9, 1e-4)
    assert (cfg.optim.schedule.warmup_epochs, cfg.optim.schedule.warmup_from) == (10, 0.1)
    assert (cfg.loss.label_smoothing, cfg.loss.margin) == (0.1, 0.3)
    assert (cfg.model.parts, cfg.model.assigner.epsilon, cfg.model.assigner.iterations) == ([2, 3], 0.05, 3)


def test_parts_from_the_command_line():
    network = instantiate(composed([*SMALL, "model.parts=[2,3,4]"]).model, num_classes=2)
    assert isinstance(network, AAformer)
    assert network.num_tokens == 10


def test_the_hash_knows_what_a_run_is_about():
    plain = config_hash(composed(["run_dir=a"]))
    assert plain == config_hash(
        composed(["run_dir=b", "paths.data=elsewhere", "logger=[csv,tensorboard]", "resume=auto"])
    )
    assert plain != config_hash(composed(["run_dir=a", "seed=1"]))
    assert plain != config_hash(composed(["run_dir=a", "model.parts=[2]"]))


def test_configs_resolve_to_plain_values():
    cfg = composed(["run_dir=RUN"])
    assert OmegaConf.to_container(cfg, resolve=True)["model"]["backbone"]["image_size"] == [256, 128]


def test_debug_is_two_batches_without_downloads_whatever_the_experiment_says():
    for overrides in ([], ["experiment=quickstart"], ["experiment=finetune_laptop"], ["sweep=laptop"]):
        cfg = composed(["trainer=debug", *overrides])
        trainer = cfg.trainer
        assert (trainer.max_epochs, trainer.limit_train_batches, trainer.check_val_every_n_epoch) == (1, 2, 1)
        assert cfg.model.backbone.weights is None
    assert composed(["trainer=debug", "experiment=quickstart", "trainer.max_epochs=2"]).trainer.max_epochs == 2
    assert composed(["experiment=quickstart"]).trainer.max_epochs == 12


def test_naming_the_sampler_that_is_the_default_changes_nothing():
    assert composed(["data/sampler=pk"]) == composed([])
    assert "sampler" not in composed([]).data
