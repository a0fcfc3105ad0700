from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aaformer_lit import viz
from aaformer_lit.assign import Parsing
from aaformer_lit.data.image_transform import ImageTransform
from aaformer_lit.data.masks import PartTable
from aaformer_lit.models import AAformer, build_backbone
from aaformer_lit.pictures.kinds import _who, cut_off
from aaformer_lit.pictures.scene import Scene
from aaformer_lit.structures import Record, nobody


@pytest.mark.parametrize(("asked", "caption"), [((0, 1), "pid 0\ncamera 2"), ((1,), "camera 2")])
def test_pid_0_is_named_where_a_query_shows_that_it_is_a_person(asked, caption):
    query = [Record(Path(f"{pid}.jpg"), pid, 1) for pid in asked]
    assert _who(Record(Path("a.jpg"), 0, 2), nobody(query)) == caption
    assert _who(Record(Path("b.jpg"), -1, -1), nobody(query)) == ""


def test_each_image_is_shown_with_each_cut(tmp_path):
    pixels = np.arange(10, dtype=np.uint8)[:, None, None].repeat(4, axis=1).repeat(3, axis=2) * 20
    Image.fromarray(pixels).save(tmp_path / "a.png")
    network = AAformer(build_backbone("vit_tiny_patch16_224", (64, 32), depth=1), [2]).eval()
    record = Record(tmp_path / "a.png", -1, -1)
    scene = Scene(network, (0, 0, 0), (1, 1, 1), [record] * 2, cuts=((0.0, 0.0), (0.3, 0.0), (0.0, 0.3)))
    edges = [float(image[row, 0, 0]) for image in scene.images() for row in (0, -1)]
    assert edges == pytest.approx([0, 180, 60, 180, 0, 120] * 2, abs=5)  # the resize is smooth
    seen = ImageTransform((64, 32), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    scene = replace(scene, records=[record], mean=seen.mean, std=seen.std)
    assert len(scene.batch()) == 3
    assert torch.equal(scene.batch()[0], seen(tmp_path / "a.png")), "as a test sees it"


def test_masks_are_cut_like_their_images_and_reach_a_network_that_reads_them(tmp_path, monkeypatch):
    labels = (
        np.repeat([1, 1, 1, 1, 1, 2, 2, 2, 2, 2], 4).reshape(10, 4).astype(np.uint8)
    )  # the upper half and the lower
    Image.fromarray(labels * 100).convert("RGB").save(tmp_path / "a.png")
    Image.fromarray(labels).save(tmp_path / "mask.png")
    record = Record(tmp_path / "a.png", 1, 1, mask=tmp_path / "mask.png")
    network = AAformer(build_backbone("vit_tiny_patch16_224", (160, 32), depth=1), [2], assigner=Parsing()).eval()
    table = PartTable({"upper": [1], "lower": [2]})
    scene = Scene(network, (0.5,) * 3, (0.5,) * 3, [record], table)
    given = {}
    monkeypatch.setattr(viz, "assignment_maps", lambda images, membership, *_, **options: given.update(
        membership=membership, lines=options["lines"], weights=options["attention"]
    ))  # fmt: skip
    cut_off(scene)
    assert given["lines"] == ("whole", "without top", "without bottom")
    upper = given["membership"][:, 0, 0].reshape(3, 10, 2).all(dim=-1)
    # 5 of 10 rows of patches, then 2 of 7 and 5 of 7 of the rows that are left
    assert upper.sum(dim=-1).tolist() == [5, 3, 8]
    assert (given["weights"][:, 0, 0].reshape(3, 10, 2)[~upper] == 0).all()
    assert replace(scene, part_table=None).masks() is None
    assert replace(scene, records=[record, replace(record, mask=None)]).masks() is None
