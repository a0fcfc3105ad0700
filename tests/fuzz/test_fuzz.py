# ruff: noqa: PT017 (an example may pass or raise)
"""Whatever bytes, text or settings come in: a result of the promised kind or one of our errors, never another exception.

A few examples of each in CI; `make fuzz` runs many (AAFORMER_FUZZ is the number of examples).
"""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from aaformer_lit.checkpoints.load import read_checkpoint
from aaformer_lit.cli.check import check_config
from aaformer_lit.cli.messages import user_message
from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.data.archives import unpack
from aaformer_lit.data.dataset import DATASETS, SPLITS
from aaformer_lit.data.datasets.folder import FolderDataset, read_table
from aaformer_lit.data.datasets.msmt17 import MSMT17
from aaformer_lit.data.datasets.occluded_duke import OccludedDuke
from aaformer_lit.data.images import decode, peek
from aaformer_lit.errors import AAformerError, CheckpointError, ConfigError, ImageError, ProtocolError

EXAMPLES = int(os.environ.get("AAFORMER_FUZZ", "40"))
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)  # fmt: skip
CELLS = st.one_of(
    st.sampled_from(["img/a.jpg", "img/b.jpg", "ann", "1", "007", "-1", "", "train", "query", "gallery", "../../etc/passwd"]),
    st.text(max_size=12), st.integers().map(str), st.text("x", min_size=300, max_size=400),
)  # fmt: skip
LINE_NAME = "0000_001_02_0303morning_0001_0.jpg"


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """The bytes with pieces overwritten, taken out, repeated or cut off."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 60))
        kind = draw(st.sampled_from(["overwrite", "remove", "repeat", "cut"]))
        if kind == "overwrite":
            data[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "remove":
            del data[at : at + length]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        else:
            del data[at:]
    return bytes(data)


def encoded(kind: str, mode: str = "RGB", **how: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **how)
    return stream.getvalue()


PICTURES = [encoded("JPEG"), encoded("JPEG", progressive=True), encoded("PNG"), encoded("PNG", "P"), encoded("WEBP"),
            encoded("BMP"), encoded("TIFF"), encoded("PPM")]  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of what it refuses a moment later
@fuzz
@given(data=st.data())
def test_pictures(data: st.DataObject) -> None:
    content = data.draw(st.one_of(st.binary(max_size=200), *(damaged(good) for good in PICTURES)))
    header = peek(content)
    assert header is None or (header.width >= 0 and header.height >= 0)
    try:
        pixels = decode(content, Path("person.jpg"), max_pixels=10_000)
    except ImageError as error:
        assert "person.jpg" in str(error)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert 0 < pixels.shape[0] * pixels.shape[1] <= 10_000


@pytest.mark.parametrize("name", sorted(DATASETS))
@fuzz
@given(text=st.one_of(st.text(), st.text("0123456789_csf.jpng-/\\\n", max_size=40)))
def test_file_names(name: str, text: str) -> None:
    parsed = DATASETS[name].parse(text)
    pattern = getattr(DATASETS[name], "pattern", None)
    unknown = 0 if pattern is None or "camid" in pattern.groupindex else -1
    assert parsed is None or (parsed[0] >= -1 and parsed[1] >= unknown and "/" not in text and "\n" not in text)


def pictured(folder: Path) -> Path:
    for name in ("a", "b"):
        (folder / "img").mkdir(exist_ok=True)
        (folder / "img" / f"{name}.jpg").touch()
    return folder


@fuzz
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=5),
    columns=st.permutations(["path", "pid", "camid", "split"]),
    kind=st.sampled_from(["csv", "parquet"]),
)  # fmt: skip
def test_tables(tmp_path: Path, rows: list[tuple[str, ...]], columns: list[str], kind: str) -> None:
    path = pictured(tmp_path) / f"people.{kind}"
    frame = pd.DataFrame(rows, columns=columns, dtype=str)
    try:
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    except (UnicodeEncodeError, ValueError):
        return  # half a surrogate pair is no text
    try:
        dataset = FolderDataset(tmp_path, table=path.name)
    except AAformerError:
        return
    # what passes is what was written: as many images in each split, all of them there
    for split in SPLITS:
        records = getattr(dataset, split)
        assert len(records) == sum(dict(zip(columns, row, strict=True))["split"] == split for row in rows)
        assert all(record.path.exists() and record.camid >= -1 for record in records)


@fuzz
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=80).map(lambda t: t.encode("utf-8", "replace"))))
def test_tables_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    for kind in ("csv", "parquet"):
        (tmp_path / f"people.{kind}").write_bytes(content)
        try:
            rows = read_table(tmp_path / f"people.{kind}", lambda *_: None)
        except ProtocolError as error:
            assert "people" in str(error)
        else:
            assert all(row.split in SPLITS for row in rows)


LINES = st.one_of(
    st.just(f"0000/{LINE_NAME} 0"), st.just(f"0001/{LINE_NAME.replace('0000', '0001', 1)} 1"),
    st.text(max_size=30), st.just(f"../{LINE_NAME} 0"), st.just(f"0000/{LINE_NAME} 1"),
)  # fmt: skip


@fuzz
@given(
    lists=st.tuples(*[st.one_of(st.lists(LINES, max_size=3).map("\n".join).map(str.encode), st.binary(max_size=30))] * 4)
    .filter(lambda four: all(four))
)  # fmt: skip
def test_msmt17_lists(tmp_path: Path, lists: tuple[bytes, ...]) -> None:
    folder = tmp_path / "MSMT17_V1"
    for split in ("train", "test"):
        for pid in ("0000", "0001"):
            (folder / split / pid).mkdir(parents=True, exist_ok=True)
            (folder / split / pid / LINE_NAME.replace("0000", pid, 1)).touch()
    for name, content in zip(MSMT17.lists, lists, strict=True):
        (folder / name).write_bytes(content)
    try:
        dataset = MSMT17(tmp_path)
    except AAformerError:
        return
    for record in [*dataset.train, *dataset.query, *dataset.gallery]:
        assert record.path.exists()
        assert record.path.parent.name == f"{record.pid:04d}"


@fuzz
@given(content=st.binary(max_size=60))
def test_occluded_duke_lists(tmp_path: Path, content: bytes) -> None:
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / "DukeMTMC-reID" / split).mkdir(parents=True, exist_ok=True)
    (tmp_path / "DukeMTMC-reID" / "query" / "0001_c1_f0000001.jpg").touch()
    (tmp_path / "Occluded_Duke").mkdir(exist_ok=True)
    for name in OccludedDuke.lists.values():
        (tmp_path / "Occluded_Duke" / name).write_bytes(b"0001_c1_f0000001.jpg\n" + content)
    try:
        dataset = OccludedDuke(tmp_path)
    except AAformerError:
        return
    assert [r.pid for r in dataset.query] == [1]


@fuzz
@given(
    names=st.lists(
        st.one_of(
            st.text(min_size=1, max_size=20), st.sampled_from(["../x", "/x", "a/../../x", "C:\\x", "a/b", "\0", "a\0b"])
        ),
        max_size=4,
    )
)
def test_archives_stay_in_their_folder(tmp_path: Path, names: list[str]) -> None:
    room = Path(tempfile.mkdtemp(dir=tmp_path))
    archive, target = room / "a.zip", room / "deep" / "target"
    target.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        for name in dict.fromkeys(names):
            info = zipfile.ZipInfo("replaced")
            info.filename = name  # the constructor would cut it at a NUL
            file.writestr(info, b"content")
    try:
        unpack(archive, target, "unpacked")
    except AAformerError:
        assert not list(target.iterdir()), "all or nothing"
    outside = {path for path in room.rglob("*") if not path.is_relative_to(target)}
    assert outside == {archive, room / "deep"}


@fuzz
@given(data=st.data())
def test_checkpoints(tmp_path: Path, data: st.DataObject) -> None:
    stream = io.BytesIO()
    torch.save(
        {"state_dict": {"a": torch.zeros(3)}, "aaformer_lit": {"format": 1, "model": {}, "num_classes": 2}}, stream
    )
    (tmp_path / "x.ckpt").write_bytes(data.draw(st.one_of(st.binary(max_size=80), damaged(stream.getvalue()))))
    try:
        content = read_checkpoint(tmp_path / "x.ckpt")
    except CheckpointError as error:
        assert "x.ckpt" in str(error)
    else:
        assert "state_dict" in content


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", ["run_dir=RUN", *overrides])


DEFAULTS = {k: v for k, v in OmegaConf.to_container(OmegaConf.load(CONF_DIR / "train.yaml")).items() if k != "defaults"}  # type: ignore[union-attr]
PLAIN: Any = OmegaConf.to_container(composed(), resolve=True)


def leaves(node: Any, key: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(node, dict):
        return [
            leaf
            for name, value in node.items()
            if name != "_target_"
            for leaf in [(*key, name), *leaves(value, (*key, name))]
        ]
    return []


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("???"),
    st.lists(st.one_of(st.integers(), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@fuzz
@given(key=st.sampled_from(leaves(PLAIN)), value=VALUES)
def test_config_values(key: tuple[Any, ...], value: Any) -> None:
    config = OmegaConf.to_container(OmegaConf.create(PLAIN), resolve=True)
    node: Any = config
    for name in key[:-1]:
        node = node[name]
    node[key[-1]] = value
    try:
        check_config(config, DEFAULTS)  # type: ignore[arg-type]
    except ConfigError as error:
        assert str(key[-1]) in str(error)


KEYS = st.sampled_from(["data", "model", "seed", "model.parts", "+x", "~loss", "data.root", "data@x"])


@settings(fuzz, max_examples=max(EXAMPLES // 4, 5))
@given(override=st.one_of(st.text(max_size=20), st.tuples(KEYS, st.text(max_size=8)).map("=".join)))
def test_overrides(override: str) -> None:
    try:
        composed(override)
    except Exception as error:
        message = user_message(error)
        assert message, f"{override!r} gives {error!r}"
        assert "Traceback" not in message
