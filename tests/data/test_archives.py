"""Unpacking: all or nothing, and never outside the folder."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from aaformer_lit.data.archives import unpack
from aaformer_lit.errors import ProtocolError

FILES = {"Market/query/a.jpg": b"a" * 1000, "Market/train/b.jpg": b"b" * 10, "Market/readme.txt": b""}


def make(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '').replace('tgz', 'gz')}") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


KINDS = ["m.zip", "m.tar", "m.tar.gz", "m.tgz", "m.tar.xz", "m.tar.bz2"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_with_one_folder_becomes_that_folder(kind: str, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    folder = unpack(
        make(tmp_path / kind, FILES | {"__MACOSX/Market/._a.jpg": b"x", "Market/.DS_Store": b"x"}),
        tmp_path / "data", "market1501", lambda now, total: done.append((now, total)),
    )  # fmt: skip
    assert folder == tmp_path / "data" / "Market"
    assert {f"Market/{name}": data for name, data in content(folder).items()} == FILES
    assert done[-1] == (1010, 1010)
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["Market"], "no temporary folder is left"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    "files", [{"query/a.jpg": b"a", "train/b.jpg": b"b"}, {"a.jpg": b"a"}, {"q/a.jpg": b"", "b": b""}]
)
def test_an_archive_without_one_gets_the_name(files: dict[str, bytes], tmp_path: Path) -> None:
    folder = unpack(make(tmp_path / "m.zip", files), tmp_path / "data", "market1501")
    assert folder == tmp_path / "data" / "market1501"
    assert content(folder) == files


EVIL = ["../evil.jpg", "Market/../../evil.jpg", "/evil.jpg", "C:\\evil.jpg", "..\\evil.jpg", "\\\\host\\evil.jpg"]


@pytest.mark.parametrize("name", ["\0", "a.jpg\0.png"])
def test_a_name_with_a_nul_is_refused_and_not_cut(name: str, tmp_path: Path) -> None:
    archive = tmp_path / "m.zip"
    with zipfile.ZipFile(archive, "w") as file:
        info = zipfile.ZipInfo("replaced")
        info.filename = name  # the constructor would cut it
        file.writestr(info, b"evil")
    with pytest.raises(ProtocolError, match=r"its entry '.*\\x00.*' leaves the folder"):
        unpack(archive, tmp_path / "data", "market1501")
    assert not list((tmp_path / "data").rglob("*"))


@pytest.mark.parametrize("kind", ["m.zip", "m.tar"])
@pytest.mark.parametrize("name", EVIL)
def test_paths_that_leave_the_folder_are_refused(kind: str, name: str, tmp_path: Path) -> None:
    archive = make(tmp_path / kind, FILES | {name: b"evil"})
    with pytest.raises(ProtocolError, match=r"is not unpacked: its entry .* leaves the folder"):
        unpack(archive, tmp_path / "deep" / "data", "market1501")
    assert not list(tmp_path.rglob("*evil*"))
    assert not list(tmp_path.rglob("a.jpg")), "not even the harmless entries"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        info = tarfile.TarInfo("Market/passwd")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ProtocolError, match="is a link or a device"):
        unpack(tmp_path / "m.tar", tmp_path / "data", "market1501")


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        info = zipfile.ZipInfo("Market/passwd")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ProtocolError, match="is a link or a device"):
        unpack(tmp_path / "m.zip", tmp_path / "data", "market1501")


def test_an_encrypted_zip_says_so(tmp_path: Path) -> None:
    data = bytearray(make(tmp_path / "m.zip", {"Market/a.jpg": b"a"}).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag of encryption, in both headers
        data[data.index(signature) + offset] |= 1
    (tmp_path / "m.zip").write_bytes(data)
    with pytest.raises(ProtocolError, match="is encrypted"):
        unpack(tmp_path / "m.zip", tmp_path / "data", "market1501")


def test_a_packing_that_python_does_not_read_is_no_damage(tmp_path: Path) -> None:
    """Windows packs what is larger than 2 GB by Deflate64, method 9."""
    data = bytearray(make(tmp_path / "m.zip", {"Market/a.jpg": b"a"}).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(signature) + offset] = 9
    (tmp_path / "m.zip").write_bytes(data)
    with pytest.raises(ProtocolError, match=r"packed in a way that is not read here: .* Unpack it yourself"):
        unpack(tmp_path / "m.zip", tmp_path / "data", "market1501")
    assert not list((tmp_path / "data").glob("*"))


def test_an_archive_without_files_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="holds no files"):
        unpack(make(tmp_path / "m.zip", {}), tmp_path / "data", "market1501")
    assert not (tmp_path / "data" / "market1501").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_half_an_archive_leaves_nothing(kind: str, tmp_path: Path) -> None:
    noise = {f"Market/{n}.jpg": bytes((n * i * i) % 251 for i in range(4000)) for n in range(9)}
    archive = make(tmp_path / kind, noise)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ProtocolError, match=r"incomplete|cannot be unpacked"):
        unpack(archive, tmp_path / "data", "market1501")
    assert not list((tmp_path / "data").glob("*"))


def test_flipped_bits_leave_nothing(tmp_path: Path) -> None:
    archive = make(tmp_path / "m.zip", {"Market/a.jpg": bytes(range(256)) * 20})
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(ProtocolError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "data", "market1501")
    assert not list((tmp_path / "data").glob("*"))


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    archive = make(tmp_path / "m.zip", FILES)
    unpack(archive, tmp_path / "data", "market1501")
    mine = tmp_path / "data" / "Market" / "mine.txt"
    mine.touch()
    with pytest.raises(ProtocolError, match="exists and is not overwritten"):
        unpack(archive, tmp_path / "data", "market1501")
    assert mine.exists()


def test_more_than_the_disk_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1009}))
    with pytest.raises(ProtocolError, match=r"unpacks to 0.0 GB, but .* free"):
        unpack(make(tmp_path / "m.zip", FILES), tmp_path / "data", "market1501")


def test_what_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="does not exist"):
        unpack(tmp_path / "m.zip", tmp_path, "market1501")
    for name, says in (
        ("m.rar", "of a kind that is not unpacked"),
        ("m.zip", "incomplete"),
        ("m.tar.gz", "incomplete"),
    ):
        (tmp_path / name).write_bytes(b"<html>404</html>")
        with pytest.raises(ProtocolError, match=says):
            unpack(tmp_path / name, tmp_path, "market1501")
