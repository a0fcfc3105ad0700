"""Rounding: subsets exclude each other, none is empty, balanced sizes differ by one at most and are stable."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aaformer_lit.ops import round_argmax, round_balanced


def random_mass(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), parts=st.integers(1, 6), patches=st.integers(6, 30))
def test_argmax_gives_each_patch_to_its_heaviest_part(seed, parts, patches):
    mass = random_mass(seed, 2, parts, patches)
    membership = round_argmax(mass)
    for b in range(2):
        winners = [max(range(parts), key=lambda p: (mass[b, p, n].item(), -p)) for n in range(patches)]
        for p in range(parts):
            expected = {n for n in range(patches) if winners[n] == p}
            expected |= set() if expected else {int(mass[b, p].argmax())}
            assert set(membership[b, p].nonzero().flatten().tolist()) == expected


def test_an_empty_part_takes_its_heaviest_patch():
    mass = torch.tensor([[0.9, 0.8, 0.7], [0.1, 0.2, 0.1]])
    assert round_argmax(mass).tolist() == [[True, True, True], [False, True, False]]


def test_ties_go_to_the_lower_part():
    assert round_argmax(torch.ones(2, 3))[0].all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), parts=st.integers(1, 5), patches=st.integers(5, 24))
def test_balanced_is_equal_exclusive_and_stable(seed, parts, patches):
    mass = random_mass(seed, 3, parts, patches)
    membership = round_balanced(mass)
    sizes = membership.sum(dim=-1)
    assert torch.equal(membership.sum(dim=-2), torch.ones(3, patches, dtype=torch.long))
    assert (sizes.amax(dim=-1) - sizes.amin(dim=-1) <= 1).all()
    for b in range(3):
        owner = membership[b].int().argmax(dim=0)
        lightest = [mass[b, p][membership[b, p]].min() for p in range(parts)]
        for n in range(patches):
            for p in range(parts):
                both_would_rather = mass[b, p, n] > mass[b, owner[n], n] and mass[b, p, n] > lightest[p]
                assert not both_would_rather


@pytest.mark.parametrize("rounding", [round_argmax, round_balanced])
def test_constant_mass_leaves_no_part_without_a_patch(rounding):
    assert rounding(torch.zeros(4, 9)).any(dim=-1).all()


def test_balanced_parts_are_equal_where_a_log_plan_has_no_mass():
    mass = random_mass(0, 3, 9).log()
    mass[1:] = -torch.inf  # was an endless loop
    assert round_balanced(mass).sum(dim=-1).tolist() == [3, 3, 3]
    assert round_balanced(torch.full((3, 8), -torch.inf)).sum(dim=-1).tolist() == [3, 3, 2]


def test_balanced_parts_keep_the_earlier_of_equal_patches():
    mass = torch.zeros(2, 40)
    mass[0] = 1.0  # all want the first part, which has room for 20 and no reason to prefer any
    expected = torch.zeros(2, 40, dtype=torch.bool)
    expected[0, :20], expected[1, 20:] = True, True
    assert torch.equal(round_balanced(mass), expected)
