from pathlib import Path

import pytest

from aaformer_lit.pictures.kinds import _who
from aaformer_lit.structures import Record, nobody


@pytest.mark.parametrize(("asked", "caption"), [((0, 1), "pid 0\ncamera 2"), ((1,), "camera 2")])
def test_pid_0_is_named_where_a_query_shows_that_it_is_a_person(asked, caption):
    query = [Record(Path(f"{pid}.jpg"), pid, 1) for pid in asked]
    assert _who(Record(Path("a.jpg"), 0, 2), nobody(query)) == caption
    assert _who(Record(Path("b.jpg"), -1, -1), nobody(query)) == ""
