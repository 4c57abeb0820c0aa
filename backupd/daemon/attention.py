"""A job that can be stopped at a safe point, and seen to be alive, from outside.

The core is safe against being killed at any moment; a stop between two items or pages is only
politer, and repeats less. A source is wrapped, restic is stopped through its progress messages.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from backupd.model import Account, Collection, Gap, Item, Page, Service
from backupd.ports import Expecting, Failed, Fetched, Finding, Landing, Probing, Source
from backupd.vaults.restic import Message

T = TypeVar("T")


class Stopping(Exception):
    """A job was asked to end. No BackupdError: nothing failed, and nobody shall take it for an answer."""


class Attention:
    """Watches over one job.

    Attributes:
        what: the verb.
        mark: of the account, for log lines.
        seen: when it last made progress, by the monotonic clock.
    """

    def __init__(self, what: str, mark: str, *stops: threading.Event) -> None:
        self.what, self.mark = what, mark
        self.seen = time.monotonic()
        self._stops = stops

    def check(self) -> None:
        """Progress was made; raises Stopping when it shall go no further."""
        self.seen = time.monotonic()
        if any(each.is_set() for each in self._stops):
            raise Stopping(self.what)

    def listen(self, storage: str, message: Message) -> None:
        """What restic says is progress; an error raised here ends restic."""
        del storage, message
        self.check()

    def each(self, things: Iterable[T]) -> Iterator[T]:
        """The things, with a check before each."""
        with contextlib.ExitStack() as stack:
            if isinstance(things, Generator):
                stack.enter_context(contextlib.closing(things))
            for thing in things:
                self.check()
                yield thing


class Attended:
    """A source whose every step is seen, and ends when asked. See `backupd.ports.Source`."""

    def __init__(self, source: Source, attention: Attention) -> None:
        self.name = source.name
        self.recognises = source.recognises
        self.version = source.version
        self.describe = source.describe
        self._source = source
        self._attention = attention
        if isinstance(source, Probing):  # whoever asks for it must find what the source can do
            self.probe = source.probe
            self.warnings = source.warnings
        if isinstance(source, Expecting):
            self.expect = source.expect

    def accounts(self) -> Iterator[Account]:
        """Every account."""
        self._attention.check()
        return self._attention.each(self._source.accounts())

    def collections(self, account: Account, service: Service) -> Sequence[Collection | Gap]:
        """Every collection."""
        self._attention.check()
        return self._source.collections(account, service)

    def pages(self, account: Account, collection: Collection, cursor: str | None) -> Iterator[Page]:
        """The changes, page by page."""
        self._attention.check()
        return self._attention.each(self._source.pages(account, collection, cursor))

    def keys(self, account: Account, service: Service, ids: Sequence[str]) -> Mapping[str, str]:
        """Lasting keys."""
        self._attention.check()
        return self._source.keys(account, service, ids)

    def fetch(
        self, account: Account, collection: Collection, items: Iterable[Item], landing: Landing
    ) -> Iterator[Fetched | Failed]:
        """The bytes, item by item."""
        return self._attention.each(self._source.fetch(account, collection, items, landing))

    def locate(
        self, account: Account, service: Service, held: Mapping[str, Item]
    ) -> Mapping[str, str | None]:
        """Where items are."""
        self._attention.check()
        return self._source.locate(account, service, held)

    def check(self) -> Iterator[Finding]:
        """As the source does."""
        return self._source.check()

    def close(self) -> None:
        """Nothing: the connection belongs to all jobs."""
