"""The data module draws what is missing, and hands out records with their masks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aaformer_lit.data.synthetic import SyntheticSpec
from aaformer_lit.data.synthetic.canvas import Part
from aaformer_lit.data.synthetic.datamodule import SyntheticDataModule
from aaformer_lit.data.transforms import Transforms
from aaformer_lit.structures import NO_PART

SPEC = SyntheticSpec(num_train_ids=4, num_test_ids=3, num_cameras=3, images_per_camera=2)


def build(root: Path, **options: object) -> SyntheticDataModule:
    plain = Transforms(flip=0.0, pad=0, erase=0.0)
    common = {"image_size": (128, 64), "ids_per_batch": 2, "images_per_id": 4, "num_workers": 0, "transforms": plain}
    return SyntheticDataModule(root, spec=SPEC, **{**common, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "not yet there"
    build(root).prepare_data()
    return root


def test_prepare_data_draws_the_data_set(root: Path) -> None:
    assert [folder.name for folder in root.iterdir()] == [f"synthetic-{SPEC.short_hash}"]


def test_equal_specs_have_one_hash_that_of_the_published_ones() -> None:
    assert SyntheticSpec().short_hash == "07b3481fcc"
    assert (
        SyntheticSpec(difficulty=1, occlusion=0).short_hash == SyntheticSpec(difficulty=1.0, occlusion=0.0).short_hash
    )


def test_records_are_the_shots_of_the_spec(root: Path) -> None:
    module = build(root)
    module.setup("fit")
    for split, records in (
        ("train", module.train_records),
        ("query", module.query_records),
        ("gallery", module.gallery_records),
    ):
        expected = sorted((shot.pid, shot.camid) for shot in SPEC.shots() if shot.split == split)
        assert sorted((record.pid, record.camid) for record in records) == expected
    assert module.num_classes == 4
    assert module.fingerprint["name"] == "synthetic"
    assert module.fingerprint["spec"] == asdict(SPEC)


def test_every_query_has_matches_in_the_other_cameras_only_ever_of_its_own_id(root: Path) -> None:
    module = build(root)
    module.setup("test")
    for query in module.query_records:
        others = {r.camid for r in module.gallery_records if r.pid == query.pid and r.camid != query.camid}
        assert others == set(SPEC.camids) - {query.camid}


def test_part_masks_are_those_of_the_pictures(root: Path) -> None:
    module = build(root)
    module.setup("fit")
    assert module.part_names == ("head", "torso", "arms", "legs", "shoes", "carried")
    parts_of = {Part.HEAD: 0, Part.HAIR: 0, Part.TORSO: 1, Part.ARMS: 2, Part.LEGS: 3, Part.SHOES: 4, Part.CARRIED: 5}
    batch = next(iter(module.train_dataloader()))
    assert batch["part_mask"].dtype == torch.uint8
    for index, mask in zip(batch["index"], batch["part_mask"].numpy(), strict=True):
        path = module.train_records[int(index)].mask
        assert path is not None
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert (mask == np.vectorize(lambda label: parts_of.get(label, NO_PART))(labels)).all()


def test_masks_can_be_left_out(root: Path) -> None:
    module = build(root, masks=None)
    module.setup("fit")
    assert module.part_names == ()
    assert all(record.mask is None for record in module.train_records)
    assert "part_mask" not in next(iter(module.train_dataloader()))
