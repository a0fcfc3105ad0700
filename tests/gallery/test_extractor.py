"""Features are those of the test loader, whatever the batch, and wherever the pixels come from."""

import numpy as np
import pytest
import torch

from aaformer_lit.data.person_images import PersonImages
from aaformer_lit.data.transforms import Transforms
from aaformer_lit.errors import ConfigError, ImageError, NumericsError
from aaformer_lit.gallery import Crop, Extractor, Layout, find_crops
from aaformer_lit.gallery.extractor import fingerprint
from aaformer_lit.metrics import ReIDRetrieval
from aaformer_lit.structures import Record

PATTERN = r"(?P<pid>\d+)_c(?P<camid>\d+)\.png"


def test_descriptors_are_those_of_the_test_loader(extractor, images):
    crops = find_crops(images)
    samples = PersonImages([Record(c.path, 0, 0) for c in crops], extractor.transform.image_size, Transforms().test())
    with torch.no_grad():
        expected = extractor.network(torch.stack([samples[i]["image"] for i in range(len(crops))])).descriptor
    assert torch.equal(extractor.features(crops), expected)


def test_batches_workers_and_pixels_change_nothing(extractor, images, world):
    crops = find_crops(images)
    expected = extractor.features(crops)
    small = Extractor(extractor.network, world.about, batch_size=3, num_workers=1, device="cpu")
    seen = []
    torch.testing.assert_close(small.features(crops, lambda *done: seen.append(done)), expected, rtol=1e-5, atol=1e-5)
    assert seen == [(3, 8), (6, 8), (8, 8)]
    pixels = [world.person(number) for number in (0, 2, 4, 6, 1, 3, 5, 7)]
    assert torch.equal(extractor.features(pixels), expected)


def test_flip_averages_both_sides(extractor, world):
    image = world.person(0)
    flipped = Extractor(extractor.network, world.about, flip_test=True, num_workers=0, device="cpu")
    # at the network's size a mirrored image is resized to the mirrored input
    sides = extractor.features([image, np.ascontiguousarray(image[:, ::-1])])
    torch.testing.assert_close(flipped.features([image])[0], sides.mean(0), rtol=1e-4, atol=1e-4)
    assert flipped.fingerprint == extractor.fingerprint


def test_mixed_precision_is_close_and_not_the_same(extractor, images, world):
    half = Extractor(extractor.network, world.about, precision="bf16-mixed", num_workers=0, device="cpu")
    exact, mixed = (one.layout.select(one.features(find_crops(images)), "global") for one in (extractor, half))
    assert mixed.dtype == torch.float32
    assert not torch.equal(exact, mixed)
    assert (exact * mixed).sum(1).min() > 0.99
    with pytest.raises(ConfigError, match="precision must be one of 32-true, bf16-mixed, 16-mixed; got '64'"):
        Extractor(extractor.network, world.about, precision="64")


def test_boxes_are_cut_before_the_resize(extractor, tmp_path, world):
    frame = world.person(1, 96, 80)
    path = world.write(tmp_path / "frame.png", 1, height=96, width=80)
    boxes = [(8, 16, 32, 64), (-10, -10, 50, 60), (70, 80, 50, 50)]
    cuts = [frame[16:80, 8:40], frame[:50, :40], frame[80:, 70:]]
    expected = extractor.features([np.ascontiguousarray(cut) for cut in cuts])
    assert torch.equal(extractor.features([Crop(path, box) for box in boxes]), expected)


def test_bad_images_are_named(extractor, images):
    bad = images / "c0" / "0000_c0.png"
    bad.write_bytes(bad.read_bytes()[:50])
    crops = find_crops(images)
    with pytest.raises(ImageError, match=r"0000_c0\.png cannot be decoded"):
        extractor.features(crops)
    with pytest.raises(ImageError, match=r"outside of it.*correct the row\.$"):
        extractor.features([Crop(crops[1].path, (500, 0, 5, 5))])
    descriptors, problems = extractor.try_features(crops)
    assert list(problems) == [0]
    assert torch.equal(descriptors[0], torch.zeros(6, 24))
    torch.testing.assert_close(descriptors[1:], extractor.features(crops[1:]), rtol=1e-5, atol=1e-5)


def test_a_feature_that_is_not_finite_is_an_error(world):
    broken = world.network()
    torch.nn.init.constant_(broken.heads.neck.weight, torch.nan)
    with pytest.raises(NumericsError, match="not finite"):
        Extractor(broken, world.about, num_workers=0, device="cpu").features([world.person(0)])


def test_the_fingerprint_knows_what_makes_a_descriptor(world):
    base = fingerprint(world.network(), world.about)
    assert base == fingerprint(world.network(), world.about)
    other = {**world.about, "data": {**world.about["data"], "mean": [0.4] * 3}}
    changed = world.network()
    with torch.no_grad():
        changed.part_tokens[0, 0, 0] += 1e-3
    neck = world.network()
    neck.heads.neck.running_mean += 1e-3
    epsilon = {**world.about, "model": {**world.about["model"], "similarity": "dot"}}
    assert len({base, fingerprint(world.network(), other), fingerprint(changed, world.about),
                fingerprint(neck, world.about), fingerprint(world.network(), epsilon)}) == 5  # fmt: skip
    # what the descriptor does not see
    counted = world.network()
    counted.heads.neck.num_batches_tracked += 5
    weights = {**world.about, "model": {**world.about["model"], "grad_checkpointing": True}, "num_classes": 7}
    assert fingerprint(counted, weights) == base


def test_every_group_is_what_the_evaluation_compares(extractor, images):
    descriptors = extractor.features(find_crops(images))
    layout = extractor.layout
    metric = ReIDRetrieval(4, layout.groups, normalize=True)
    metric.update(descriptors, torch.arange(8), torch.zeros(8), torch.arange(8))
    assert list(layout.groups) == [
        "all", "global", "parts", "parts_2", "parts_3", "part_1", "part_2", "part_3", "part_4", "part_5"
    ]  # fmt: skip
    for group in layout.groups:
        expected = torch.cat([features.features for features in metric.feature_sets(group)])
        assert torch.equal(layout.select(descriptors, group), expected), group
    assert Layout.from_dict(layout.as_dict()) == layout
    with pytest.raises(ConfigError, match=r"tokens must be one of all, .*; got 'hat'"):
        layout.select(descriptors, "hat")


def test_a_network_without_parts_has_one_group(world):
    assert list(Layout.of(world.network(parts=None)).groups) == ["all"]
