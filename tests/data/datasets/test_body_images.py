"""Occluded-REID, Partial-REID and P-DukeMTMC-reID: whose images are found, and single-shot results with their deviation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aaformer_lit.data import DATASETS
from aaformer_lit.data.datasets.body_images import OccludedREID, OccludedREIDDataModule, PartialREID, PDukeMTMC
from aaformer_lit.data.datasets.joint import JointDataModule
from aaformer_lit.data.synthetic import SyntheticSpec, generate
from aaformer_lit.errors import ConfigError
from cli_tools import TINY_TRAINER, only, read_json, run_cli

Write = Callable[..., list[Path]]
SPEC = SyntheticSpec(num_train_ids=4, num_test_ids=3, num_cameras=2, images_per_camera=3)
SMALL: dict[str, Any] = {"image_size": (16, 8), "num_workers": 0}


@pytest.mark.parametrize(
    ("name", "folder", "train", "query", "gallery"),
    [
        ("occluded_reid", "Occluded_REID", 0, 6, 12),
        ("partial_reid", "Partial_REID", 0, 6, 12),
        ("p_dukemtmc", "P-DukeMTMC-reid", 24, 6, 12),
    ],
)
def test_the_people_that_were_drawn_are_found(
    tmp_path: Path, name: str, folder: str, train: int, query: int, gallery: int
) -> None:
    assert generate(tmp_path, SPEC, name, progress=False).name == folder
    dataset = DATASETS[name](tmp_path)
    assert [len(records) for records in (dataset.train, dataset.query, dataset.gallery)] == [train, query, gallery]
    assert {r.camid for r in [*dataset.train, *dataset.query, *dataset.gallery]} == {-1}
    assert Counter(r.pid for r in dataset.query) == dict.fromkeys(SPEC.test_pids, 2)
    assert Counter(r.pid for r in dataset.gallery) == dict.fromkeys(SPEC.test_pids, 4)
    assert {r.pid for r in dataset.train} == (set(SPEC.train_pids) if train else set())


@pytest.mark.parametrize("kind", ["partial", "occluded"])
def test_partial_reid_has_two_kinds_of_queries(tmp_path: Path, write_images: Write, kind: str) -> None:
    for folder in ("partial", "occluded", "whole"):
        write_images(tmp_path / "Partial_REID" / f"{folder}_body_images", ["001_001.jpg", "2_002.jpg"])
    dataset = PartialREID(tmp_path, query=kind)  # type: ignore[arg-type]
    assert [(r.path.parent.name, r.path.name, r.pid) for r in dataset.query] == [
        (f"{kind}_body_images", "001_001.jpg", 1),
        (f"{kind}_body_images", "2_002.jpg", 2),
    ]
    with pytest.raises(ConfigError, match=r"data\.query must be one of partial, occluded; got .whole."):
        PartialREID(tmp_path, query="whole")  # type: ignore[arg-type]


def test_formats_that_are_not_read_are_told_in_the_folders_of_people_too(
    tmp_path: Path, write_images: Write, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("occluded", "whole"):
        write_images(tmp_path / "Occluded_REID" / f"{folder}_body_images" / "001", ["001_01.jpg"])
    (tmp_path / "Occluded_REID" / "whole_body_images" / "001" / "001_02.heic").touch()
    dataset = OccludedREID(tmp_path)
    assert [(path.name, why) for path, why in dataset.unused.items()] == [("001_02.heic", "a format that is not read")]
    assert "001/001_02.heic" in caplog.text


def test_published_counts_add_up() -> None:
    for dataset, images in ((OccludedREID, 2_000), (PDukeMTMC, 24_143)):
        assert sum(counts.images for counts in dataset.published["official"].values()) == images


def test_draws_are_the_data_sets_or_chosen(tmp_path: Path) -> None:
    generate(tmp_path, SPEC, "occluded_reid", progress=False)
    for given, expected in ((None, 10), (3, 3), (0, 0)):
        module = OccludedREIDDataModule(tmp_path, draws=given, **SMALL)
        module.setup("test")
        assert module.test_sets["occluded_reid"].draws == expected
    with pytest.raises(ConfigError, match=r"data\.draws=-1 is too small"):
        OccludedREID(tmp_path, draws=-1)


def test_what_was_trained_elsewhere_is_tested_here(tmp_path: Path) -> None:
    generate(tmp_path, SPEC, "occluded_reid", progress=False)
    generate(tmp_path, SPEC, "market1501", progress=False)
    module = JointDataModule(
        tmp_path, train=["market1501"], test=["occluded_reid"], ids_per_batch=2, images_per_id=2, **SMALL
    )
    module.setup("fit")
    assert module.num_classes == 4
    assert module.test_sets["occluded_reid"].draws == 10


def test_single_shot_results_have_their_deviation(trained: Path, tmp_path: Path) -> None:
    generate(tmp_path, SPEC, "occluded_reid", progress=False)
    quiet = [option for option in TINY_TRAINER if option.startswith("trainer") and "epochs" not in option]
    code = run_cli(
        "evaluate",
        f"ckpt={trained}",
        "data=occluded_reid",
        f"paths.data={tmp_path}",
        f"paths.runs={tmp_path}/runs",
        *quiet,
    )
    assert code == 0
    metrics = read_json(only(tmp_path.rglob("metrics.json")))
    assert 0 < metrics["test/mAP"] <= 1
    assert 0 <= metrics["test/deviation/mAP"] < 0.5
    assert {"test/deviation/rank1", "test/deviation/mAP_parts"} <= set(metrics)
