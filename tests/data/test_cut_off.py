"""Cut images are the rows that are left, masks alike, and the end is a fair coin that only the name tosses."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aaformer_lit.data.cut_off import cut_off, cut_rows, loses_top
from aaformer_lit.data.datasets.market1501 import Market1501DataModule
from aaformer_lit.data.masks import PartTable
from aaformer_lit.data.person_images import PersonImages
from aaformer_lit.data.transforms import Transforms
from aaformer_lit.errors import ConfigError
from aaformer_lit.structures import Record

NAMES = [Path(f"query/{pid:04}_c{camera}s1_000001_00.jpg") for pid in range(500) for camera in range(1, 5)]
TOP = next(path for path in NAMES if loses_top(path))
BOTTOM = next(path for path in NAMES if not loses_top(path))


@pytest.mark.parametrize(("share", "rows"), [(0.0, 0), (0.1, 1), (0.25, 2), (0.5, 5), (0.99, 9)])
def test_a_share_of_the_rows_goes_at_one_end(share, rows):
    pixels = np.arange(60).reshape(10, 2, 3)
    np.testing.assert_array_equal(cut_off(pixels, share, TOP), np.delete(pixels, range(rows), axis=0))
    np.testing.assert_array_equal(cut_off(pixels, share, BOTTOM), np.delete(pixels, range(10 - rows, 10), axis=0))


def test_both_ends_may_go_and_one_row_is_kept():
    pixels = np.arange(10)
    assert cut_rows(pixels, 0.2, 0.3).tolist() == [2, 3, 4, 5, 6]
    assert cut_rows(pixels, 0.7, 0.7).tolist() == [7]
    assert cut_rows(pixels, 0.99, 0.0).tolist() == [9]
    assert cut_rows(pixels, 0.0, 0.99).tolist() == [0]


def test_ends_are_drawn_by_name_alone():
    assert abs(np.mean([loses_top(path) for path in NAMES]) - 0.5) < 0.05  # 4.5 standard deviations of 2,000 coins
    # pairs of one person are cut at different ends half of the time
    pairs = [loses_top(a) != loses_top(b) for a, b in zip(NAMES[::4], NAMES[1::4], strict=True)]
    assert abs(np.mean(pairs) - 0.5) < 0.1
    assert all(loses_top(Path("/elsewhere") / path) == loses_top(path) for path in NAMES[:50])
    # fixed for all time, or figures of today could not be repeated
    assert "".join("BT"[loses_top(path)] for path in NAMES[:12]) == "BTBTTTBBBBTB"


def test_a_sample_is_cut_before_the_resize_and_its_mask_with_it(tmp_path):
    rows = np.arange(20, dtype=np.uint8)[:, None].repeat(4, axis=1)
    path = tmp_path / BOTTOM.name
    folder = next(tmp_path / str(n) for n in range(99) if loses_top(tmp_path / str(n) / path.name))
    folder.mkdir()
    Image.fromarray(rows).convert("RGB").save(folder / "image.png")
    Image.fromarray(rows).save(folder / "mask.png")
    path = (folder / "image.png").rename(folder / path.name)  # the content says what it is
    record = Record(path, 1, 1, mask=folder / "mask.png")
    table = PartTable({str(n): [n] for n in range(20)})
    identity = Transforms(mean=(0, 0, 0), std=(1 / 255,) * 3).test()
    sample = PersonImages([record], (15, 4), identity, part_table=table, cut=0.25)[0]
    np.testing.assert_allclose(sample["image"][0].numpy(), rows[5:], atol=1e-3)
    np.testing.assert_array_equal(sample["part_mask"].numpy(), rows[5:])


@pytest.mark.parametrize("cut", [-0.1, 1.0, float("nan")])
def test_a_cut_that_is_no_share_is_refused(tmp_path, cut):
    with pytest.raises(ConfigError, match=r"data\.cut=.* is a share"):
        Market1501DataModule(tmp_path, cut=cut)
