"""Part masks: label values become part numbers, and every image finds its own mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aaformer_lit.data.masks import PartTable, attach_masks
from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.structures import NO_PART, Record


def test_labels_become_parts() -> None:
    table = PartTable({"head": [1, 2], "torso": [300], "legs": [5]})
    labels = np.array([[0, 1, 2], [5, 300, 6]], np.uint16)
    assert table.names == ("head", "torso", "legs")
    np.testing.assert_array_equal(table(labels), [[NO_PART, 0, 0], [2, 1, NO_PART]])
    assert table(labels).dtype == np.uint8
    np.testing.assert_array_equal(table(labels[:1].astype(np.uint8)), [[NO_PART, 0, 0]])


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(ProtocolError, match="labels from -1 to 3"):
        PartTable({"head": [1]})(np.array([[-1, 3]]))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({}, "has 0 parts"),
        ({"head": [1], "legs": [2, 1]}, "label 1 is in both head and legs"),
        ({"head": [-1]}, "head has label -1"),
        ({"head": [1 << 16]}, "head has label 65536"),
    ],
)
def test_wrong_tables_are_refused(parts: dict[str, list[int]], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PartTable(parts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "people"


def write_masks(directory: Path, *names: str) -> list[Path]:
    paths = [directory / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(path)
    return paths


def test_the_mirrored_path_comes_before_the_name_alone(folder: Path, tmp_path: Path) -> None:
    records = [Record(folder / "query" / "a.jpg", 1, 1), Record(folder / "test" / "b.jpg.jpg", 1, 1)]
    masks = tmp_path / "masks"
    mirrored, alone, _ = write_masks(masks, "query/a.png", "b.jpg.png", "a.png")
    assert [r.mask for r in attach_masks(records, folder, masks)] == [mirrored, alone]


def test_a_relative_folder_is_the_data_sets_own(folder: Path) -> None:
    (mask,) = write_masks(folder / "masks", "train/a.png")
    (record,) = attach_masks([Record(folder / "train" / "a.jpg", 1, 1)], folder, "masks")
    assert record == Record(folder / "train" / "a.jpg", 1, 1, mask)


def test_images_elsewhere_go_by_name(folder: Path, tmp_path: Path) -> None:
    (mask,) = write_masks(tmp_path / "masks", "a.png")
    assert attach_masks([Record(tmp_path / "other" / "a.jpg", 1, 1)], folder, tmp_path / "masks")[0].mask == mask


def test_two_images_of_one_name_do_not_share_a_mask(folder: Path, tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", "1.png")
    records = [Record(folder / "train" / name / "1.jpg", pid, 1) for pid, name in enumerate(("anna", "ben"))]
    with pytest.raises(ProtocolError, match=r"1.png would be the mask of train/anna/1.jpg and of train/ben/1.jpg"):
        attach_masks(records, folder, tmp_path / "masks")


def test_over_all_splits_a_mask_is_of_one_image(folder: Path, tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", "1.png")
    image_of: dict[Path, Record] = {}
    for split, size in (("query", 10), ("gallery", 10), ("train", 11)):
        (folder / split).mkdir(parents=True)
        (folder / split / "1.jpg").write_bytes(bytes(size))
    first = Record(folder / "query" / "1.jpg", 1, 1)
    for same in (first, Record(folder / "gallery" / "1.jpg", 1, 1)):  # Occluded-Duke has images in both, under one name
        attach_masks([same], folder, tmp_path / "masks", image_of)
    for pid in (1, 2):  # another picture of her, or of somebody else
        with pytest.raises(ProtocolError, match=r"1.png would be the mask of query/1.jpg and of train/1.jpg"):
            attach_masks([Record(folder / "train" / "1.jpg", pid, 1)], folder, tmp_path / "masks", image_of)


def test_missing_masks_are_named(folder: Path, tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", "train/a.png")
    records = [Record(folder / "train" / f"{name}.jpg", 1, 1) for name in "abc"]
    with pytest.raises(ProtocolError, match=r"2 of 3 images have no mask .* first is train/b.jpg"):
        attach_masks(records, folder, tmp_path / "masks")
    with pytest.raises(ProtocolError, match="no folder"):
        attach_masks(records, folder, tmp_path / "nowhere")
