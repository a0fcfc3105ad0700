"""A data set is drawn once, whole or not at all, and nobody's folder is overwritten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aaformer_lit.data.synthetic import SyntheticSpec, generate, layouts
from aaformer_lit.errors import ConfigError

SPEC = SyntheticSpec(num_train_ids=2, num_test_ids=1, num_cameras=2, images_per_camera=2, height=32, width=16)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(layouts, "render", refuse)
    return


def test_same_spec_same_bytes(tmp_path: Path) -> None:
    first, second = (generate(tmp_path / name, SPEC, "synthetic", progress=False) for name in ("a", "b"))
    assert contents(first) == contents(second)
    assert len(contents(first)) == 2 * (2 + 1) * 2 * 2 + 1  # images, masks, the spec


def test_the_spec_lies_beside_the_pictures(tmp_path: Path) -> None:
    folder = generate(tmp_path, SPEC, "synthetic", progress=False)
    assert SyntheticSpec(**json.loads((folder / "synthetic.json").read_text())["spec"]) == SPEC
    assert folder.name == f"synthetic-{SPEC.short_hash}"


@pytest.mark.parametrize("layout", ["synthetic", "market1501", "cuhk03_np"])
def test_what_is_there_is_used_again(tmp_path: Path, layout: str, request: pytest.FixtureRequest) -> None:
    folder = generate(tmp_path, SPEC, layout, progress=False)
    request.getfixturevalue("no_drawing")
    assert generate(tmp_path, SPEC, layout, progress=False) == folder


def test_another_spec_is_drawn_beside_it(tmp_path: Path) -> None:
    others = [SPEC, replace(SPEC, seed=1), replace(SPEC, difficulty=0.51), replace(SPEC, images_per_camera=3)]
    folders = {generate(tmp_path, spec, "synthetic", progress=False) for spec in others}
    assert sorted(tmp_path.iterdir()) == sorted(folders)
    assert len(folders) == 4


def test_another_spec_in_an_official_folder_is_refused(tmp_path: Path) -> None:
    before = contents(generate(tmp_path, SPEC, "market1501", progress=False))
    with pytest.raises(ConfigError, match="holds synthetic data of other settings, and is not overwritten"):
        generate(tmp_path, replace(SPEC, seed=1), "market1501", progress=False)
    assert contents(tmp_path / "Market-1501-v15.09.15") == before


def test_a_real_data_set_is_not_touched(tmp_path: Path) -> None:
    real = tmp_path / "DukeMTMC-reID" / "query" / "0001_c2_f0046182.jpg"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"real")
    with pytest.raises(ConfigError, match="holds no synthetic data set, and is not overwritten"):
        generate(tmp_path, SPEC, "dukemtmc", progress=False)
    assert contents(tmp_path) == {"DukeMTMC-reID/query/0001_c2_f0046182.jpg": b"real"}


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = 0

    def interrupt(*shot: object) -> object:
        nonlocal drawn
        drawn += 1
        if drawn == 5:
            raise KeyboardInterrupt
        return draw(*shot)

    draw = layouts.render
    monkeypatch.setattr(layouts, "render", interrupt)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, SPEC, "synthetic", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_once_end_with_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process finishes while this one draws."""
    finished = False

    def meanwhile(*shot: object) -> object:
        nonlocal finished
        if not finished:
            finished = True
            generate(tmp_path, SPEC, "synthetic", progress=False)
        return draw(*shot)

    draw = layouts.render
    monkeypatch.setattr(layouts, "render", meanwhile)
    folder = generate(tmp_path, SPEC, "synthetic", progress=False)
    assert list(tmp_path.iterdir()) == [folder]


def test_an_unknown_layout_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"layout of synthetic data must be one of market1501, dukemtmc.*got 'market'"
    ):
        generate(tmp_path, SPEC, "market")


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(tmp_path, SPEC, "synthetic", progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "12/12" in err
