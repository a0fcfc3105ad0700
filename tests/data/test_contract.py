"""What every data set promises, in a tiny world and with as many file names as the published ones (see `official_lists`).

A data set joins by a subclass of `Contract` that says which files there are and whom they show. It says so in its own words:
nothing of the code under test is used for it. All files are links to one tiny picture.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from aaformer_lit.data.datamodule import ReIDDataModule, ReIDDataset
from aaformer_lit.data.datasets.cuhk03 import CUHK03, CUHK03DataModule
from aaformer_lit.data.datasets.dukemtmc import DukeMTMC, DukeMTMCDataModule
from aaformer_lit.data.datasets.folder import FolderDataModule, FolderDataset
from aaformer_lit.data.datasets.market1501 import Market1501, Market1501DataModule
from aaformer_lit.data.datasets.msmt17 import MSMT17, MSMT17DataModule
from aaformer_lit.data.datasets.occluded_duke import OccludedDuke, OccludedDukeDataModule
from aaformer_lit.structures import Record
from official_lists import official_lists


class Item(NamedTuple):
    """One image: its path below the root, and what it is."""

    path: str
    split: str
    pid: int
    camid: int


class World(NamedTuple):
    root: Path
    items: list[Item]
    official: bool


class Opened:
    """A data set and what it logged as warnings."""

    def __init__(self, dataset: ReIDDataset, said: list[str]) -> None:
        self.dataset, self.log = dataset, "\n".join(said)


def link(root: Path, paths: set[str]) -> None:
    """A tiny picture under every path."""
    made = set()
    originals: dict[str, str] = {}
    for number, path in enumerate(sorted(paths)):
        target = os.path.join(root, path)
        folder, kind = os.path.dirname(target), target[-4:]
        if folder not in made:
            os.makedirs(folder, exist_ok=True)
            made.add(folder)
        if number % 30_000 == 0:  # a file can have some 65,000 names
            originals.clear()
        if kind in originals:
            os.link(originals[kind], target)
        else:
            originals[kind] = target
            Image.fromarray(np.full((8, 4, 3), 90, np.uint8)).save(target)


class Contract:
    """Subclasses say `dataset`, `module` and their `options`, and give the items of both worlds."""

    dataset: ClassVar[type[ReIDDataset]]
    module: ClassVar[type[ReIDDataModule]]
    options: ClassVar[dict[str, Any]] = {}
    worlds: ClassVar[tuple[str, ...]] = ("tiny", "official")
    seconds: ClassVar[float] = 4.0  # 126,000 names take one or two; this is for a busy machine

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        if "world" in metafunc.fixturenames:
            metafunc.parametrize("world", metafunc.cls.worlds, indirect=True, scope="class")

    def tiny(self) -> list[Item]:
        """At least 4 training people with 2 images each."""
        raise NotImplementedError

    def official(self, lists: Path) -> list[Item]:
        """All images of the published lists; for those with an official world."""
        raise NotImplementedError

    def build(self, root: Path, items: list[Item], lists: Path | None) -> None:
        link(root, {item.path for item in items})

    def order(self, record: Record) -> str:
        """What the records are sorted by."""
        return str(record.path)

    def test_every_image_has_the_right_pid_and_camera(self, opened: Opened, world: World) -> None:
        for split in ("train", "query", "gallery"):
            expected = [item for item in world.items if item.split == split]
            assert expected
            found = [
                Item(os.path.relpath(r.path, world.root), split, r.pid, r.camid) for r in getattr(opened.dataset, split)
            ]
            assert sorted(found) == sorted(expected)

    def test_it_is_sorted_repeatable_and_quick(self, opened: Opened, world: World) -> None:
        start = time.process_time()
        again = self.dataset(world.root, **self.options)
        assert time.process_time() - start < self.seconds
        for split in ("train", "query", "gallery"):
            records = getattr(opened.dataset, split)
            assert records == getattr(again, split)
            order = [self.order(r) for r in records]
            assert order == sorted(order)

    def test_train_and_test_people_differ(self, opened: Opened) -> None:
        if opened.dataset.one_numbering:
            tested = {r.pid for r in [*opened.dataset.query, *opened.dataset.gallery]}
            assert not {r.pid for r in opened.dataset.train} & tested

    def test_every_query_has_a_match_or_is_named(self, opened: Opened) -> None:
        cameras: dict[int, set[int]] = {}
        for r in opened.dataset.gallery:
            cameras.setdefault(r.pid, set()).add(r.camid)
        own = [{q.camid} if q.camid >= 0 else set() for q in opened.dataset.query]
        lonely = [q for q, cam in zip(opened.dataset.query, own, strict=True) if not cameras.get(q.pid, set()) - cam]
        assert ("are skipped" in opened.log) == bool(lonely)

    def test_counts_are_the_published_ones_or_the_difference_is_said(self, opened: Opened, world: World) -> None:
        dataset = opened.dataset
        assert dataset.as_published == world.official
        if world.official:
            assert "not as published" not in opened.log
            assert "left out" not in opened.log
        elif dataset.published:
            assert "is not as published" in opened.log
            for split, counts in dataset.published[dataset.variant].items():
                found = [item for item in world.items if item.split == split]
                assert f"{split:8}{len(found):,} image" in opened.log
                assert f", {len({i.pid for i in found}):,} id" in opened.log
                assert f"published {counts.images:,} images, {counts.ids:,} ids, {counts.cameras} cameras" in opened.log

    def test_labels_are_0_to_n_in_the_order_of_the_pids(self, world: World) -> None:
        module = self.module(
            world.root, ids_per_batch=4, images_per_id=2, num_workers=0, image_size=(16, 8), **self.options
        )
        module.setup("fit")
        pids = sorted({item.pid for item in world.items if item.split == "train"})
        assert module.labels == {pid: label for label, pid in enumerate(pids)}
        assert module.num_classes == len(pids)
        batch = next(iter(module.train_dataloader()))
        assert batch["image"].shape == (8, 3, 16, 8)
        for label, camid, index in zip(batch["pid"], batch["camid"], batch["index"], strict=True):
            record = module.train_records[int(index)]
            assert (module.labels[record.pid], record.camid) == (int(label), int(camid))
        assert list(module.test_sets) == [self.dataset.name]
        assert module.query_records == module.test_sets[self.dataset.name].query
        counts = module.fingerprint["counts"]["train"]
        assert (counts["images"], counts["ids"]) == (len(module.train_records), len(pids))


@pytest.fixture(scope="session")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_lists(tmp_path_factory.mktemp("lists"))


@pytest.fixture(scope="class")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The files of `request.cls`, a subclass of `Contract`, on disk."""
    contract = request.cls()
    lists = request.getfixturevalue("lists") if request.param == "official" else None
    items = contract.tiny() if lists is None else contract.official(lists)
    root = tmp_path_factory.mktemp(request.cls.__name__)
    contract.build(root, items, lists)
    yield World(root, [item for item in items if item.pid >= 0], lists is not None)
    shutil.rmtree(root)


@pytest.fixture(scope="class")
def opened(request: pytest.FixtureRequest, world: World) -> Opened:
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("aaformer_lit.data")
    logger.addHandler(handler)
    try:
        return Opened(request.cls.dataset(world.root, **request.cls.options), said)
    finally:
        logger.removeHandler(handler)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


class NamesDecide(Contract):
    """Data sets whose folders are listed: whatever lies there must be named in the data set's form."""

    def test_other_image_files_are_left_out_and_named(
        self, world: World, opened: Opened, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = opened.dataset.folder / opened.dataset.splits["train"]
        before = len(opened.dataset.train)
        strays = [folder / "holiday.jpg", folder / ".hidden.jpg", folder / "Thumbs.db"]
        for stray in strays:
            stray.touch()
        with caplog.at_level(logging.WARNING):
            assert len(self.dataset(world.root, **self.options).train) == before
        assert "left out: 1 image file in" in caplog.text
        assert "holiday.jpg" in caplog.text
        for stray in strays:
            stray.unlink()


class TestMarket1501(NamesDecide):
    dataset, module = Market1501, Market1501DataModule
    folder = "Market-1501-v15.09.15"
    folders: ClassVar = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    published: ClassVar = {
        "train": "market1501/train.txt", "query": "market1501/probe.txt", "gallery": "market1501/gallery.txt"
    }  # fmt: skip

    def items(self, split: str, names: Iterable[str]) -> list[Item]:
        parts = [(name, name.split("_")) for name in names]
        where = f"{self.folder}/{self.folders[split]}"
        return [Item(f"{where}/{name}", split, int(pid), int(camera[1])) for name, (pid, camera, *_) in parts]

    def tiny(self) -> list[Item]:
        train = [f"{pid:04d}_c{c}s1_{pid * 50:06d}_0{c}.jpg" for pid in (2, 7, 10, 11) for c in (1, 6)]
        test = [f"{pid:04d}_c{c}s2_00{pid}5{c}_00.jpg" for pid in (12, 34) for c in (1, 2, 4)]
        junk = ["-1_c1s1_000401_03.jpg", "0000_c2s1_000451_03.jpg", "0000_c6s3_094992_01.jpg.jpg"]
        return [
            *self.items("train", train), *self.items("query", test[::3]), *self.items("gallery", [*test, *junk])
        ]  # fmt: skip

    def official(self, lists: Path) -> list[Item]:
        return [item for split, file in self.published.items() for item in self.items(split, lines(lists / file))]


class TestDukeMTMC(TestMarket1501):
    dataset, module = DukeMTMC, DukeMTMCDataModule
    folder = "DukeMTMC-reID"
    published: ClassVar = {"train": "duke/train.list", "query": "duke/probe.list", "gallery": "duke/test.list"}

    def tiny(self) -> list[Item]:
        train = [f"{pid:04d}_c{c}_f00{pid * 50:05d}.jpg" for pid in (1, 5, 9, 30) for c in (1, 8)]
        test = [f"{pid:04d}_c{c}_f00{pid * 50:05d}.jpg" for pid in (2, 6) for c in (3, 4, 8)]
        gallery = [*test[1::3], *test[2::3]]
        return [*self.items("train", train), *self.items("query", test[::3]), *self.items("gallery", gallery)]


class TestOccludedDuke(TestDukeMTMC):
    dataset, module = OccludedDuke, OccludedDukeDataModule
    folder = "Occluded_Duke"
    published: ClassVar = {split: f"occluded_duke/{split}.list" for split in ("train", "query", "gallery")}


class TestOccludedDukeFromLists(Contract):
    """The three lists beside a DukeMTMC-reID folder."""

    dataset, module = OccludedDuke, OccludedDukeDataModule

    def order(self, record: Record) -> str:
        return record.path.name

    def duke(self, lists: Path | None) -> list[Item]:
        return TestDukeMTMC().tiny() if lists is None else TestDukeMTMC().official(lists)

    def listed(self, duke: list[Item], names: dict[str, list[str]]) -> list[Item]:
        where = {item.path.split("/")[-1]: item for item in duke}
        return [where[name]._replace(split=split) for split in names for name in names[split]]

    def names(self, lists: Path | None) -> dict[str, list[str]]:
        if lists is not None:
            return {split: lines(lists / file) for split, file in TestOccludedDuke.published.items()}
        duke = [item.path.split("/")[-1] for item in self.duke(None)]
        return {"train": duke[:-7], "query": [duke[-5]], "gallery": duke[-4:]}

    def tiny(self) -> list[Item]:
        return self.listed(self.duke(None), {s: sorted(n) for s, n in self.names(None).items()})

    def official(self, lists: Path) -> list[Item]:
        return self.listed(self.duke(lists), self.names(lists))

    def build(self, root: Path, items: list[Item], lists: Path | None) -> None:
        link(root, {item.path for item in self.duke(lists)})
        (root / "Occluded_Duke").mkdir()
        for split, names in self.names(lists).items():
            (root / "Occluded_Duke" / f"{split}.list").write_text("".join(f"{name}\n" for name in names))


class TestMSMT17(Contract):
    dataset, module = MSMT17, MSMT17DataModule
    folder, train_dir, test_dir = "MSMT17_V1", "train", "test"

    def content(self, lists: Path | None) -> dict[str, list[str]]:
        names = ("train", "val", "query", "gallery")
        if lists is not None:
            return {name: lines(lists / "msmt17_v1" / f"list_{name}.txt") for name in names}

        def line(pid: int, number: int, camera: int) -> str:
            time_of_day = ("morning", "noon", "afternoon")[number % 3]
            ex = "_ex" if number % 2 else ""
            return (
                f"{pid:04d}/{pid:04d}_{number:03d}_{camera:02d}_0303{time_of_day}_00{camera:02d}_{number}{ex}.jpg {pid}"
            )

        return {
            "train": [line(pid, number, 3 * number + 1) for pid in range(5) for number in range(3)],
            "val": [line(pid, 4, 15) for pid in range(5)],
            "query": [line(pid, 0, 2) for pid in range(3)],
            "gallery": [line(pid, number, number + 1) for pid in range(3) for number in range(3, 10)],
        }

    def items(self, lists: Path | None) -> list[Item]:
        items = []
        for name, content in self.content(lists).items():
            split = "train" if name == "val" else name
            folder = self.train_dir if name in ("train", "val") else self.test_dir
            for line in content:
                path, pid = line.split()
                items.append(Item(f"{self.folder}/{folder}/{path}", split, int(pid), int(path.split("_")[2])))
        return items

    def tiny(self) -> list[Item]:
        return self.items(None)

    def official(self, lists: Path) -> list[Item]:
        return self.items(lists)

    def build(self, root: Path, items: list[Item], lists: Path | None) -> None:
        super().build(root, items, lists)
        for name, content in self.content(lists).items():
            (root / self.folder / f"list_{name}.txt").write_text("".join(f"{line}\n" for line in content))

    def test_val_can_be_left_out(self, opened: Opened, world: World) -> None:
        train = MSMT17(world.root, train_with_val=False).train
        assert set(train) < set(opened.dataset.train)
        assert len(train) == (30_248 if world.official else 15)


class TestMSMT17V2(TestMSMT17):
    folder, train_dir, test_dir = "MSMT17_V2", "mask_train_v2", "mask_test_v2"
    worlds = ("tiny",)  # the published lists are version 1's

    def test_the_version_is_told_apart(self, opened: Opened) -> None:
        assert opened.dataset.variant == "v2"


class CUHK03Contract(NamesDecide):
    """Items from the protocol's .mat, read with scipy alone."""

    dataset, module = CUHK03, CUHK03DataModule
    protocol: ClassVar[str] = "labeled"

    def content(self, lists: Path | None) -> dict[str, Any]:
        if lists is not None:
            return dict(scipy.io.loadmat(lists / "cuhk03_np" / f"cuhk03_new_protocol_config_{self.protocol}.mat"))
        names = [
            f"{pair}_{person:03d}_{1 + (n > 5)}_{n:02d}.png"
            for pair in (1, 5)
            for person in (1, 2, 3)
            for n in (1, 6, 10)
        ]
        labels = [
            (pair == 5) * (843 + 440 + 77 + 58) + person for pair in (1, 5) for person in (1, 2, 3) for _ in range(3)
        ]
        filelist = np.empty((len(names), 1), object)
        filelist[:, 0] = names
        return {
            "filelist": filelist,
            "labels": np.array(labels)[:, None],
            "camId": np.array([int(name[6]) for name in names])[:, None],
            "train_idx": np.arange(1, 13)[:, None],
            "query_idx": np.array([13, 16])[:, None],
            "gallery_idx": np.array([14, 15, 17, 18])[:, None],
        }

    def rows(self, lists: Path | None) -> list[tuple[str, str, int, int]]:
        """(name, split, label, camera) of the protocol's images."""
        mat = self.content(lists)
        name_of = [str(np.ravel(entry)[0]) for entry in mat["filelist"][:, 0]]
        return [
            (name_of[row - 1], split, int(mat["labels"][row - 1, 0]), int(mat["camId"][row - 1, 0]))
            for split in ("train", "query", "gallery")
            for row in mat[f"{split}_idx"][:, 0].astype(int).tolist()
        ]

    def path(self, name: str, split: str, pid: int, camid: int) -> str:
        raise NotImplementedError

    def items(self, lists: Path | None) -> list[Item]:
        return [Item(self.path(*row), *row[1:]) for row in self.rows(lists)]

    def tiny(self) -> list[Item]:
        return self.items(None)

    def official(self, lists: Path) -> list[Item]:
        return self.items(lists)


FOLDER_OF = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


class TestCUHK03PairNames(CUHK03Contract):
    def path(self, name: str, split: str, pid: int, camid: int) -> str:
        return f"cuhk03-np/labeled/{FOLDER_OF[split]}/{name}"


class TestCUHK03PidNames(CUHK03Contract):
    protocol = "detected"
    options: ClassVar[dict[str, Any]] = {"protocol": "detected"}

    def path(self, name: str, split: str, pid: int, camid: int) -> str:
        return f"cuhk03/detected/{FOLDER_OF[split]}/{pid:04d}_c{camid}_{int(name[8:10])}.png"


class TestCUHK03Raw(CUHK03Contract):
    """`cuhk-03.mat`, every cell pointing to one tiny image, and the protocol file beside it."""

    worlds = ("tiny",)  # cutting all 14,096 images takes half a minute; test_cuhk03_raw reads the whole protocol

    def path(self, name: str, split: str, pid: int, camid: int) -> str:
        return f"cuhk03_release/cuhk03-np-extracted/labeled/{FOLDER_OF[split]}/{pid:04d}_c{camid}_{int(name[8:10])}.png"

    def build(self, root: Path, items: list[Item], lists: Path | None) -> None:
        (root / "cuhk03_release").mkdir()
        with h5py.File(root / "cuhk03_release" / "cuhk-03.mat", "w") as mat:
            picture = mat.create_dataset("#refs#/a", data=np.full((3, 4, 8), 90, np.uint8))  # stored transposed
            cells = []
            for pair, people in enumerate((843, 440, 77, 58, 49)):
                cell = np.full((10, people), picture.ref, h5py.ref_dtype)
                cells.append(mat.create_dataset(f"#refs#/pair{pair}", data=cell, dtype=h5py.ref_dtype).ref)
            mat.create_dataset("labeled", data=np.array([cells], h5py.ref_dtype), dtype=h5py.ref_dtype)
        protocol = {key: value for key, value in self.content(lists).items() if not key.startswith("__")}
        scipy.io.savemat(root / "cuhk03_new_protocol_config_labeled.mat", protocol)


class FolderContract(Contract):
    dataset, module = FolderDataset, FolderDataModule
    worlds = ("tiny",)

    def tiny(self) -> list[Item]:
        people = {"train": (4, 8, 15, 16), "query": (23,), "gallery": (23, 42)}
        return [
            Item(f"{split}/{pid}/{n}.jpg", split, pid, -1)
            for split in people
            for pid in people[split]
            for n in range(3)
        ]


class TestFolders(FolderContract):
    pass


class TestTable(FolderContract):
    """A CSV file whose folders say nothing."""

    options: ClassVar[dict[str, Any]] = {"table": "people.csv"}

    def tiny(self) -> list[Item]:
        return [item._replace(path=f"pictures/{n:03d}.jpg", camid=n % 3) for n, item in enumerate(super().tiny())]

    def build(self, root: Path, items: list[Item], lists: Path | None) -> None:
        super().build(root, items, lists)
        rows = [f"{item.path},{item.pid},{item.camid},{item.split}\n" for item in reversed(items)]
        (root / "people.csv").write_text("".join(["path,pid,camid,split\n", *rows]))
