"""One event loop in a thread of its own, and the plain blocking face that the rest sees."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, TypeVar

from backupd.errors import TransientError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 12
"""Items waiting per worker: enough that no worker starves, few enough that memory stays flat."""


SERVED = 16
"""Results handed over at once."""

HELD_BACK = 0.02
"""Seconds a result waits for others."""


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
        waiting: asyncio.Queue[T] = asyncio.Queue()
        tray: _Tray[R] = _Tray(self._loop)
        crew = self.call(_hire(_crew(waiting, tray, work, width)))
        try:
            for result in self._served(iter(items), waiting, tray, width):
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            if not self._closed:
                self.call(_dismiss(crew))
            for left in tray.leftovers():
                if not isinstance(left, BaseException):
                    drop(left)

    def _served(
        self, source: Iterator[T], waiting: asyncio.Queue[T], tray: _Tray[R], width: int
    ) -> Iterator[R | BaseException]:
        """Keep the crew busy from `source`, and take from the tray until nothing is owed."""
        owed, more = 0, True
        while True:
            if more and owed <= width:
                some = list(itertools.islice(source, width * AHEAD))
                more = len(some) == width * AHEAD
                owed += len(some)
                self._loop.call_soon_threadsafe(_put_all, waiting, some)
            if not owed:
                return
            yield tray.take()
            owed -= 1

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel what runs, run `last`, and end the thread; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(_wind_up(last), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Tray(Generic[R]):
    """Hands results to the caller's thread a few at a time: each hand-over wakes that thread.

    `put` and `serve` belong to the loop's thread, `take` and `leftovers` to the caller's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._served: queue.SimpleQueue[list[R | BaseException]] = queue.SimpleQueue()
        self._taken: deque[R | BaseException] = deque()
        self._loop = loop
        self._ready: list[R | BaseException] = []
        self._timer: asyncio.TimerHandle | None = None

    def put(self, result: R | BaseException) -> None:
        """One more result; served with others, or alone after HELD_BACK seconds."""
        self._ready.append(result)
        if len(self._ready) >= SERVED:
            self.serve()
        elif self._timer is None:
            self._timer = self._loop.call_later(HELD_BACK, self.serve)

    def serve(self) -> None:
        """Hand over what is ready."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._ready:
            self._served.put(self._ready)
            self._ready = []

    def take(self) -> R | BaseException:
        """The next result; waits for it."""
        if not self._taken:
            self._taken.extend(self._served.get())
        return self._taken.popleft()

    def leftovers(self) -> list[R | BaseException]:
        """What was never taken; only when nobody puts any more."""
        left = [*self._taken, *self._ready]
        while not self._served.empty():
            left += self._served.get_nowait()
        return left


async def _crew(
    waiting: asyncio.Queue[T],
    tray: _Tray[R],
    work: Callable[[T], Awaitable[R]],
    width: int,
) -> None:
    """`width` workers; the first exception is put where the caller waits, whoever raises it."""

    async def worker() -> None:
        while True:
            if waiting.empty():
                tray.serve()  # the caller may be waiting for these before it gives more
            item = await waiting.get()
            tray.put(await work(item))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(worker())
    except asyncio.CancelledError:
        tray.put(TransientError("The connection to Graph was closed.", reason="closed"))
        tray.serve()
        raise
    except BaseExceptionGroup as failures:
        tray.put(failures.exceptions[0])
        tray.serve()


def _put_all(waiting: asyncio.Queue[T], items: Iterable[T]) -> None:
    for item in items:
        waiting.put_nowait(item)


async def _hire(crew: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(crew)


async def _dismiss(crew: asyncio.Task[None]) -> None:
    """Wait until no worker touches a draft any more."""
    crew.cancel()
    await asyncio.gather(crew, return_exceptions=True)


async def _wind_up(last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await last()
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
