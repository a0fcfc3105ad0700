"""From a file to a network, safely: what is broken, foreign, newer or dangerous is one clear error."""

import json

import pytest
import torch
from safetensors.torch import save_file

from aaformer_lit import load_model
from aaformer_lit.checkpoints.init_from import find
from aaformer_lit.checkpoints.load import FORMAT, build_network, description, read_checkpoint
from aaformer_lit.errors import CheckpointError


def rewrite(trained, target, change):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    change(content)
    torch.save(content, target)
    return target


def test_the_network_comes_back_in_eval_mode(trained):
    network = load_model(trained / "checkpoints" / "last.ckpt")
    assert not network.training
    assert network.image_size == (64, 32)
    assert network.token_groups["parts_3"] == (3, 4, 5)


def test_an_exported_folder_loads_to_the_same_network(trained, tmp_path):
    checkpoint = trained / "checkpoints" / "last.ckpt"
    network = load_model(checkpoint)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"aaformer_lit": description(checkpoint)}))
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path).embed(images), network.embed(images), atol=0, rtol=0)


def test_a_run_that_was_stopped_in_its_first_epoch_has_no_checkpoint(tmp_path):
    (tmp_path / "config.yaml").touch()
    for ask in (load_model, description, find):
        with pytest.raises(CheckpointError, match=r"is no run with a checkpoint .* written when its first epoch ends"):
            ask(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 1000, -100])
def test_a_truncated_checkpoint(trained, tmp_path, keep):
    path = tmp_path / "cut.ckpt"
    path.write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt cannot be read"):
        load_model(path)


def test_what_is_not_ours(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint of aaformer_lit"):
        read_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "absent.ckpt")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(tmp_path)


def test_a_newer_format(trained, tmp_path):
    path = rewrite(trained, tmp_path / "new.ckpt", lambda c: c["aaformer_lit"].update(format=FORMAT + 1))
    with pytest.raises(CheckpointError, match="newer than this version"):
        load_model(path)


def test_weights_that_do_not_fit_the_model_they_name(trained, tmp_path):
    path = rewrite(trained, tmp_path / "p.ckpt", lambda c: c["aaformer_lit"]["model"].update(parts=[2, 4]))
    with pytest.raises(CheckpointError, match="does not fit the model it names"):
        load_model(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Harmless:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"state_dict": Harmless()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="refused"):
        load_model(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("where", ["top", "nested"])
def test_only_our_classes_are_built(tmp_path, where):
    evil = {"_target_": "pathlib.Path.touch", "self": str(tmp_path / "ran")}
    model = evil if where == "top" else {"_target_": "aaformer_lit.models.AAformer", "assigner": evil}
    with pytest.raises(CheckpointError, match=r"pathlib\.Path\.touch"):
        build_network({"model": model, "num_classes": 2})


@pytest.mark.parametrize(
    "target",
    [
        "aaformer_lit.models.backbone.logging.os.mkdir",  # through our module to what it imports
        "aaformer_lit.models.weights.file.read_weights",  # a function of ours
        "aaformer_lit.models.aaformer.torch.hub.load",
        "aaformer_lit.models.Nothing",
    ],
)
def test_our_modules_are_no_way_to_other_code(tmp_path, target):
    model = {"_target_": target, "path": str(tmp_path / "made")}
    with pytest.raises(CheckpointError, match="which is not a network of aaformer_lit"):
        build_network({"model": model, "num_classes": 2})
    assert not (tmp_path / "made").exists()
