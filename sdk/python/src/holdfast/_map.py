"""One function over many inputs: some at a time, results in the order of the inputs.

`concurrency` calls run at a time. Up to AHEAD times as many inputs are taken before their turn, so
that one slow call does not hold up the others while memory stays bounded.

The first exception, in the order of the inputs, is raised at its place, after what came before it
was given. Once any call has failed no more are started, and those that run are cancelled before
the exception is raised. The same happens when the loop is left early or interrupted.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar, cast

from holdfast._tasks import CANCEL_WAIT_S

R = TypeVar("R")

LARGEST_CONCURRENCY = 1000
AHEAD = 4

STOP_WAIT_S = 3 * CANCEL_WAIT_S
"""For all calls to be cancelled together, each of which waits on its own."""

CallOne = Callable[[Any], Awaitable[R]]
"""Makes one call of what stands for an input: its arguments, as bytes."""


def check_concurrency(concurrency: int) -> int:
    if type(concurrency) is not int or not 1 <= concurrency <= LARGEST_CONCURRENCY:
        raise ValueError(f"concurrency is a whole number from 1 to {LARGEST_CONCURRENCY}")
    return concurrency


def arguments(positional: Any) -> tuple[Any, ...]:
    """The arguments of one input: a tuple is several."""
    return cast("tuple[Any, ...]", positional) if isinstance(positional, tuple) else (positional,)


class Some(Generic[R]):
    """Lets so many calls of one map run, and no more once one has failed. Of one event loop."""

    def __init__(self, call: CallOne[R], concurrency: int) -> None:
        self._call = call
        self._slots = asyncio.Semaphore(concurrency)
        self._has_failed = False

    async def run(self, each: Any) -> R:
        # Slots are given in order, so whoever finds that one has failed comes after it.
        async with self._slots:
            if self._has_failed:
                raise asyncio.CancelledError
            try:
                return await self._call(each)
            except BaseException:
                self._has_failed = True
                raise


async def map_async(
    call: CallOne[R], inputs: AsyncIterable[Any], concurrency: int
) -> AsyncIterator[R]:
    """Results on the event loop of whoever iterates."""
    some = Some(call, concurrency)
    pending: deque[asyncio.Task[R]] = deque()
    try:
        async for each in inputs:
            if len(pending) >= concurrency * AHEAD:
                yield await pending[0]
                pending.popleft()
            pending.append(asyncio.create_task(some.run(each)))
        while pending:
            yield await pending[0]
            pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


def map_sync(call: CallOne[R], inputs: Iterable[Any], concurrency: int) -> Iterator[R]:
    """Results on this thread, which also takes the inputs; the calls are on a loop beside it."""
    pending: deque[Future[R]] = deque()
    with LoopThread() as loop:
        some = loop.run(_some(call, concurrency)).result()
        for each in inputs:
            if len(pending) >= concurrency * AHEAD:
                yield pending.popleft().result()
            pending.append(loop.run(some.run(each)))
        while pending:
            yield pending.popleft().result()


async def _some(call: CallOne[R], concurrency: int) -> Some[R]:
    return Some(call, concurrency)


async def each_of(inputs: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Inputs of either sort, for `async for`."""
    if isinstance(inputs, AsyncIterable):
        async for each in inputs:
            yield each
    else:
        for each in inputs:
            yield each


class LoopThread:
    """An event loop on a thread of its own. At its end what still runs on it is cancelled."""

    def __init__(self) -> None:
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name="holdfast-map", daemon=True)

    def __enter__(self) -> LoopThread:
        self._thread.start()
        self._loop = self._ready.result()
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._stop is not None, "it is there once the loop is ready"
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_WAIT_S)

    def run(self, coroutine: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _main(self) -> None:
        # Cancels what is left, waits for it, and ends the connections.
        asyncio.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._stop = asyncio.Event()
        self._ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()
