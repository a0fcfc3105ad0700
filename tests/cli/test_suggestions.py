"""What a message makes of a word that the config does not know."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from aaformer_lit.cli.messages import user_message
from aaformer_lit.cli.paths import CONF_DIR


def message(command: str, *overrides: str) -> str:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"), pytest.raises(HydraException) as caught:
        compose(command, list(overrides))
    return user_message(caught.value) or ""


@pytest.mark.parametrize(
    ("command", "override", "meant"),
    [
        ("train", "model.part=[2]", "model.parts"),
        ("train", "parts=[2]", "model.parts"),
        ("train", "lr=0.1", "optim.optimizer.lr"),
        ("train", "trainer.epochs=3", "trainer.max_epochs"),
        ("train", "mdl.parts=[2]", "model.parts"),
        ("train", "modle=aaformer", "model"),
        ("train", "model/asigner=nearest", "model/assigner"),
        ("train", "assigner=nearest", "model/assigner"),
        ("train", "checkpoint=x", "ckpt_path"),
        ("evaluate", "checkpoint=x", "ckpt"),
        ("search", "galery=x", "gallery"),
        ("train", "data=marker1501", "data=market1501"),
    ],
)
def test_did_you_mean(command, override, meant):
    assert f" Did you mean {meant}?" in message(command, override)


@pytest.mark.parametrize("override", ["kangaroo=1", "model.kangaroo=1", "model.backbone.name.x=1", "trainer=kangaroo"])
def test_nothing_is_meant_by_what_looks_like_nothing(override):
    said = message("train", override)
    assert "Did you mean" not in said
    assert said.startswith(("unknown config key", "there is no trainer=kangaroo"))


@pytest.mark.parametrize(
    ("chosen", "override", "options"),
    [
        ("model=vit_baseline", "model.parts=[2]", "model=aaformer and model=pooled, not of the model"),
        ("model/assigner=stripes", "model.assigner.temperature=1", "model/assigner=gumbel, not of the model/assigner"),
        ("data=market1501", "data.table=a.csv", "data=folder, not of the data"),
    ],
)
def test_a_key_of_another_option_names_the_options_that_have_it(chosen, override, options):
    key = override.partition("=")[0]
    said = message("train", chosen, override)
    assert said.startswith(f"unknown config key '{key}'. It is a key of {options} that is chosen.")


def test_what_a_library_takes_is_passed_on_with_a_plus():
    said = message("train", "optim=adamw", "optim.optimizer.amsgrad=true")
    assert " torch.optim.AdamW is given it with a plus: +optim.optimizer.amsgrad=VALUE." in said
    assert "with a plus" not in message("train", "loss.kangaroo=1")  # all of ours are in the config


def test_a_renamed_group_says_its_new_word():
    assert message("train", "row=nearest").startswith(
        "the config group 'row' is called ablation now: use ablation=OPTION."
    )


@pytest.mark.parametrize(
    ("override", "quoted"),
    [
        ("data.pattern=(?P<pid>[0-9]+)_c.*", "'data.pattern=\"(?P<pid>[0-9]+)_c.*\"'"),
        ("images=a(1).jpg", "'images=\"a(1).jpg\"'"),
        ("images=[a.jpg", "'images=\"[a.jpg\"'"),
        ("ckpt=a=b.ckpt", "'ckpt=\"a=b.ckpt\"'"),
    ],
)
def test_what_hydra_cannot_read_is_shown_in_quotes_that_it_can(override, quoted):
    said = message("extract", override)
    assert said.startswith(f"{override} cannot be read")
    assert quoted in said
    assert "expecting {" not in said
    key, _, _ = override.partition("=")
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("extract", [quoted.strip("'")])
    assert override == f"{key}={cfg.data.pattern if key == 'data.pattern' else cfg[key]}"


def test_what_was_quoted_twice_is_shown_quoted_once():
    quoted = "'data.pattern=\"(?P<pid>[0-9]+)_c.*\"'"
    assert message("extract", quoted).endswith(f"the shell: {quoted}")


def test_a_home_that_the_shell_has_not_filled_in_is_said():
    assert "Use ckpt=$HOME/run" in message("evaluate", "ckpt=~/run")
