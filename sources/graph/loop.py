"""One event loop in a thread of its own, and the plain blocking face that the rest sees."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from backupd.errors import TransientError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4
"""Items waiting per worker: enough that no worker starves, few enough that memory stays flat."""


class Loop:
    """Runs coroutines for callers in other threads."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        self._closed = False

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one coroutine to its end; raises what it raises."""
        if self._closed:
            work.close()
            raise TransientError("The connection to Graph was closed.", reason="closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def flow(
        self,
        items: Iterable[T],
        work: Callable[[T], Awaitable[R]],
        width: int,
        drop: Callable[[R], None],
    ) -> Iterator[R]:
        """Results of `work` on each item, `width` at a time, in the order they get ready.

        `items` is read in the caller's thread, a little ahead. An exception of `work` ends
        everything. Results that were ready but not taken go to `drop`.
        """
        ready: queue.SimpleQueue[R | BaseException] = queue.SimpleQueue()
        waiting: asyncio.Queue[T] = asyncio.Queue()
        crew = self.call(_hire(_crew(waiting, ready, work, width)))
        source = iter(items)
        owed, more = 0, True
        try:
            while True:
                if more and owed <= width:
                    some = list(itertools.islice(source, width * AHEAD))
                    more = len(some) == width * AHEAD
                    owed += len(some)
                    self._loop.call_soon_threadsafe(_put_all, waiting, some)
                if not owed:
                    return
                result = ready.get()
                owed -= 1
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            if not self._closed:
                self.call(_dismiss(crew))
            _drop_all(ready, drop)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel what runs, run `last`, and end the thread; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(_wind_up(last), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _crew(
    waiting: asyncio.Queue[T],
    ready: queue.SimpleQueue[R | BaseException],
    work: Callable[[T], Awaitable[R]],
    width: int,
) -> None:
    """`width` workers; the first exception is put where the caller waits, whoever raises it."""

    async def worker() -> None:
        while True:
            item = await waiting.get()
            ready.put(await work(item))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(worker())
    except asyncio.CancelledError:
        ready.put(TransientError("The connection to Graph was closed.", reason="closed"))
        raise
    except BaseExceptionGroup as failures:
        ready.put(failures.exceptions[0])


def _put_all(waiting: asyncio.Queue[T], items: Iterable[T]) -> None:
    for item in items:
        waiting.put_nowait(item)


async def _hire(crew: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(crew)


async def _dismiss(crew: asyncio.Task[None]) -> None:
    """Wait until no worker touches a draft any more."""
    crew.cancel()
    await asyncio.gather(crew, return_exceptions=True)


def _drop_all(ready: queue.SimpleQueue[R | BaseException], drop: Callable[[R], None]) -> None:
    while True:
        try:
            result = ready.get_nowait()
        except queue.Empty:
            return
        if not isinstance(result, BaseException):
            drop(result)


async def _wind_up(last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await last()
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
