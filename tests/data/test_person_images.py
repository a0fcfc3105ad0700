"""Samples: what a sample holds, and that no worker, order or cache changes its pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from aaformer_lit.assign.place_loss import patch_places
from aaformer_lit.assign.placed import patch_heights
from aaformer_lit.data.images import read_image
from aaformer_lit.data.masks import PartTable
from aaformer_lit.data.person_images import PersonImages, readable
from aaformer_lit.data.preparation import resize
from aaformer_lit.data.sampler import Draw, PKSampler
from aaformer_lit.data.transforms import Transforms
from aaformer_lit.errors import ImageError
from aaformer_lit.structures import NO_PART, Record

SIZE = (32, 16)


def images(records: list[Record], transforms: Transforms | None = None, **how: Any) -> PersonImages:
    return PersonImages(records, SIZE, (transforms or Transforms()).train(SIZE), **how)


def test_a_test_sample(records: list[Record]) -> None:
    sample = PersonImages(records, SIZE, Transforms().test())[4]
    assert (sample["pid"], sample["camid"], sample["index"]) == (5, 2, 4)
    expected = resize(read_image(records[4].path), SIZE) / 255 * 2 - 1
    np.testing.assert_allclose(sample["image"].numpy(), expected.transpose(2, 0, 1), atol=1e-6)
    assert set(sample) == {"image", "pid", "camid", "index"}


def test_a_training_sample_has_a_label(records: list[Record]) -> None:
    sample = images(records, labels={3: 0, 5: 1, 8: 2, 13: 3})[Draw(11, epoch=2)]
    assert (sample["pid"], sample["camid"], sample["index"]) == (3, 3, 11)


def test_draws_are_independent(records: list[Record]) -> None:
    """Another image, epoch, copy or seed gives other pixels; the same key the same."""
    twins = [records[0]] * 4
    dataset = images(twins, seed=1)
    keys = [Draw(i, epoch, copy) for i in range(4) for epoch in range(4) for copy in range(2)]
    drawn = {key: dataset[key]["image"].numpy().tobytes() for key in keys}
    assert len(set(drawn.values())) == len(keys)
    assert all(dataset[key]["image"].numpy().tobytes() == drawn[key] for key in reversed(keys))
    assert images(twins, seed=2)[keys[0]]["image"].numpy().tobytes() != drawn[keys[0]]


def epochs(records: list[Record], num_workers: int) -> list[dict[str, torch.Tensor]]:
    """Two epochs of PK batches from one loader, whose workers live on."""
    labels = {pid: label for label, pid in enumerate(sorted({r.pid for r in records}))}
    sampler = PKSampler([labels[r.pid] for r in records], 2, 2, seed=3)
    loader: DataLoader[dict[str, Any]] = DataLoader(
        images(records, labels=labels, seed=3),
        batch_sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )
    batches: list[dict[str, torch.Tensor]] = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers, whatever the machine
@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_do_not_change_the_batches(records: list[Record], num_workers: int) -> None:
    alone, shared = epochs(records, 0), epochs(records, num_workers)
    assert len(alone) == len(shared) >= 4
    for one, other in zip(alone, shared, strict=True):
        assert one.keys() == other.keys() == {"image", "pid", "camid", "index"}
        assert all(torch.equal(one[key], other[key]) for key in one)
    pictures = torch.cat([batch["image"] for batch in alone]).flatten(1)
    assert len(pictures.unique(dim=0)) == len(pictures), "no augmentation is drawn twice"


def test_global_generators_are_not_touched(records: list[Record]) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # the legacy generator is what must stay untouched
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    images(records)[Draw(0, epoch=1)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]  # noqa: NPY002


@pytest.fixture
def masked(records: list[Record], tmp_path: Path) -> list[Record]:
    """Each image with a mask: label 1 in the upper half, 2 in the lower, 0 in the left column."""
    labels = np.repeat([1, 2], 32)[:, None].repeat(32, 1).astype(np.uint8)
    labels[:, :2] = 0
    Image.fromarray(labels).save(tmp_path / "mask.png")
    return [replace(r, mask=tmp_path / "mask.png") for r in records]


def test_part_masks_travel_with_the_image(masked: list[Record]) -> None:
    table = PartTable({"lower": [2], "upper": [1]})
    part_mask = PersonImages(masked, SIZE, Transforms().test(), part_table=table)[0]["part_mask"]
    expected = np.repeat([1, 0], 16)[:, None].repeat(16, 1)
    expected[:, :1] = NO_PART
    assert part_mask.dtype == torch.uint8
    np.testing.assert_array_equal(part_mask, expected)
    flipped = images(masked, Transforms(flip=1, pad=0, erase=0), part_table=table)[0]["part_mask"]
    np.testing.assert_array_equal(flipped, expected[:, ::-1])


def test_the_place_of_each_pixel_travels_with_moved_boxes(records: list[Record]) -> None:
    still = Transforms(flip=0.0, pad=0, erase=0.0)
    moved = PersonImages(records, SIZE, replace(still, box=0.3).train(SIZE))
    assert "place" not in PersonImages(records, SIZE, still.train(SIZE))[0]
    kept = 0
    for index in range(len(records)):
        place = moved[index]["place"].numpy()
        assert (place == place[:, :1]).all()
        column = place[:, 0]
        inside = column[column != NO_PART].astype(int)
        assert (np.diff(inside) >= 0).all(), "further down in the image is further down in the box"
        kept += np.array_equal(column, np.arange(SIZE[0]) * 255 // SIZE[0])
    assert 0 < kept < len(records)


@pytest.mark.parametrize("height", [32, 256])
def test_places_go_from_the_top_to_the_bottom_of_the_image(records: list[Record], height: int) -> None:
    pipeline = Transforms(flip=0.0, pad=0, erase=0.0, box=0.3, move_box=0.0).train((height, 16))
    place = torch.as_tensor(PersonImages(records, (height, 16), pipeline)[0]["place"])
    assert place[:, 3].tolist() == [row * 255 // height for row in range(height)]
    grid = (height // 8, 2)
    torch.testing.assert_close(
        patch_places(place[None], grid)[0], patch_heights(grid), atol=1 / height + 2 / 255, rtol=0
    )


def test_a_record_without_its_mask_is_named(records: list[Record]) -> None:
    with pytest.raises(ImageError, match=rf"{records[2].path} has no part mask"):
        images(records, part_table=PartTable({"all": [1]}))[2]


def test_the_cache_holds_the_same_pixels(masked: list[Record]) -> None:
    table = PartTable({"lower": [2], "upper": [1]})
    read, cached = images(masked, part_table=table), images(masked, part_table=table)
    cached.cache()
    for r in masked:
        r.path.rename(r.path.with_suffix(".away"))
    draws = [Draw(i, epoch) for epoch in range(3) for i in range(len(masked))]
    from_cache = [cached[draw] for draw in draws]
    with pytest.raises(ImageError, match="No such file"):
        read[0]
    for r in masked:
        r.path.with_suffix(".away").rename(r.path)
    for draw, sample in zip(draws, from_cache, strict=True):
        expected = read[draw]
        assert all(torch.equal(torch.as_tensor(sample[key]), torch.as_tensor(expected[key])) for key in expected)


def test_readable_tells_good_from_bad(records: list[Record]) -> None:
    records[3].path.write_bytes(b"")
    records[7].path.write_bytes(records[7].path.read_bytes()[:100])
    good, problems = readable(records)
    assert good == [r for i, r in enumerate(records) if i not in (3, 7)]
    assert len(problems) == 2
    assert str(records[3].path) in problems[0]
    assert str(records[7].path) in problems[1]
