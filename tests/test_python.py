"""What people import works as docs/python.md says: its code runs, and the promises around it hold."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import aaformer_lit
from aaformer_lit import AAformer, FeatureSet, FolderDataModule, ReIDRetrieval, evaluate_retrieval, load_model
from aaformer_lit.data import ImageTransform
from aaformer_lit.data.images import read_image
from aaformer_lit.data.person_images import PersonImages
from aaformer_lit.data.transforms import Transforms
from aaformer_lit.errors import ConfigError, ImageError
from aaformer_lit.structures import Record

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text()


@pytest.fixture(scope="module")
def network(trained):
    return load_model(trained / "checkpoints" / "last.ckpt")


@pytest.fixture(scope="module")
def files(people):
    return sorted((people / "query").glob("*.jpg"))[:4]


def test_the_code_of_the_page_runs(trained, people, files, tmp_path, monkeypatch):
    shutil.copy(trained / "checkpoints" / "last.ckpt", tmp_path / "last.ckpt")
    for name, file in zip(("anna.jpg", "ben.jpg"), (files[0], files[-1]), strict=True):
        shutil.copy(file, tmp_path / name)
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    for split, folder in folders.items():
        for path in (people / folder).glob("[0-9]*.jpg"):
            place = tmp_path / "people" / split / path.name.split("_")[0]
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 11
    world: dict = {"__name__": "page"}
    exec("\n".join(blocks), world)  # the page's code
    assert torch.equal(world["same"][0], world["features"][0])
    torch.testing.assert_close(world["same"][1:], world["features"][[0, 0]], atol=0.05, rtol=0)  # Pillow's decoder
    torch.testing.assert_close(world["feature"][0], world["features"][0], atol=1e-5, rtol=0)
    assert world["found"].mask.tolist() == [True, True, False]
    assert len(world["track"]) == 2
    assert world["metrics"].mAP == 1
    assert 0 < world["module"].trainer.callback_metrics["test/mAP"] <= 1


def test_the_top_level_names_are_there_and_cost_nothing():
    assert set(aaformer_lit.__all__) <= set(dir(aaformer_lit))
    for name in aaformer_lit.__all__:
        assert getattr(aaformer_lit, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'AAFormer'\. Its names: .*AAformer"):
        _ = aaformer_lit.AAFormer
    code = "import sys, aaformer_lit; dir(aaformer_lit); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_embed_images_is_the_test_loaders_descriptor(network, files):
    records = [Record(path, 0, 0) for path in files]
    loader = PersonImages(records, network.image_size, Transforms(mean=network.mean, std=network.std).test())
    wanted = network.embed(torch.stack([loader[i]["image"] for i in range(len(files))])).detach()
    arrays = [read_image(path) for path in files]
    for pictures in (files, list(map(str, files)), arrays, [Image.fromarray(a) for a in arrays], np.stack(arrays)):
        assert torch.equal(network.embed_images(pictures), wanted)
    torch.testing.assert_close(network.embed_images(arrays, batch_size=3), wanted, atol=1e-5, rtol=0)
    for picture in (files[0], arrays[0], Image.fromarray(arrays[0])):
        torch.testing.assert_close(network.embed_images(picture), wanted[:1], atol=1e-5, rtol=0)
    assert network.embed_images([]).shape == (0, wanted.shape[1])
    assert not network.embed_images(files).requires_grad


def test_an_upright_picture_is_seen_whichever_way_it_is_given(network, files, tmp_path):
    picture = Image.open(files[0])
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    turned = network.embed_images([tmp_path / "turned.png", Image.open(tmp_path / "turned.png")])
    assert torch.equal(turned[0], turned[1])
    assert (turned[0] - network.embed_images(files[0])[0]).norm() > 0.01


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((64, 32, 3), np.float32), r"got ndarray float32 of shape \(64, 32, 3\)"),
        (np.zeros((64, 32), np.uint8), r"shape \(64, 32\)"),
        (np.zeros((3, 64, 32), np.uint8), r"shape \(3, 64, 32\)"),
        (np.zeros((64, 32, 4), np.uint8), r"shape \(64, 32, 4\)"),
        (np.zeros((0, 32, 3), np.uint8), r"shape \(0, 32, 3\)"),
        (torch.zeros(3, 64, 32, dtype=torch.uint8), r"got Tensor torch.uint8 .*image.permute"),
        ([torch.zeros(3, 64, 32)], r"got Tensor torch.float32"),
        ([None], "got NoneType"),
        ("/nonexistent.jpg", "/nonexistent.jpg cannot be read"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(network, picture, message):
    with pytest.raises(ImageError, match=message):
        network.embed_images(picture)


def test_embed_refuses_what_is_not_prepared(network):
    height, width = network.image_size
    with pytest.raises(ConfigError, match=r"torch.uint8 .*embed_images"):
        network.embed(torch.zeros(1, 3, height, width, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=r"a batch of one, image\[None\]"):
        network.embed(torch.zeros(3, height, width))
    with pytest.raises(ConfigError, match=r"shape \(1, 64, 32, 3\)"):
        network.embed(torch.zeros(1, height, width, 3))
    fresh = AAformer("vit_tiny_patch16_224", parts=[2], image_size=(64, 32))
    assert fresh.mean is None
    with pytest.raises(ConfigError, match=r"does not know how its images are prepared\. Load it with load_model"):
        fresh.embed_images("anna.jpg")
    with pytest.raises(ConfigError, match="batch_size=0"):
        network.embed_images([], batch_size=0)


def test_embed_does_not_depend_on_mode_or_batch(trained):
    network = load_model(trained / "checkpoints" / "last.ckpt")
    images = torch.randn(4, 3, *network.image_size, generator=torch.Generator().manual_seed(0))
    wanted, statistics = network.embed(images), network.heads.neck.running_mean.clone()
    network.train()
    network.backbone.norm.eval()
    assert torch.equal(network.embed(images), wanted)
    torch.testing.assert_close(network.embed(images[:1]), wanted[:1], atol=1e-5, rtol=0)
    assert network.training
    assert not network.backbone.norm.training  # each module has its own mode again
    assert torch.equal(network.heads.neck.running_mean, statistics)
    network.embed(images).sum().backward()
    assert network.part_tokens.grad.abs().sum() > 0


def test_metrics_of_plain_tensors():
    generator = torch.Generator().manual_seed(0)
    features, pids, camids = torch.randn(40, 8, generator=generator), torch.arange(40) % 5, torch.arange(40) % 3
    wanted = evaluate_retrieval(
        FeatureSet(features[:10], pids[:10], camids[:10]), FeatureSet(features[10:], pids[10:], camids[10:])
    )
    query, gallery = (features[:10], pids[:10], camids[:10]), (features[10:], pids[10:], camids[10:])
    assert evaluate_retrieval(query, gallery).as_dict() == wanted.as_dict()
    as_arrays = [tuple(t.numpy() for t in part) for part in (query, gallery)]
    assert evaluate_retrieval(*as_arrays).as_dict() == wanted.as_dict()
    no_cameras = evaluate_retrieval(query[:2], gallery[:2])
    assert no_cameras.as_dict() == evaluate_retrieval((*query[:2], [-1] * 10), (*gallery[:2], [-1] * 30)).as_dict()
    assert no_cameras.mAP != wanted.mAP
    metric = ReIDRetrieval(num_query=10, normalize=False)
    for rows in (slice(0, 7), slice(7, 25), slice(25, 40)):  # a batch of both is allowed
        metric.update(features[rows], pids[rows], camids[rows])
    assert metric.scalars("test/") == pytest.approx(wanted.as_dict())
    with pytest.raises(ValueError, match=r"\(features, pids\) or \(features, pids, camids\); got Tensor"):
        evaluate_retrieval(features, features)


def test_a_data_module_says_that_it_is_not_set_up(people):
    data = FolderDataModule(people)
    for ask in (data.train_dataloader, data.test_dataloader, lambda: data.num_classes, lambda: data.query_records):
        with pytest.raises(AttributeError, match=r"FolderDataModule has not been set up.*setup\('fit'\)"):
            ask()
    with pytest.raises(AttributeError, match="'FolderDataModule' object has no attribute 'nothing'"):
        _ = data.nothing


def test_a_transform_says_what_it_does():
    assert "RGB" in repr(ImageTransform((64, 32)))
    red = np.zeros((64, 32, 3), np.uint8)
    red[..., 0] = 255
    assert ImageTransform((64, 32))(red)[:, 0, 0].tolist() == [1, -1, -1]
    assert ImageTransform((64, 32))(cv2.cvtColor(red, cv2.COLOR_RGB2BGR))[:, 0, 0].tolist() == [-1, -1, 1]
