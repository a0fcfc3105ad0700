"""`prepare`: what it prints of good and bad data, what it unpacks, what it draws."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from aaformer_lit.data.check import inspect
from aaformer_lit.data.datasets.market1501 import Market1501
from aaformer_lit.data.synthetic import SyntheticSpec, generate
from aaformer_lit.prepare import _backbones
from cli_tools import run_cli

SPEC = ("spec.num_train_ids=3", "spec.num_test_ids=2", "spec.images_per_camera=2")
Prepare = Callable[..., tuple[int, str]]


@pytest.fixture
def prepare(capsys: pytest.CaptureFixture[str]) -> Prepare:
    """The exit code and all that is printed, spaces and line breaks made even."""

    root = logging.getLogger()

    def call(*overrides: str) -> tuple[int, str]:
        handlers = list(root.handlers)
        code = run_cli("prepare", *overrides)
        root.handlers[:] = handlers  # Hydra's writes to the stdout of this test, which later ones do not have
        out, err = capsys.readouterr()
        return code, " ".join(f"{out} {err}".split())

    return call


@pytest.fixture
def market(tmp_path: Path) -> Path:
    spec = SyntheticSpec(num_train_ids=3, num_test_ids=2, num_cameras=2, images_per_camera=2)
    return generate(tmp_path, spec, "market1501", progress=False)


LAYOUTS = [
    ("market1501", "Market-1501-v15.09.15", ()),
    ("dukemtmc", "DukeMTMC-reID", ()),
    ("occluded_duke", "Occluded_Duke", ()),
    ("msmt17", "MSMT17_V1", ()),
    ("msmt17", "MSMT17_V2", ("layout=msmt17_v2",)),
    ("cuhk03", "cuhk03", ()),
    ("cuhk03", "cuhk03-np", ("layout=cuhk03_np",)),
]


@pytest.mark.parametrize(("data", "folder", "more"), LAYOUTS, ids=[folder for _, folder, _ in LAYOUTS])
def test_drawn_data_pass_the_check(
    prepare: Prepare, tmp_path: Path, data: str, folder: str, more: tuple[str, ...]
) -> None:
    where = (f"data={data}", f"paths.data={tmp_path}")
    code, says = prepare(*where, "action=synthesize", *SPEC, *more)
    assert code == 0
    assert says.count(str(tmp_path / folder)) == 1
    assert f"drawn in {tmp_path / folder}" in says
    code, says = prepare(*where)
    assert code == 0
    assert "20 files decoded 0 cannot be decoded 0 of the test images are training images" in says
    assert "train │ 12 │" in says
    assert "not as published" in says


def test_what_is_wrong_is_printed(prepare: Prepare, market: Path) -> None:
    train = sorted((market / "bounding_box_train").iterdir())
    test = sorted((market / "bounding_box_test").iterdir())
    train[0].write_bytes(b"")
    train[1].write_bytes(train[1].read_bytes()[:300])
    shutil.copy(train[2], test[0])
    code, says = prepare("data=market1501", f"paths.data={market.parent}")
    assert code == 0
    assert "2 cannot be decoded" in says
    assert f"{train[0].name} is empty (0 bytes)" in says
    assert "1 of the test images are training images, byte for byte" in says
    assert f"{test[0]} = {train[2]}".replace(" ", "") in says.replace(" ", "")
    findings = inspect(Market1501(market))
    assert (findings.files, len(findings.unreadable)) == (20, 2)
    assert findings.leaks == ((train[2], test[0]),)


def test_counts_alone_look_into_no_file(prepare: Prepare, market: Path) -> None:
    for path in market.rglob("*.jpg"):
        path.write_bytes(b"")
    code, says = prepare("data=market1501", f"paths.data={market.parent}", "decode=false")
    assert code == 0
    assert "decoded" not in says


def test_several_data_sets(prepare: Prepare, market: Path) -> None:
    generate(market.parent, SyntheticSpec(num_train_ids=2, num_test_ids=2, num_cameras=2), "dukemtmc", progress=False)
    code, says = prepare("data=joint", "data.test=[dukemtmc,market1501]", f"paths.data={market.parent}", "decode=false")
    assert code == 0
    assert says.count("Market-1501 (official) in") == says.count("DukeMTMC-reID (official) in") == 1
    assert "withdrew DukeMTMC in June 2019" in says


def test_published_data_are_recognized(
    prepare: Prepare, market: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Market1501(market).counts()
    monkeypatch.setattr(Market1501, "published", {"official": counts})
    assert " as published" in prepare("data=market1501", f"paths.data={market.parent}", "decode=false")[1]
    other = {"official": counts | {"train": counts["train"]._replace(images=99)}, "small": counts}
    monkeypatch.setattr(Market1501, "published", other)
    says = prepare("data=market1501", f"paths.data={market.parent}", "decode=false")[1]
    assert "not as published: these are the counts of market1501 (small)" in says
    caplog.clear()
    Market1501(market)
    assert "They are the counts of market1501 (small)" in caplog.text


def test_the_synthetic_data_set_itself_is_drawn(prepare: Prepare, tmp_path: Path) -> None:
    code, says = prepare("data=synthetic", f"paths.data={tmp_path}", "action=synthesize", *SPEC)
    assert code == 0
    (folder,) = tmp_path.glob("synthetic-*")
    assert f"drawn in {folder}" in says
    spec = [option.replace("spec.", "data.spec.", 1) for option in SPEC]
    code, says = prepare("data=synthetic", f"paths.data={tmp_path}", *spec)
    assert code == 0
    assert "121 files in " in says
    assert ", 120 used 1 not used: no images (synthetic.json)" in says  # 60 images, a mask for each


@pytest.mark.parametrize("named", [True, False])
def test_extract(prepare: Prepare, market: Path, tmp_path: Path, named: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    archive = shutil.make_archive(str(root / "download"), "zip", market.parent, market.name)
    shutil.rmtree(market)
    where = ("data=market1501", f"paths.data={root}")
    assert "download.zip in that folder can be unpacked with" in prepare(*where)[1]
    code, says = prepare(*where, "action=extract", *([f"archive={archive}"] if named else []))
    assert code == 0
    assert f"unpacked to {root / market.name}" in says
    assert len(Market1501(root).train) == 12


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("data=market1501",), "Market-1501 was not found under"),
        (("action=download",), "action must be one of check, extract, synthesize; got 'download'."),
        (("action=extract",), "has no archive; it is empty"),
        (("action=extract", "data=joint"), "is for one data set at a time"),
        (("action=extract", "data=folder"), "Own images are in no archive"),
        (("action=extract", "data=synthetic"), "Synthetic people are in no archive"),
        (("action=synthesize", "data=folder"), "no synthetic people in the layout folder"),
        (("action=synthesize", "layout=painting"), "no synthetic people in the layout painting"),
    ],
)
def test_mistakes(prepare: Prepare, tmp_path: Path, overrides: tuple[str, ...], says: str) -> None:
    code, printed = prepare(f"paths.data={tmp_path}", *overrides)
    assert code == 2
    assert says in printed


def test_several_archives_must_be_chosen_from(prepare: Prepare, tmp_path: Path) -> None:
    for name in ("a.zip", "b.tar.gz"):
        (tmp_path / name).touch()
    code, says = prepare(f"paths.data={tmp_path}", "action=extract")
    assert code == 2
    assert "has 2 archives: a.zip, b.tar.gz. Name the one of Market-1501: archive=FILE." in says


def test_everything_odd_at_once_is_one_report(prepare: Prepare, tmp_path: Path) -> None:
    root = tmp_path / "own"
    (root / "pool").mkdir(parents=True)
    (root / "img").symlink_to(root / "pool")
    rng = np.random.default_rng(0)
    for name in "abcdefghijkl":
        Image.fromarray(rng.integers(0, 255, (32, 16, 3), dtype=np.uint8)).save(root / "pool" / f"{name}.png")
    shutil.copy(root / "pool" / "g.png", root / "pool" / "copy.png")
    (root / "pool" / "broken.png").write_bytes(b"\x89PNG")
    for name in ("photo.heic", "other.gif", "notes.txt"):
        (root / "pool" / name).write_bytes(b"x")
    rows = [
        "Path, PID ,camid,split", "img/a.png,7,1,train", "img/b.png, 07,1,train", "img/c.png,8 ,1 ,train",
        "img/g.png,100,1,query", "img/g.png,100,1,gallery", "img/h.png,100,,gallery", "img/h.png,100,,gallery",
        "img/copy.png,100,2,gallery", "img/i.png,-1,1,gallery", "img/broken.png,101,2,gallery", "img/photo.heic,101,1,gallery",
    ]  # fmt: skip
    (root / "people.csv").write_text("\r\n".join(rows) + "\r\n", encoding="utf-8-sig")
    code, says = prepare("data=folder", f"paths.data={root}")
    assert code == 0
    for part in (
        "train │ 3 │ 2 │ 1", "query │ 1 │ 1 │ 1", "gallery │ 4 │ 2 │ 2",
        "6 remarks on these data",
        "1 photo in a format that is not read. img/photo.heic",
        "1 image with pid -1, which stands for junk: neither right nor wrong. img/i.png",
        "1 row left out, which list an image of their split again. img/h.png",
        "1 pid written in several ways, counted as one number each. 07 = 7",
        "1 of 5 test images without a camid, to which the camera rule does not apply. img/h.png",
        "1 query image in the gallery too. pool/g.png",
        "1 cannot be decoded",
        "1 of the gallery images are a query, byte for byte",
    ):  # fmt: skip
        assert part in says, part
    last = says.partition(f"18 files in {root}, 7 used")[2]
    for part in (
        "2 not used: a format that is not read (pool/other.gif, pool/photo.heic)",
        "6 not used: images that no split lists (pool/d.png, pool/e.png, pool/f.png and 3 more)",
        "1 not used: junk (pid -1) (pool/i.png)",
        "2 not used: no images (pool/notes.txt, people.csv)",
    ):
        assert part in last, part


def test_every_backbone_of_the_configs_is_compared_those_that_build_on_others_too() -> None:
    backbones = _backbones()
    assert backbones["tiny_scratch"]["name"] == backbones["small_scratch"]["name"]
    assert all("name" in config for config in backbones.values())


def test_a_file_of_weights_is_told_with_the_backbones_that_it_fits_or_those_nearest(
    prepare: Prepare, tmp_path: Path
) -> None:
    tiny = {name: tensor.half() for name, tensor in timm.create_model("vit_tiny_patch16_224").state_dict().items()}
    torch.save(tiny, tmp_path / "tiny.pth")
    code, said = prepare(f"weights={tmp_path / 'tiny.pth'}")
    assert code == 0
    assert "a ViT of 12 blocks, 192 channels" in said
    assert said.endswith("for 256x128 images: model/backbone=vit_tiny pos_embed 14x14 to 16x8")
    without = {name: tensor for name, tensor in tiny.items() if ".11." not in name}
    torch.save(without, tmp_path / "eleven.pth")
    code, said = prepare(f"weights={tmp_path / 'eleven.pth'}")
    assert code == 0
    assert "the nearest: vit_tiny: 12 missing (such as blocks.11.attn.proj.bias)" in said
    assert said.count(" tensors") == 3


@pytest.mark.parametrize("content", ["a list of names", "no weights"])
def test_what_is_no_file_of_weights_is_told_in_words(prepare: Prepare, tmp_path: Path, content: str) -> None:
    (tmp_path / "notes.txt").write_text(content)
    code, says = prepare(f"weights={tmp_path}/notes.txt")
    assert code == 2
    assert "notes.txt cannot be read as weights. It must be a whole .safetensors or torch file" in says
