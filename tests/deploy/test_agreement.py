"""Whether a file finds the same people, counted by hand and against a plain loop."""

from pathlib import Path

import pytest
import torch

from aaformer_lit.data.datamodule import TestSet
from aaformer_lit.deploy.agreement import among_themselves, on_test_set
from aaformer_lit.deploy.bounds import Bounds
from aaformer_lit.deploy.people import choose_people, whole_people
from aaformer_lit.errors import ConfigError, ProtocolError
from aaformer_lit.structures import Record


def column(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_the_same_answers_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    wanted = torch.randn(30, 4, generator=generator)
    found = wanted + 0.3 * torch.randn(30, 4, generator=generator)
    same = 0
    for i in range(30):
        first = [
            set(sorted((j for j in range(30) if j != i), key=lambda j: float((x[i] - x[j]).norm()))[:5])
            for x in (found, wanted)
        ]
        same += len(first[0] & first[1])
    agreement = among_themselves(found, wanted, k=5)
    assert agreement.top_k == pytest.approx(same / 150)
    assert 0.3 < agreement.top_k < 0.95


def test_equally_far_images_may_change_places():
    wanted = column(0, 1, -1, 5)
    found = column(0, 1, -0.9999, 5)  # of 0's two neighbors the other one is now first
    assert among_themselves(found, wanted, k=1).top_k == 1
    assert among_themselves(column(0, 1.5, -1, 5), wanted, k=1).top_k == 1
    assert among_themselves(column(0, 4, -1, 5), wanted, k=1).top_k == 0.75  # 1 now finds 5
    assert among_themselves(wanted[:1], wanted[:1]) is None


def test_mAP_of_network_and_file_by_hand():
    test = TestSet(
        "hand", [Record(Path("q"), 7, 1)], [Record(Path("a"), 7, 2), Record(Path("b"), 8, 2), Record(Path("c"), 7, 1)]
    )
    wanted, found = column(0, 1, 2, 0.1), column(0, 2, 1, 0.1)  # c is of the query's camera: ignored
    agreement = on_test_set(found, wanted, test, k=1)
    assert (agreement.network_mAP, agreement.file_mAP, agreement.mAP_change) == (1.0, 0.5, -0.5)
    assert agreement.top_k == 1  # c comes first for both


def test_whole_people_and_never_the_same_images():
    records = [Record(Path(f"{pid}-{i}"), pid, i) for pid in range(10) for i in range(4)]
    test = whole_people(TestSet("x", [r for r in records if r.camid == 0], [r for r in records if r.camid]), 11, seed=0)
    assert len(test.query) == 3
    assert len(test.gallery) == 9
    assert {r.pid for r in test.query} == {r.pid for r in test.gallery}
    alone = Record(Path("alone"), 10, 1)
    assert alone not in whole_people(TestSet("x", [alone, *records], records), 100, seed=0).query
    with pytest.raises(ProtocolError, match="nobody in the query images of x is in its gallery"):
        whole_people(TestSet("x", [alone], records), 100, seed=0)
    own = [Path(str(i)) for i in range(40)]
    people = choose_people(own, None, test_images=0, calibration_images=128)
    assert len(people.calibration) == len(people.own) == 20
    assert not set(people.calibration) & set(people.own)
    assert choose_people(own, None, test_images=0, calibration_images=0).own == own
    with pytest.raises(ConfigError, match="16 images or more to calibrate"):
        choose_people(own[:20], None, test_images=0, calibration_images=128)


def test_bounds_say_what_they_take():
    assert Bounds.of("int8", min_top_k=0.5, tolerance=None).min_top_k == 0.5
    assert Bounds.of("fp32").tolerance == 1e-4
    with pytest.raises(ConfigError, match=r"check\.min_top_k must be between 0 and 1; got 90"):
        Bounds.of("int8", min_top_k=90)
    with pytest.raises(ConfigError, match="fp32, fp16, int8; got 'fp8'"):
        Bounds.of("fp8")
