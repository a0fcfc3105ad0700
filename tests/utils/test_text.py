"""Numbers in words."""

from __future__ import annotations

import pytest

from aaformer_lit.utils.text import percent, significant


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.012345, 3, "0.0123"),
        (4.567, 3, "4.57"),
        (99.96, 3, "100"),
        (1234.5, 3, "1,234"),
        (360.0, 2, "360"),
        (0.0, 2, "0"),
    ],
)
def test_large_numbers_keep_their_digits_and_have_no_exponent(value: float, digits: int, text: str) -> None:
    assert significant(value, digits) == text


def test_a_share_in_percent() -> None:
    assert [percent(0.0757), percent(1.0), percent(0.00123)] == ["7.57 %", "100 %", "0.123 %"]
