"""The catalog of bad input, from the command line: each case works as its user would expect, or ends with exit code 2 and
one message that says what is wrong, what was found and how to fix it. Never a traceback, never a silent fallback.

A case is one line: what is run, with what, and what the message must say. `{tmp}` is the case's own folder, `{data}` holds the
tiny synthetic people, `{ckpt}` is a good checkpoint.
"""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli_tools import TINY, TINY_DATA, read_json, run_cli

FAST = ("trainer.limit_train_batches=1", "callbacks.assignment=null")
PEOPLE = tuple(option for option in TINY if "data.spec" not in option)  # for data sets other than the synthetic one
FOLDER = ("data=folder", "paths.data={tmp}", "data.ids_per_batch=2", *FAST)
Run = Callable[..., tuple[int, str]]
Arrange = Callable[[Path], object]


@pytest.fixture
def run(tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Run:
    """Exit code and the text on stderr, spaces and line breaks made even."""

    def call(entry: str, *overrides: str) -> tuple[int, str]:
        names = {"tmp": tmp_path, "data": data_dir}
        if any("{ckpt}" in o for o in overrides):
            names["ckpt"] = request.getfixturevalue("trained") / "checkpoints" / "last.ckpt"
        filled = []
        for override in (f"paths.runs={tmp_path}/runs", f"paths.data={data_dir}", *overrides):
            for name, value in names.items():
                override = override.replace(f"{{{name}}}", str(value))
            filled.append(override)
        capsys.readouterr()
        handlers = list(logging.root.handlers)
        code = run_cli(entry, *filled)
        for handler in set(logging.root.handlers) - set(handlers):
            handler.close()
        logging.root.handlers[:] = handlers  # Hydra's write to this test's stdout, which later ones do not have
        out, err = capsys.readouterr()
        return code, f"{' '.join(err.split())} || {' '.join(out.split())}"

    return call


def refused(outcome: tuple[int, str], says: str, tmp_path: Path) -> None:
    code, printed = outcome
    assert code == 2, printed
    assert printed.replace("C error:", "").count("error:") == 1, "one message (pandas quotes its C parser's own)"
    assert says in printed
    assert "Traceback" not in printed
    assert "Error executing job" not in printed, "Hydra's line beside ours"
    assert not list(tmp_path.rglob("metrics.json")), "nothing that looks like a result"
    assert not list(tmp_path.rglob("*.tmp")), "nothing half-written"


CONFIGS: list[tuple[str, tuple[str, ...], str]] = [
    # keys and groups
    ("train", ("model.partz=[2]",), "unknown config key 'model.partz'"),
    ("train", ("data.batch_size=64",), "unknown config key 'data.batch_size'"),
    ("train", ("modle=aaformer",), "unknown config key 'modle'"),
    ("train", ("experiment=finetune_laptop", "model=vit_baseline"), "has no model/assigner, which"),
    ("train", ("experiment=finetune_laptop", "model=vit_baseline"), "for example ablation=vit_baseline"),
    ("train", ("recipe=pass", "model=transreid"), "model.descriptor=cls_mean is no option of TransReID"),
    ("train", ("recipe=pass", "model=pooled"), "recipe=pass is for model=aaformer"),
    ("train", ("+optim.optimizer.momentun=0.9",), "optim.optimizer.momentun=0.9 is no option of SGD"),
    ("train", ("+data.foo=1",), "data.foo=1 is no option of SyntheticDataModule"),
    ("train", ("data=marker1501",), "Did you mean data=market1501?"),
    ("train", ("trainer=nope",), "there is no trainer=nope. Options: auto, cpu, ddp"),
    ("train", ("data=null",), "a config group that is needed was set to null"),
    ("train", ("data.root=${nothing}",), "data.root: interpolation key 'nothing' not found"),
    ("train", ("seed=[1",), "seed=[1 cannot be read: no viable alternative at input '[1'"),
    ("train", ("model.parts=2,3",), "Ambiguous value for argument 'model.parts=2,3'"),
    ("evaluate", (), "ckpt is needed and was not given: add ckpt=VALUE"),
    # types
    ("train", ("seed=abc",), "seed=abc must be a whole number"),
    ("train", ("flip_test=maybe",), "flip_test=maybe must be true or false"),
    ("train", ("trainer.max_epochs=many",), "trainer.max_epochs=many must be a whole number or null"),
    ("train", ("data.ids_per_batch=sixteen",), "data.ids_per_batch=sixteen must be a whole number"),
    ("train", ("data.images_per_id=2.5",), "data.images_per_id=2.5 must be a whole number"),
    ("train", ("data.image_size=256",), "data.image_size=256 must be a list, each entry a whole number"),
    ("train", ("data.cache=perhaps",), "data.cache=perhaps must be true or false"),
    ("train", ("data.mask_parts=head",), "data.mask_parts=head must be a mapping"),
    ("train", ("data.transforms.flip=often",), "data.transforms.flip=often must be a number"),
    ("train", ("model.parts=3",), "model.parts=3 must be a list"),
    ("train", ("model.parts=[two]",), "model.parts=['two'] must be a list, each entry a whole number"),
    ("train", ("model.parts=null",), "model.parts=null must be a list"),
    ("train", ("model.assigner.epsilon=small",), "model.assigner.epsilon=small must be a number"),
    ("train", ("model.assigner.iterations=1.5",), "model.assigner.iterations=1.5 must be a whole number"),
    ("train", ("loss.margin=wide",), "loss.margin=wide must be a number or null"),
    ("train", ("optim.optimizer.lr=fast",), "optim.optimizer.lr=fast must be a number"),
    ("train", ("optim.freeze=blocks.0.",), "optim.freeze=blocks.0. must be a list"),
    ("train", ("trainer.precision=7",), "trainer.precision=7 must be one of 64, 32, 16"),
    # values
    ("train", ("seed=-1",), "seed=-1 is too small. Use 0 or more"),
    ("train", ("callbacks.stability.images=0",), "callbacks.stability.images=0 is too small. Use 1 or more"),
    ("train", ("callbacks.probe.every_n_epochs=0",), "callbacks.probe.every_n_epochs=0 is too small"),
    ("train", ("seed=4294967296",), "seed=4294967296 is too large. Use 4294967295 or less"),
    ("train", ("pictures=[portrait]",), "there is no picture kind=portrait. Kinds: assignment, cut_off, layers"),
    ("train", ("place_loss=stripes", "model=vit_baseline"), "teaches part tokens, which ViTBaseline does not have"),
    ("train", ("ablation=placed_soft", "model.follow_body=2"), "model.follow_body needs the place loss"),
    ("train", ("model.follow_body=2",), "Sinkhorn has no cost of place"),
    ("train", ("loss.part_warmup=-1",), "part_warmup is a number of epochs, 0 or more; got -1"),
    ("train", ("resume=maybe",), "resume=maybe is unknown. Use auto or null"),
    ("train", ("model.parts=[]",), "parts must be a list of positive granularities such as [2,3]; got []"),
    ("train", ("model.parts=[0]",), "parts must be a list of positive granularities such as [2,3]; got [0]"),
    ("train", ("model.parts=[33]",), "asks for 33 parts of 32 patches (grid 8x4). Use at most 32"),
    ("train", ("model/assigner=stripes", "model.parts=[9]"), "has 8 rows; cannot cut 9 stripes. Use parts of at most 8"),
    ("train", ("model.assigner.epsilon=-1",), "needs epsilon > 0 and iterations >= 0; got epsilon=-1"),
    ("train", ("model/assigner=gumbel", "model.assigner.temperature=0"), "temperature must be positive; got 0"),
    ("train", ("model.backbone.num_heads=7",), "dim should be divisible by num_heads"),
    ("train", ("model.backbone.depth=0",), "is not a plain ViT"),
    ("train", ("model.backbone.stride=0",), "stride must be a whole number between 1 and the patch size 8; got 0"),
    ("train", ("model.backbone.drop_path=2",), "drop_path=2 is the share of paths dropped. Use 0 or more, below 1"),
    ("train", ("model.backbone.name=resnet50",), "'resnet50' is not a plain ViT of timm"),
    ("train", ("model.backbone.weights=absent.pth",), "no weights at absent.pth"),
    ("train", ("data.ids_per_batch=9",), "has 8 ids, fewer than data.ids_per_batch=9"),
    ("train", ("data.images_per_id=1",), "the triplet loss needs positives. Use at least 2"),
    ("train", ("data.image_size=[0,32]",), "must be [height, width] in pixels"),
    ("train", ("data.image_size=[8192,8192]",), "is too large: up to 2048 pixels a side"),
    ("train", ("data.num_workers=-1",), "data.num_workers=-1 is too small. Use 0 or more"),
    ("train", ("data.eval_batch_size=0",), "data.eval_batch_size=0 is too small. Use 1 or more"),
    ("train", ("data.val_ids=1.5",), "data.val_ids=1.5 is a share of the training ids"),
    ("train", ("data.spec.images_per_camera=1",), "images_per_camera=1 would have no gallery"),
    ("train", ("data.spec.num_cameras=1",), "none of the 4 query images has a match in the gallery"),
    ("train", ("data.mask_parts={head: [1], torso: [1]}",), "label 1 is in both head and torso"),
    ("train", ("model/assigner=parsing", "model.parts=[6]", "data.masks=null"), "needs the body-part mask of every image"),
    ("train", ("model/assigner=parsing", "model.parts=[2,3]"), "are not the 6 body parts of data.mask_parts"),
    ("train", ("loss.label_smoothing=1.5",), "label_smoothing must be in [0, 1); got 1.5"),
    ("train", ("loss.id_weight=-1",), "weights of the losses must be 0 or more; got id_weight=-1"),
    ("train", ("optim.optimizer.lr=-1",), "optim.optimizer does not work: Invalid learning rate: -1"),
    ("train", ("optim.layer_decay=0",), "layer_decay must be in (0, 1]; got 0"),
    ("train", ("optim.freeze=[nothing]",), "names nothing of the backbone"),
    ("train", ("trainer.accumulate_grad_batches=0",), "trainer.accumulate_grad_batches=0 is too small. Use 1 or more"),
    ("train", ("trainer.max_epochs=null",), "leaves the schedule of the learning rate without an end"),
    ("train", ("trainer.max_epochs=-1",), "trainer.max_epochs=-1 is too small"),
    ("train", ("trainer.devices=0",), "trainer cannot be built: `Trainer(devices=0)` value is not a valid input"),
    ("train", ("trainer.strategy=nope",), "trainer cannot be built: You selected an invalid strategy name"),
    ("search", ("gallery=g", "query=q", "count=0"), "count=0 is too small. Use 1 or more"),
    ("search", ("gallery=g", "query=q", "data.num_workers=-1"), "data.num_workers=-1 is too small. Use 0 or more"),
    ("visualize", ("ckpt=c", "answers=-1"), "answers=-1 is too small. Use 1 or more"),
    ("visualize", ("ckpt=c", "count=null"), "count=null leaves nothing to go by"),
    ("visualize", ("ckpt=c", "kind=[]"), "kind=[] draws nothing. Kinds: assignment,"),
    ("report", ("runs=null",), "runs=null leaves nothing to go by"),
    ("report", ("formats=null",), "formats=null leaves nothing to go by"),
    ("compare", ("ckpt=c", "speed.batch=null"), "speed.batch=null leaves nothing to go by"),
    ("compare", ("ckpt=c", "speed.batch=0"), "speed.batch=0 is too small. Use 1 or more"),
    ("evaluate", ("ckpt=c", "stability=-2"), "stability=-2 is too small. Use 0 or more"),
    ("report", ("runs=/nonexistent",), "there is no folder /nonexistent"),
    ("report", ("runs={tmp}",), "there is no training in "),
    ("report", ("formats=[xls]", "runs={tmp}"), "formats must be one of txt, md, tex, html, csv, png; got 'xls'"),
    ("report", ("formats=3", "runs={tmp}"), "formats must be one of txt, md, tex, html, csv, png; got 3"),
    ("report", ("runs=2024",), "runs=2024 is a number to Hydra. Write a file or folder of that name as ./2024"),
    ("train", ("paths.data=2024",), "data.root=2024 is a number to Hydra"),
    ("evaluate", ("ckpt=2024",), "ckpt=2024 is a number to Hydra"),
    ("visualize", ("ckpt=synthetic-small", "images=[a.jpg,2024]"), "images=2024 is a number to Hydra"),
    ("search", ("gallery=g", "query=2024"), "query=2024 is a number to Hydra"),
    ("search", ("gallery=g", "query=q", "formats=3"), "there is no formats=3. Use some of png, json, html"),
    ("visualize", ("ckpt=synthetic-small", "kind=3"), "there is no picture kind=3"),
    ("compare", ("ckpt=null", "data=synthetic"), "no model is given"),
    ("benchmark", ("suite=null",), "suite=null leaves nothing to go by"),
    ("prepare", ("data=cuhk03", "data.protocol=both"), "data.protocol=both must be one of labeled, detected"),
    ("prepare", ("data=joint", "data.train=[]"), "data.train=[] must be a list of data sets"),
    # places
    ("train", ("paths.runs=/dev/null",), "cannot be used: Not a directory"),
    ("train", ("ckpt_path=absent.ckpt",), "no checkpoint at absent.ckpt"),
    ("train", ("ckpt_path={tmp}",), "no checkpoint at"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "overrides", "says"), CONFIGS, ids=[" ".join(case[1]) or case[0] for case in CONFIGS]
)
def test_configs(run: Run, tmp_path: Path, entry: str, overrides: tuple[str, ...], says: str) -> None:
    refused(run(entry, *(TINY if entry == "train" else ()), *overrides), says, tmp_path)


MISSPELLED = [
    ("model.similarity=cosin", "model.similarity=cosin must be one of cosine, dot, scaled"),
    ("model.visibility=foo", "model.visibility=foo must be one of mutual, isolated"),
    ("model.assigner.rounding=up", "model.assigner.rounding=up must be one of argmax, balanced, soft"),
    ("model.neck_feature=middle", "model.neck_feature=middle must be one of after, before"),
    ("part_start=middle", "part_start must be one of normal, cls, stripes, kmeans; got 'middle'"),
    ("data.transforms.erase_fill=gray", "must be one of random, mean"),
    ("data.on_bad_image=drop", "must be one of error, skip"),
]


@pytest.mark.parametrize(("override", "says"), MISSPELLED, ids=[override for override, _ in MISSPELLED])
def test_a_misspelled_choice_is_told_before_the_data_are_looked_for(
    run: Run, tmp_path: Path, override: str, says: str
) -> None:
    """There are no data here, and no message says so."""
    refused(run("train", "data=market1501", "paths.data={tmp}", "trainer=cpu", override), says, tmp_path)


RNG = np.random.default_rng(0)


def photo(width: int = 24, height: int = 48) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (6, 3, 3), np.uint8)).resize((width, height))


def encoded(image: Image.Image, kind: str = "JPEG", **how: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(photo(), exif=exif)


def deep() -> bytes:
    return encoded(Image.fromarray(RNG.integers(0, 1 << 16, (48, 24)).astype(np.uint16)), "PNG")


def people(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    """Two people to train on, two to test; `files` go into the training folders or replace what is there."""
    for split, who in (("train", ("ann", "bob")), ("query", ("cat", "dan")), ("gallery", ("cat", "dan"))):
        for name in who:
            for number in range(2):
                path = folder / split / name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(photo()))
    for name, content in (files or {}).items():
        path = folder / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


GOOD_FILES: dict[str, bytes] = {
    "CMYK.jpg": encoded(photo().convert("CMYK")),
    "gray.jpg": encoded(photo().convert("L")),
    "16 bit.png": deep(),
    "RGBA.png": encoded(photo().convert("RGBA"), "PNG"),
    "palette.png": encoded(photo().convert("P"), "PNG"),
    "one bit.png": encoded(photo().convert("1"), "PNG"),
    "animated.webp": encoded(photo(), "WEBP", save_all=True, append_images=[photo(), photo()]),
    "EXIF-rotated.jpg": rotated(),
    "wrong extension.jpg": encoded(photo(), "PNG"),
    "UPPER.JPG": encoded(photo()),
    "a name with spaces.jpg": encoded(photo()),
    "имя-名前-é.jpg": encoded(photo()),
    "[brackets] {braces}=1,2.jpg": encoded(photo()),
    "one pixel.png": encoded(photo(1, 1), "PNG"),
    "wide.png": encoded(photo(400, 2), "PNG"),
}


def test_strange_but_good_files_are_trained_on(run: Run, tmp_path: Path) -> None:
    people(tmp_path, {f"{who}/{name}": content for who in ("ann", "bob") for name, content in GOOD_FILES.items()})
    link = tmp_path / "train" / "ann" / "link.jpg"
    link.symlink_to("0.jpg")
    code, printed = run("train", *PEOPLE, *FOLDER, "data.images_per_id=18")
    assert code == 0, printed
    (metadata,) = tmp_path.rglob("metadata.json")
    assert read_json(metadata)["data"]["counts"]["train"]["images"] == 2 * (2 + len(GOOD_FILES)) + 1


def bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND\xaeB`\x82"


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def unreadable(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    path.chmod(0)


BAD_FILES: list[tuple[str, bytes | Arrange, str]] = [
    ("empty", b"", "is empty (0 bytes)"),
    ("half", encoded(photo())[:500], "cannot be decoded"),
    ("html", b"<html>404 not found</html>", "is no image"),
    ("animated GIF", encoded(photo().convert("P"), "GIF", save_all=True, append_images=[photo().convert("P")]), "is no image"),
    ("huge dimensions", bomb(), "claims 60000 x 60000 pixels"),
    ("floats", encoded(photo().convert("F"), "TIFF"), "holds floating-point values"),
    ("symlink loop", loop, "cannot be read: Too many levels of symbolic links"),
    ("dangling link", lambda path: (path.unlink(), path.symlink_to("nowhere")), "cannot be read: No such file"),
    ("folder named like an image", folder, "cannot be read: Is a directory"),
    ("unreadable", unreadable, "cannot be read: Permission denied"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "says"), [case[1:] for case in BAD_FILES], ids=[case[0] for case in BAD_FILES])
def test_files(run: Run, tmp_path: Path, make: bytes | Arrange, says: str) -> None:
    path = people(tmp_path) / "train" / "ann" / "0.jpg"
    path.write_bytes(make) if isinstance(make, bytes) else make(path)
    outcome = run("train", *PEOPLE, *FOLDER)
    refused(outcome, says, tmp_path)
    assert str(path) in outcome[1]
    assert "data.on_bad_image=skip" in outcome[1] or "Convert it" in outcome[1]


def test_a_damaged_jpeg_is_named_by_prepare(run: Run, tmp_path: Path) -> None:
    """It decodes, so training takes it; libjpeg's warning is all there is to know it by."""
    people(tmp_path)
    noise = Image.fromarray(RNG.integers(0, 256, (96, 48, 3), np.uint8))
    content = bytearray(encoded(noise, quality=90))
    middle = len(content) // 2
    del content[middle : middle + 200]  # a lost piece: the decoder runs out of data
    path = tmp_path / "gallery" / "cat" / "0.jpg"
    path.write_bytes(content)
    code, printed = run("prepare", "data=folder", "paths.data={tmp}")
    assert code == 0
    assert "0 cannot be decoded" in printed
    assert "1 decode with damaged pixels" in printed
    assert f"{path}: Corrupt JPEG data" in printed


def market(root: Path) -> Path:
    """Market-1501's layout: two people to train on, two to test."""
    top = root / "Market-1501-v15.09.15"
    names = {
        "bounding_box_train": [f"{pid:04d}_c{cam}s1_000001_00.jpg" for pid in (1, 2) for cam in (1, 2)],
        "query": ["0003_c1s1_000001_00.jpg", "0004_c1s1_000001_00.jpg"],
        "bounding_box_test": [f"{pid:04d}_c2s1_000001_00.jpg" for pid in (3, 4)],
    }
    for split, files in names.items():
        for name in files:
            path = top / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(photo()))
    return top


def msmt(root: Path) -> Path:
    top = root / "MSMT17_V1"
    lines = {"train": [], "val": [], "query": [], "gallery": []}
    for split, lists in (("train", ("train", "val")), ("test", ("query", "gallery"))):
        for pid in (0, 1):
            for number, name in enumerate(lists):
                image = f"{pid:04d}/{pid:04d}_00{number}_0{number + 1}_0303morning_0001_0.jpg"
                (top / split / image).parent.mkdir(parents=True, exist_ok=True)
                (top / split / image).write_bytes(encoded(photo()))
                lines[name].append(f"{image} {pid}")
    for name, content in lines.items():
        (top / f"list_{name}.txt").write_text("\n".join(content) + "\n")
    return top


def table(root: Path, text: str | bytes) -> None:
    people(root)
    for split in ("query", "gallery"):
        shutil.rmtree(root / split)
    path = root / "people.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (root / "train").rename(root / "img")


def replaced(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def one_camera(root: Path) -> None:
    for path in (market(root) / "bounding_box_test").iterdir():
        path.rename(path.with_name(path.name.replace("_c2", "_c1")))


def broken_mat(root: Path) -> None:
    (root / "cuhk03").mkdir()
    for name in ("cuhk-03.mat", "cuhk03_new_protocol_config_labeled.mat"):
        (root / "cuhk03" / name).write_bytes(b"MATLAB")


def lists_alone(root: Path) -> None:
    (root / "Occluded_Duke").mkdir()
    for split in ("train", "query", "gallery"):
        (root / "Occluded_Duke" / f"{split}.list").write_text("0001_c1_f0000001.jpg\n")


DATASETS: list[tuple[str, str, Arrange, str]] = [
    ("missing folder", "market1501", lambda root: None, "Market-1501 was not found under paths.data="),
    ("missing root", "market1501", lambda root: root.rmdir(), "does not exist"),
    ("a file as root", "market1501", lambda root: (root.rmdir(), root.write_text("x")), "cannot be listed"),
    ("half a data set", "market1501", lambda root: shutil.rmtree(market(root) / "query"), "but lacks query/"),
    (
        "an archive only",
        "market1501",
        lambda root: (root / "m.zip").touch(),
        "can be unpacked with: python -m aaformer_lit.prepare",
    ),
    (
        "empty train",
        "market1501",
        lambda root: emptied(market(root) / "bounding_box_train"),
        "the training split has 0 ids",
    ),
    ("empty query", "market1501", lambda root: emptied(market(root) / "query"), "has no query images"),
    ("empty gallery", "market1501", lambda root: emptied(market(root) / "bounding_box_test"), "has no gallery images"),
    (
        "names of another data set",
        "dukemtmc",
        lambda root: market(root).rename(root / "DukeMTMC-reID"),
        "Those are names of Market-1501: use data=market1501",
    ),
    ("queries without a match", "market1501", one_camera, "none of the 2 query images has a match"),
    (
        "broken list file",
        "msmt17",
        lambda root: replaced(msmt(root) / "list_query.txt", ".jpg 0", ".jpg zero"),
        "1 of 2 lines of list_query.txt",
    ),
    (
        "list file of another person",
        "msmt17",
        lambda root: replaced(msmt(root) / "list_train.txt", ".jpg 1", ".jpg 7"),
        "do not have the form",
    ),
    (
        "list file in another encoding",
        "msmt17",
        lambda root: (msmt(root) / "list_val.txt").write_bytes(b"\xff\xfe\x000\x000"),
        "list_val.txt",
    ),
    (
        "listed image not there",
        "msmt17",
        lambda root: next((msmt(root) / "test" / "0000").iterdir()).unlink(),
        "are not in",
    ),
    ("no list file", "msmt17", lambda root: (msmt(root) / "list_val.txt").unlink(), "but lacks list_val.txt"),
    ("broken .mat", "cuhk03", broken_mat, "is no protocol file of CUHK03-NP"),
    ("list names an absent image", "occluded_duke", lists_alone, "DukeMTMC-reID was not found"),
    (
        "CSV without columns",
        "folder",
        lambda root: table(root, "file,person\nimg/ann/0.jpg,ann\n"),
        "has no column path, pid, split",
    ),
    ("CSV without rows", "folder", lambda root: table(root, "path,pid,split\n"), "the training split has 0 ids"),
    ("empty CSV", "folder", lambda root: table(root, ""), "cannot be read as a table"),
    (
        "CSV in another encoding",
        "folder",
        lambda root: table(root, b"path,pid,split\nimg/ann/0.jpg,\xe9\xff,train\n"),
        "cannot be read as a table",
    ),
    ("CSV without a pid", "folder", lambda root: table(root, "path,pid,split\nimg/ann/0.jpg,,train\n"), "row 1 of"),
    (
        "CSV with an unknown split",
        "folder",
        lambda root: table(root, "path,pid,split\nimg/ann/0.jpg,1,test\n"),
        "split 'test'",
    ),
    (
        "CSV naming an absent image",
        "folder",
        lambda root: table(root, "path,pid,split\nimg/ann/9.jpg,1,train\n"),
        "1 of 1 listed images do not exist",
    ),
    (
        "CSV with a broken quote",
        "folder",
        lambda root: table(root, 'path,pid,split\n"img/ann/0.jpg,1,train\n'),
        "cannot be read as a table",
    ),
    ("query without gallery", "folder", lambda root: shutil.rmtree(people(root) / "gallery"), "has no gallery images"),
    (
        "images outside of person folders",
        "folder",
        lambda root: ((root / "train").mkdir(), (root / "train" / "a.jpg").write_bytes(b"x")),
        "not following a folder per person",
    ),
    (
        "one image per person",
        "folder",
        lambda root: [p.unlink() for p in people(root).glob("train/*/1.jpg")],
        "has two images",
    ),
]


@pytest.mark.parametrize(("data", "arrange", "says"), [c[1:] for c in DATASETS], ids=[c[0] for c in DATASETS])
def test_datasets(run: Run, tmp_path: Path, data: str, arrange: Arrange, says: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    arrange(root)
    refused(run("train", *PEOPLE, f"data={data}", f"paths.data={root}", "data.ids_per_batch=2", *FAST), says, tmp_path)


def test_counts_that_are_off_are_said_and_used(run: Run, tmp_path: Path) -> None:
    market(tmp_path)
    code, _ = run("train", *PEOPLE, "data=market1501", "paths.data={tmp}", "data.ids_per_batch=2", *FAST)
    assert code == 0
    (log,) = tmp_path.rglob("train.log")
    assert "is not as published" in log.read_text()
    assert "train   4 images, 2 ids, 2 cameras; published 12,936 images" in log.read_text()
    (metadata,) = tmp_path.rglob("metadata.json")
    assert read_json(metadata)["data"]["as_published"] is False


@pytest.mark.parametrize("level", ["", "Market-1501-v15.09.15", "Market-1501-v15.09.15/query", ".."])
def test_a_root_of_the_wrong_level_is_found(run: Run, tmp_path: Path, level: str) -> None:
    market(tmp_path / "root")
    code, printed = run(
        "prepare", "data=market1501", f"paths.data={(tmp_path / 'root' / level).resolve()}", "decode=false"
    )
    assert code == 0, printed


def rewritten(change: Callable[[dict], object]) -> Callable[[Path, Path], object]:
    def write(good: Path, bad: Path) -> None:
        content = torch.load(good, weights_only=True)
        change(content)
        torch.save(content, bad)

    return write


class Harmless:
    """A pickle with code in it: opening it would make a folder."""

    def __reduce__(self):
        return os.mkdir, (os.environ["AAFORMER_TEST_EVIL"],)


def exported(bad: Path, config: object, weights: bytes | None) -> None:
    bad.mkdir()
    (bad / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights is not None:
        (bad / "model.safetensors").write_bytes(weights)


ABOUT = {
    "format": 1,
    "num_classes": 2,
    "model": {
        "_target_": "aaformer_lit.models.ViTBaseline",
        "backbone": "vit_tiny_patch16_224",
        "image_size": [32, 32],
    },
    "data": {"image_size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3},
}
CHECKPOINTS: list[tuple[str, Callable[[Path, Path], object], str]] = [
    ("absent", lambda good, bad: None, "no checkpoint at"),
    ("empty", lambda good, bad: bad.touch(), "cannot be read as a checkpoint"),
    ("truncated", lambda good, bad: bad.write_bytes(good.read_bytes()[:-500]), "It is truncated"),
    ("text", lambda good, bad: bad.write_text("not a checkpoint"), "not a checkpoint"),
    ("a picture", lambda good, bad: bad.write_bytes(encoded(photo())), "not a checkpoint"),
    ("a tensor", lambda good, bad: torch.save(torch.zeros(3), bad), "is not a checkpoint of aaformer_lit"),
    (
        "bare weights",
        lambda good, bad: torch.save({"state_dict": {}}, bad),
        "Pre-trained backbones are given as model.backbone.weights=",
    ),
    (
        "pickle with code",
        lambda good, bad: torch.save({"state_dict": Harmless()}, bad),
        "needs code to load, which is refused",
    ),
    (
        "newer",
        rewritten(lambda c: c["aaformer_lit"].update(format=99)),
        "has format 99, newer than this version reads (1). Update aaformer_lit",
    ),
    (
        "format as text",
        rewritten(lambda c: c["aaformer_lit"].update(format="one")),
        "does not say which model it holds",
    ),
    ("no description", rewritten(lambda c: c.update(aaformer_lit=None)), "does not say which model it holds"),
    (
        "of another model",
        rewritten(lambda c: c["aaformer_lit"]["model"].update(parts=[6])),
        "does not fit the model it names",
    ),
    (
        "a class that is not ours",
        rewritten(
            lambda c: c["aaformer_lit"].update(model={"_target_": "os.mkdir", "path": os.environ["AAFORMER_TEST_EVIL"]})
        ),
        "which is not a network of aaformer_lit. Refused",
    ),
    (
        "a model without a class",
        rewritten(lambda c: c["aaformer_lit"].update(model={"parts": [2]})),
        "does not name a network",
    ),
    (
        "a model with unknown arguments",
        rewritten(lambda c: c["aaformer_lit"]["model"].update(color="red")),
        "cannot build the network it names",
    ),
    (
        "without image size",
        rewritten(lambda c: c["aaformer_lit"].update(data={})),
        "does not say how images are prepared",
    ),
    ("an empty folder", lambda good, bad: bad.mkdir(), "is no run with a checkpoint (checkpoints/last.ckpt"),
    (
        "a folder with broken config",
        lambda good, bad: exported(bad, "{", None),
        "is no exported model: config.json cannot be read",
    ),
    ("a folder with a list as config", lambda good, bad: exported(bad, [1], None), "config.json"),
    ("a folder without weights", lambda good, bad: exported(bad, ABOUT, None), "model.safetensors cannot be read"),
    (
        "a folder with broken weights",
        lambda good, bad: exported(bad, ABOUT, b"\xff" * 100),
        "model.safetensors cannot be read",
    ),
]


@pytest.mark.parametrize(("make", "says"), [c[1:] for c in CHECKPOINTS], ids=[c[0] for c in CHECKPOINTS])
def test_checkpoints(
    run: Run,
    tmp_path: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, Path], object],
    says: str,
) -> None:
    evil = tmp_path / "evil"
    monkeypatch.setenv("AAFORMER_TEST_EVIL", str(evil))
    bad = tmp_path / "bad.ckpt"
    make(trained / "checkpoints" / "last.ckpt", bad)
    refused(run("evaluate", f"ckpt={bad}", *TINY_DATA, "trainer=cpu"), says, tmp_path)
    assert not evil.exists(), "code from a file was run"


def test_a_checkpoint_of_another_model_is_not_continued(run: Run, tmp_path: Path) -> None:
    outcome = run("train", *TINY, "ckpt_path={ckpt}", "model.parts=[2]", "trainer.max_epochs=2")
    refused(outcome, "the checkpoint is of another model: ", tmp_path)


def test_there_are_enough_cases() -> None:
    assert len(CONFIGS) + len(GOOD_FILES) + len(BAD_FILES) + len(DATASETS) + len(CHECKPOINTS) >= 60
