from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aaformer_lit.data.image_transform import ImageTransform
from aaformer_lit.models import AAformer, build_backbone
from aaformer_lit.pictures.kinds import _who
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
    scene = Scene(network, (0, 0, 0), (1, 1, 1), [tmp_path / "a.png"] * 2, cuts=((0.0, 0.0), (0.3, 0.0), (0.0, 0.3)))
    edges = [float(image[row, 0, 0]) for image in scene.images() for row in (0, -1)]
    assert edges == pytest.approx([0, 180, 60, 180, 0, 120] * 2, abs=5)  # the resize is smooth
    seen = ImageTransform((64, 32), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    scene = replace(scene, paths=[tmp_path / "a.png"], mean=seen.mean, std=seen.std)
    assert len(scene.batch()) == 3
    assert torch.equal(scene.batch()[0], seen(tmp_path / "a.png")), "as a test sees it"
