import gc
import io
import weakref
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from aaformer_lit import viz
from aaformer_lit.errors import ConfigError, StorageError
from aaformer_lit.viz.figure import best_columns, cell_size, fit, heading, new_figure, panels

IMAGE = np.full((16, 8, 3), 90, np.uint8)


def test_panels_are_exactly_as_large_as_asked() -> None:
    figure, axes = panels(2, 3, (1.0, 2.0), gap=(0.1, 0.2), margin=(0.5, 0.25, 0.4, 0.3), wider_before=[2], extra=0.35)
    assert figure.get_size_inches() == pytest.approx([0.5 + 3 * 1.0 + 2 * 0.1 + 0.35 + 0.25, 0.3 + 2 * 2.0 + 0.2 + 0.4])
    boxes = [[axis.get_window_extent().bounds for axis in row] for row in axes]
    assert np.allclose(np.array(boxes)[..., 2:] / figure.dpi, [1.0, 2.0])
    lefts = np.array(boxes)[0, :, 0] / figure.dpi
    assert lefts == pytest.approx([0.5, 1.6, 3.05])
    bottoms = np.array(boxes)[:, 0, 1] / figure.dpi
    assert bottoms == pytest.approx([2.6, 0.4])


@pytest.mark.parametrize("shape", [(256, 128, 3), (128, 64, 3), (384, 128, 3), (100, 300, 3)])
def test_cells_have_the_images_aspect_and_one_area(shape: tuple[int, ...]) -> None:
    width, height = cell_size(shape, area=2.0)
    assert height / width == pytest.approx(shape[0] / shape[1])
    assert width * height == pytest.approx(2.0)


def test_columns_fill_the_page() -> None:
    assert best_columns(1, (1, 2), 1.5) == 1
    assert best_columns(16, (1, 2), 1.5) == 8  # 8 x 2 of 1:2 cells, nothing left empty
    assert best_columns(12, (1, 1), 4 / 3) == 4
    assert best_columns(8, (1, 2), 1.5) == 4  # 6 would meet the aspect exactly and leave a row of 2
    assert best_columns(3, (6, 1), 1.3) == 1


def test_long_text_is_made_to_fit_and_short_text_left_alone() -> None:
    figure = new_figure(2, 1)
    heading(figure, "a heading that is much longer than this small figure is wide")
    (text,) = figure.texts
    assert text.get_window_extent().width / figure.dpi <= 1.85
    short = figure.text(0, 0, "short", fontsize=8)
    fit(figure, short, 2.0)
    assert short.get_fontsize() == 8


def test_style_is_ours_and_the_callers_is_left_alone() -> None:
    with matplotlib.rc_context({"lines.linewidth": 9.0, "axes.facecolor": "black", "figure.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        figure = viz.cmc_curves({"a": {1: 0.5, 5: 0.75}})
        assert dict(matplotlib.rcParams) == before
    assert figure.axes[0].lines[0].get_linewidth() == 1.8
    assert figure.get_facecolor() == figure.axes[0].get_facecolor() == (1.0, 1.0, 1.0, 1.0)


def test_figures_are_nobodys_but_the_callers() -> None:
    opened = pyplot.get_fignums()
    figure = viz.contact_sheet([IMAGE] * 3, labels="abc", title="sheet")
    figure.savefig(io.BytesIO())
    assert pyplot.get_fignums() == opened
    gone = weakref.ref(figure)
    del figure
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("name", ["a.png", "deep/er/b.PNG", "c.pdf", "d.svg"])
def test_save_writes_the_format_of_the_suffix(tmp_path: Path, name: str) -> None:
    path = viz.save(viz.contact_sheet([IMAGE]), tmp_path / name)
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[path.suffix[1:].lower()]
    assert path.read_bytes().startswith(start)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


def test_save_twice_gives_the_same_bytes_and_the_size_in_inches(tmp_path: Path) -> None:
    figure = viz.contact_sheet([IMAGE] * 2)
    first = viz.save(figure, tmp_path / "a.png", dpi=100)
    second = viz.save(viz.contact_sheet([IMAGE] * 2), tmp_path / "b.png", dpi=100)
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert image.size == tuple(int(100 * inches) for inches in figure.get_size_inches())


def test_a_large_png_is_written_with_fewer_pixels(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 600, 3), dtype=np.uint8)
    figure = viz.contact_sheet([noise])
    figure.set_size_inches(6, 8)
    path = viz.save(figure, tmp_path / "noise.png", dpi=150)
    assert 300_000 < path.stat().st_size < 1_000_000
    with Image.open(path) as image:
        assert image.width / image.height == pytest.approx(6 / 8, rel=0.01)
        assert image.width < 900


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = viz.save(viz.contact_sheet([IMAGE]), tmp_path / "a.png")
    old = path.read_bytes()

    def half(self: Figure, file: Path, **_: object) -> None:
        Path(file).write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(StorageError, match="disk full"):
        viz.save(viz.contact_sheet([IMAGE] * 2), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_suffix_that_is_no_picture_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'map\.xyz'.*png"):
        viz.save(viz.contact_sheet([IMAGE]), tmp_path / "new" / "map.xyz")
    assert list(tmp_path.iterdir()) == []
