"""Several data sets at once: nobody's label is taken by somebody else, and every test set stays by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.data.datasets.joint import JointDataModule
from aaformer_lit.errors import ConfigError


@pytest.fixture
def root(tmp_path: Path, write_images: Callable[..., list[Path]]) -> Path:
    """Market-1501 and DukeMTMC-reID with the same pids, and CUHK03."""
    for folder, name in (("market1501", "{:04d}_c{}s1_{:06d}_00.jpg"), ("DukeMTMC-reID", "{:04d}_c{}_f{:07d}.jpg")):
        write_images(
            tmp_path / folder / "bounding_box_train", [name.format(p, c, c) for p in (2, 7) for c in (1, 2, 3)]
        )
        write_images(tmp_path / folder / "query", [name.format(4, 1, 1)])
        write_images(tmp_path / folder / "bounding_box_test", [name.format(4, c, 2) for c in (1, 2)])
    for split, pid in (("bounding_box_train", 3), ("query", 5), ("bounding_box_test", 5)):
        write_images(tmp_path / "cuhk03-np" / "detected" / split, [f"000{pid}_c{c}_1.png" for c in (1, 2)])
    return tmp_path


def joint(root: Path, train: list[str], test: list[str], **more: Any) -> JointDataModule:
    return JointDataModule(
        root, train=train, test=test, ids_per_batch=4, images_per_id=2, num_workers=0, image_size=(16, 8), **more
    )


def test_people_are_kept_apart(root: Path) -> None:
    data = joint(root, ["market1501", "dukemtmc"], ["dukemtmc", "market1501"])
    data.setup("fit")
    assert data.labels == {2: 0, 7: 1, 10: 2, 15: 3}
    assert data.num_classes == 4
    folders = {r.pid: r.path.parts[-3] for r in data.train_records}
    assert folders == {2: "market1501", 7: "market1501", 10: "DukeMTMC-reID", 15: "DukeMTMC-reID"}
    batch = next(iter(data.train_dataloader()))
    assert sorted(batch["pid"].unique().tolist()) == [0, 1, 2, 3]


def test_every_test_set_has_its_loader(root: Path) -> None:
    data = joint(root, ["market1501"], ["dukemtmc", "cuhk03"], options={"cuhk03": {"protocol": "detected"}})
    data.setup("test")
    assert list(data.test_sets) == ["dukemtmc", "cuhk03"]
    assert data.query_records == data.test_sets["dukemtmc"].query
    for loader, test_set in zip(data.test_dataloader(), data.test_sets.values(), strict=True):
        pids = torch.cat([batch["pid"] for batch in loader]).tolist()
        assert pids == [r.pid for r in [*test_set.query, *test_set.gallery]]
    assert data.fingerprint["name"] == "market1501 -> dukemtmc+cuhk03"
    assert [entry["variant"] for entry in data.fingerprint["test"]] == ["official", "detected"]


def test_from_the_command_line(root: Path) -> None:
    overrides = ["data=joint", "data.train=[market1501,dukemtmc]", "data.test=[cuhk03]", f"paths.data={root}"]
    overrides += ["data.options={cuhk03: {protocol: detected}}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        data = instantiate(compose("train", overrides).data)
    data.setup("test")
    assert len(data.train_records) == 12
    assert {r.path.parts[-3] for r in data.query_records} == {"detected"}


@pytest.mark.parametrize(
    ("train", "test", "options", "says"),
    [
        (["market"], ["cuhk03"], {}, r"data.train=\['market'\] must be a list of data sets out of cuhk03, dukemtmc"),
        (["market1501"], [], {}, r"data.test=\[\] must be a list"),
        ("market1501", ["cuhk03"], {}, "data.train=market1501 must be a list"),
        (["market1501", "market1501"], ["cuhk03"], {}, "names a data set twice"),
        (["dukemtmc", "occluded_duke"], ["cuhk03"], {}, "occluded_duke shows the same people as dukemtmc"),
        (["p_dukemtmc", "occluded_duke"], ["cuhk03"], {}, "occluded_duke shows the same people as p_dukemtmc"),
        (["market1501"], ["dukemtmc"], {"cuhk03": {}}, "neither in data.train nor in data.test"),
        (["market1501"], ["dukemtmc"], {"dukemtmc": {"protocol": "x"}}, r"data.options.dukemtmc=.* does not fit"),
    ],
)
def test_what_does_not_fit_together(root: Path, train: Any, test: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        joint(root, train, test, options=options).setup("test")
