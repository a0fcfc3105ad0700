"""Requests are grouped without being mixed up, and one that fails does not fail its neighbors."""

import asyncio
import threading

from aaformer_lit.web.batching import Batcher


def doubled(sizes):
    def function(items):
        sizes.append(len(items))
        return [ValueError(item) if item < 0 else 2 * item for item in items]

    return function


def test_each_gets_its_own_answer_or_error_in_batches_of_at_most_size():
    sizes = []

    async def ask():
        async with Batcher(doubled(sizes), size=4, window=0.2) as batcher:
            return await asyncio.gather(*(batcher(item) for item in (1, 2, -3, 4, 5, 6)), return_exceptions=True)

    answers = asyncio.run(ask())
    assert answers[:2] + answers[3:] == [2, 4, 8, 10, 12]
    assert isinstance(answers[2], ValueError)
    assert sizes == [4, 2]


def test_what_arrives_while_a_batch_is_at_work_goes_together_without_a_window():
    sizes, started, go_on = [], threading.Event(), threading.Event()

    def slow(items):
        sizes.append(len(items))
        started.set()
        assert go_on.wait(30)
        return items

    async def ask():
        async with Batcher(slow, size=8, window=0.0) as batcher:
            first = asyncio.create_task(batcher(0))
            await asyncio.to_thread(started.wait, 30)
            others = [asyncio.create_task(batcher(item)) for item in (1, 2, 3)]
            await asyncio.sleep(0)
            go_on.set()
            return await asyncio.gather(first, *others)

    assert asyncio.run(ask()) == [0, 1, 2, 3]
    assert sizes == [1, 3]


def test_a_batch_that_fails_tells_all_of_it_and_the_next_one_works():
    def function(items):
        if 0 in items:
            raise ZeroDivisionError
        return items

    async def ask():
        async with Batcher(function, size=2, window=0.2) as batcher:
            failed = await asyncio.gather(batcher(0), batcher(1), return_exceptions=True)
            return failed, await batcher(1)

    failed, fine = asyncio.run(ask())
    assert [type(one) for one in failed] == [ZeroDivisionError] * 2
    assert fine == 1
