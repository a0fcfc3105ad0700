"""PK batches: who is in them, in what order, and how ranks share them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aaformer_lit.data.sampler import Draw, PKSampler
from aaformer_lit.errors import ConfigError, ProtocolError

# 2 to 12 people with 1 to 9 images each, in any order of labels
crowds = st.lists(st.integers(1, 9), min_size=2, max_size=12).filter(lambda sizes: max(sizes) > 1)


def labels_of(sizes: list[int]) -> list[int]:
    return [label for label, size in enumerate(sizes) for _ in range(size)]


def indices(sampler: PKSampler) -> list[list[int]]:
    return [[draw.index for draw in batch] for batch in sampler]


@given(sizes=crowds, p=st.integers(2, 5), k=st.integers(2, 4), epoch=st.integers(0, 3), data=st.data())
@settings(max_examples=100, deadline=None)
def test_an_epoch(sizes: list[int], p: int, k: int, epoch: int, data: st.DataObject) -> None:
    p = min(p, len(sizes))
    labels = data.draw(st.permutations(labels_of(sizes)))
    sampler = PKSampler(labels, p, k, seed=7)
    sampler.set_epoch(epoch)
    batches = indices(sampler)

    assert len(sampler) == len(batches)
    used: Counter[int] = Counter()
    for batch in batches:
        people = [labels[i] for i in batch]
        assert people == [person for person in people[::k] for _ in range(k)], "the images of one person lie together"
        assert len(set(people)) == p
        used.update(batch)
    groups = {label: max(1, size // k) for label, size in enumerate(sizes)}
    taken = Counter(labels[batch[at]] for batch in batches for at in range(0, p * k, k))
    assert all(taken[label] <= groups[label] for label in groups)
    assert sum(taken[label] < groups[label] for label in groups) < p, "the epoch ended though P people were left"
    for index, times in used.items():
        assert times == 1 or sizes[labels[index]] < k, "only people with fewer than K images repeat one"


@given(sizes=crowds, seed=st.integers(0, 5), epoch=st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_the_order_depends_on_seed_and_epoch_alone(sizes: list[int], seed: int, epoch: int) -> None:
    labels = labels_of(sizes)
    first, second = PKSampler(labels, 2, 2, seed=seed), PKSampler(labels, 2, 2, seed=seed)
    list(first)  # an epoch run before leaves no trace
    first.set_epoch(epoch)
    second.set_epoch(epoch)
    assert list(first) == list(second)
    assert list(first) == list(first)


def test_epochs_and_seeds_differ() -> None:
    labels = labels_of([8] * 10)

    def order(seed: int, epoch: int) -> tuple[int, ...]:
        sampler = PKSampler(labels, 4, 4, seed=seed)
        sampler.set_epoch(epoch)
        return tuple(i for batch in indices(sampler) for i in batch)

    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_ranks_split_the_global_batch_by_people(world_size: int) -> None:
    labels = labels_of([9, 3, 2, 8, 5, 4, 7, 1, 6, 4])
    whole = PKSampler(labels, 6, 3, seed=1)
    ranks = [PKSampler(labels, 6, 3, seed=1, rank=rank, world_size=world_size) for rank in range(world_size)]
    for sampler in (whole, *ranks):
        sampler.set_epoch(5)
    assert {len(sampler) for sampler in ranks} == {len(whole)}
    for batch, *shares in zip(whole, *ranks, strict=True):
        assert [draw for share in shares for draw in share] == batch
        people = [{labels[draw.index] for draw in share} for share in shares]
        assert sum(map(len, people)) == len(set().union(*people)) == 6


def test_copies_of_one_image_are_told_apart() -> None:
    sampler = PKSampler(labels_of([1, 1, 8]), 3, 4)
    draws = [draw for batch in sampler for draw in batch]
    assert len(set(draws)) == len(draws)
    assert [draw.copy for draw in draws if draw.index == 0] == [0, 1, 2, 3]
    sampler.set_epoch(2)
    assert {draw.epoch for batch in sampler for draw in batch} == {2}


def test_every_group_size_is_reached() -> None:
    """People with many images appear in several batches: nothing but each person's rest below K is dropped, if P allows."""
    sampler = PKSampler(labels_of([8, 8]), 2, 4)
    assert sorted(i for batch in indices(sampler) for i in batch) == list(range(16))


def test_the_whole_choice_of_people_is_used() -> None:
    """Any pair of people meets in a batch sooner or later, equally often."""
    pairs: Counter[frozenset[int]] = Counter()
    sampler = PKSampler(labels_of([2] * 5), 2, 2)
    for epoch in range(600):
        sampler.set_epoch(epoch)
        pairs.update(frozenset(index // 2 for index in batch) for batch in indices(sampler))
    assert len(pairs) == 10
    expected = sum(pairs.values()) / 10
    assert all(abs(n - expected) < 5 * expected**0.5 for n in pairs.values())


@pytest.mark.parametrize(
    ("sizes", "p", "k", "world_size", "error", "says"),
    [
        ([4] * 8, 1, 4, 1, ConfigError, "ids_per_batch=1"),
        ([4] * 8, 4, 1, 1, ConfigError, "images_per_id=1"),
        ([4] * 8, 4, 4, 3, ConfigError, "multiple of 3"),
        ([4] * 8, 16, 4, 1, ProtocolError, "has 8 ids, fewer than data.ids_per_batch=16"),
        ([1] * 8, 4, 4, 1, ProtocolError, "none of the 8 training ids has two images"),
    ],
)
def test_impossible_batches_are_refused(
    sizes: list[int], p: int, k: int, world_size: int, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        PKSampler(labels_of(sizes), p, k, world_size=world_size)


def test_an_empty_training_split_is_refused() -> None:
    with pytest.raises(ProtocolError, match="has 0 ids"):
        PKSampler([], 4, 4)


def test_lightning_finds_set_epoch() -> None:
    """Lightning looks at `batch_sampler.sampler` only."""
    sampler = PKSampler(labels_of([4] * 4), 2, 2)
    sampler.sampler.set_epoch(3)
    assert next(iter(sampler))[0] == Draw(next(iter(sampler))[0].index, epoch=3)


def test_a_new_sampler_is_at_epoch_0_of_seed_0() -> None:
    labels = labels_of([4] * 6)
    told = PKSampler(labels, 2, 2, seed=0)
    told.set_epoch(0)
    assert list(PKSampler(labels, 2, 2)) == list(told)
    assert all(draw.epoch == 0 for batch in told for draw in batch)
