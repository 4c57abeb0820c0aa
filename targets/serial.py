"""For targets that take one item after the other: a few workers, each with one item in its hands."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TypeVar

from backupd.errors import IntegrityError, ItemError
from backupd.mirror.files import BUFFER
from backupd.ports import Claim, Parcel, Proof, Put, Reader

IN_MEMORY = 1 << 20
"""Bytes of an item that are held in memory; what is larger waits in a temporary file."""

T = TypeVar("T")


def spool(content: Reader) -> IO[bytes]:
    """All of an item, rewound, its hash checked by the reader. Raises IntegrityError."""
    held: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - handed out
    try:
        while data := content.read(BUFFER):
            held.write(data)
    except BaseException:
        held.close()
        raise
    held.seek(0)
    return held


def put_each(
    items: Iterable[tuple[Parcel, Reader]],
    put: Callable[[Parcel, IO[bytes]], Put],
    workers: int,
) -> Iterator[tuple[Parcel, Put]]:
    """Put every item by `put`, `workers` at a time; its ItemError and IntegrityError end that item only.

    `put` is called from several threads and gets the bytes rewound; any other error ends the iteration.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Parcel, IO[bytes], Future[Put]]] = deque()
        try:
            for parcel, content in items:
                held = _spooled(content)
                if isinstance(held, Put):
                    yield parcel, held
                    continue
                waiting.append((parcel, held, pool.submit(_put_one, put, parcel, held)))
                if len(waiting) >= 2 * workers:
                    yield _next(waiting)
            while waiting:
                yield _next(waiting)
        except BaseException:
            for _, held, future in waiting:
                if future.cancel():
                    held.close()
            raise


def _spooled(content: Reader) -> IO[bytes] | Put:
    try:
        return spool(content)
    except (ItemError, IntegrityError) as error:
        return Put.failed(error)


def _put_one(put: Callable[[Parcel, IO[bytes]], Put], parcel: Parcel, held: IO[bytes]) -> Put:
    with held:
        try:
            return put(parcel, held)
        except (ItemError, IntegrityError) as error:
            return Put.failed(error)


def _next(waiting: deque[tuple[Parcel, IO[bytes], Future[Put]]]) -> tuple[Parcel, Put]:
    parcel, _, future = waiting.popleft()
    return parcel, future.result()


def prove_each(
    claims: Iterable[Claim], prove: Callable[[Claim], Proof], workers: int
) -> Iterator[Proof]:
    """Read back every claim by `prove`, `workers` at a time."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Proof]] = deque()
        for claim in claims:
            waiting.append(pool.submit(prove, claim))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
