import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from aaformer_lit.viz import part_color
from aaformer_lit.viz.palette import ATTENTION, RIGHT, WRONG, part_tokens

# Viénot, Brettel and Mollon (1999): what a deuteranope sees of linear RGB
DEUTERANOPE = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])


def seen(color: tuple[float, float, float]) -> np.ndarray:
    return np.clip(DEUTERANOPE @ np.asarray(color) ** 2.2, 0, 1) ** (1 / 2.2)


def test_tokens_follow_the_order_of_the_sequence() -> None:
    tokens = part_tokens([2, 3])
    assert [(t.granularity, t.number, t.token) for t in tokens] == [
        (2, 0, 0),
        (2, 1, 1),
        (3, 0, 2),
        (3, 1, 3),
        (3, 2, 4),
    ]
    assert [t.name for t in tokens] == ["part 1 of 2", "part 2 of 2", "part 1 of 3", "part 2 of 3", "part 3 of 3"]


def test_a_part_keeps_its_color_whatever_stands_beside_it() -> None:
    alone, among = part_tokens([3]), part_tokens([2, 3, 4])
    assert [t.color for t in alone] == [t.color for t in among if t.granularity == 3]


@pytest.mark.parametrize("granularity", [1, 2, 3, 6, 10, 11, 20, 30])
def test_parts_of_one_granularity_have_colors_of_their_own(granularity: int) -> None:
    assert len({part_color(granularity, p) for p in range(granularity)}) == granularity


def test_small_granularities_share_no_color() -> None:
    assert len({t.color for t in part_tokens([1, 2, 3, 4])}) == 10


def test_the_papers_parts_and_the_verdicts_differ_for_a_deuteranope_too() -> None:
    for first, second in itertools.combinations([t.color for t in part_tokens([2, 3])], 2):
        assert np.abs(seen(first) - seen(second)).max() > 0.1
    assert np.abs(seen(to_rgb(RIGHT)) - seen(to_rgb(WRONG))).max() > 0.1


def test_attention_gets_lighter_in_equal_steps_and_is_never_near_black() -> None:
    colors = ATTENTION(np.linspace(0, 1, 11))[:, :3]
    luminance = (colors**2.2) @ np.array([0.2126, 0.7152, 0.0722])
    steps = np.diff(116 * np.cbrt(luminance) - 16)  # CIE L*
    assert steps.min() > 0.7 * steps.mean()
    assert steps.max() < 1.3 * steps.mean()
    assert colors.max(axis=1).min() > 0.6


def test_no_such_part() -> None:
    with pytest.raises(ValueError, match=r"granularity 2 has parts 0..1; got part 2"):
        part_color(2, 2)
