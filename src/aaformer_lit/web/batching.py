"""Micro-batching: requests that arrive within a short window go through a function together.

While the function is at work further requests gather, so that under load the batches fill by themselves and the window
costs nothing. How many wait is the front's to bound (`Door`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Calls `function` in a thread, on several items at once; one call after another.

    Args:
        function: gives a result or an error for each item.
        size: items at once, at most.
        window: seconds that the first item waits for others.
    """

    def __init__(self, function: Callable[[Sequence[T]], Sequence[R | Exception]], *, size: int, window: float) -> None:
        self.function, self.size, self.window = function, size, window
        self._queue: asyncio.Queue[tuple[T, asyncio.Future[R]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Batcher[T, R]:
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def __call__(self, item: T) -> R:
        """The result for this item. Raises its error."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((item, future))
        return await future

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.window):
                    while len(batch) < self.size:
                        batch.append(await self._queue.get())
            try:
                results: Sequence[R | Exception] = await asyncio.to_thread(self.function, [item for item, _ in batch])
            except Exception as error:  # of the whole batch: each of its requests is told
                results = [error] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():  # whoever asked has gone
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
