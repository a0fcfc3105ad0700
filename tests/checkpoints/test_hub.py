"""Models by hub id: disk first, only config and weights, and one message when the hub does not answer."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from aaformer_lit import load_model
from aaformer_lit.checkpoints.hub import PACKAGED, local_path
from aaformer_lit.checkpoints.load import description
from aaformer_lit.errors import CheckpointError


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What is asked of the hub, which answers with the folder `hub`."""
    calls = []

    def snapshot_download(repo_id, **arguments):
        calls.append((repo_id, arguments))
        return str(tmp_path / "hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    (tmp_path / "hub").mkdir()
    return calls


def test_a_model_from_the_hub(asked, trained, tmp_path):
    checkpoint = trained / "checkpoints" / "last.ckpt"
    network = load_model(checkpoint)
    save_file(network.state_dict(), tmp_path / "hub" / "model.safetensors")
    (tmp_path / "hub" / "config.json").write_text(json.dumps({"aaformer_lit": description(checkpoint)}))
    loaded = load_model("someone/aaformer-small@v1.0")
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        assert torch.equal(loaded.embed(images), network.embed(images))
    assert description("someone/aaformer-small")["data"]["image_size"] == [64, 32]
    files = {"allow_patterns": ["config.json", "model.safetensors"]}
    assert asked == [
        ("someone/aaformer-small", {"revision": "v1.0", **files}),
        ("someone/aaformer-small", {"revision": None, **files}),
    ]


def test_what_is_on_disk_or_looks_like_a_file_is_not_asked_for(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "model").mkdir(parents=True)
    for path in ("someone/model", "runs/last.ckpt", "/abs/olute", "a/b/c", "name", "../up"):
        assert str(local_path(path)) == path
    assert not asked


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/model") == tmp_path / "model"
    with pytest.raises(CheckpointError, match=f"no checkpoint at {tmp_path}/model.ckpt"):
        load_model("~/model.ckpt")


def test_a_repository_of_something_else(asked, tmp_path):
    (tmp_path / "hub" / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"someone/other has no model\.safetensors"):
        load_model("someone/other")
    (tmp_path / "hub" / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="no exported model"):
        load_model("someone/other")


def test_offline(monkeypatch):
    def offline(*_, **__):
        raise LocalEntryNotFoundError("Cannot find the files on disk, and the hub cannot be reached.\nmore lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(CheckpointError) as caught:
        load_model("someone/aaformer")
    message = str(caught.value)
    assert "no file or folder someone/aaformer" in message
    assert "give its folder" in message
    assert "\n" not in message


def test_a_model_of_the_package_by_its_name(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_path("synthetic-small") == PACKAGED / "synthetic-small"
    assert not asked
    (tmp_path / "synthetic-small").mkdir()  # what is on disk comes first
    assert local_path("synthetic-small").samefile(tmp_path / "synthetic-small")
    assert local_path("synthetic-large") == Path("synthetic-large")
    assert local_path(".") == Path()
