"""Several deliveries at once: letters are dealt out by their hash, answers come back in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from backupd.imap.writer import BATCH, BATCH_BYTES
from backupd.ports import Parcel, Put
from targets.imap.lane import Delivered, Delivery, Ticket

AHEAD = 2
"""Batches that may wait for one connection."""


class Crew:
    """A thread for each delivery; answers come in the order in which batches were filled."""

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self._deliveries = deliveries
        self._threads = [ThreadPoolExecutor(1) for _ in deliveries]
        self._filling: list[list[Ticket]] = [[] for _ in deliveries]
        self._bytes = [0 for _ in deliveries]
        self._running: deque[tuple[Future[Delivered], list[Ticket]]] = deque()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)
        for batch in (*self._filling, *(batch for _, batch in self._running)):
            for ticket in batch:
                ticket.letter.content.close()

    def take(self, ticket: Ticket) -> Iterator[tuple[Parcel, Put]]:
        """Take a letter; yields what is done meanwhile. Raises what ended a delivery."""
        place = int(ticket.letter.sha256[:8], 16) % len(self._deliveries)
        self._filling[place].append(ticket)
        self._bytes[place] += ticket.letter.size
        if len(self._filling[place]) >= BATCH or self._bytes[place] >= BATCH_BYTES:
            self._send(place)
            while len(self._running) > AHEAD * len(self._deliveries):
                yield from self._answers()
        while self._running and self._running[0][0].done():
            yield from self._answers()

    def finish(self) -> Iterator[tuple[Parcel, Put]]:
        """Send what is left and wait for every answer."""
        for place, batch in enumerate(self._filling):
            if batch:
                self._send(place)
        while self._running:
            yield from self._answers()

    def _send(self, place: int) -> None:
        batch, self._filling[place], self._bytes[place] = self._filling[place], [], 0
        future = self._threads[place].submit(self._deliveries[place].deliver, batch)
        self._running.append((future, batch))

    def _answers(self) -> Iterator[tuple[Parcel, Put]]:
        done = self._running.popleft()[0].result()
        yield from done.results
        if done.error is None:
            return
        for other, _ in self._running:  # what else was stored must be known before this ends
            if not other.cancel():
                yield from other.result().results
        raise done.error
