"""Slices and selections of sequences."""

import pytest
from omegaconf import OmegaConf

from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.sequences import listed, spread, tiles


def test_tiles_cover_the_range_once():
    assert [(t.start, t.stop) for t in tiles(10, 4)] == [(0, 4), (4, 8), (8, 10)]
    assert list(tiles(0, 4)) == []


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_covers_nothing_is_refused(size):
    with pytest.raises(ConfigError, match=f"1 or more; got {size}"):
        list(tiles(3, size))


def test_a_selection_is_evenly_spread():
    assert spread("abcdefgh", 4) == ["a", "c", "e", "g"]
    assert spread("abc", 5) == ["a", "b", "c"]
    assert spread("abc", 0) == spread("", 2) == []


def test_a_config_value_is_a_list_whether_one_is_given_or_several():
    several = OmegaConf.create(["a", "b"])
    assert [listed(value) for value in (None, "ab", 3, several)] == [[], ["ab"], [3], ["a", "b"]]
