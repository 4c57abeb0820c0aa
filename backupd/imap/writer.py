"""Messages into a mailbox: many in one command where the server can, one by one where it must.

What is not refused is stored; what a dropped connection leaves open stays None in the list of
outcomes, for the caller to look up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from backupd.imap.reader import uids_of
from backupd.imap.wire import CHUNK, MONTHS, Answer, Wire, quoted

BATCH = 50
"""Messages in one MULTIAPPEND, which is all or nothing."""
BATCH_BYTES = 2 << 20
LARGE = 1 << 20
"""From here on the server is asked before the bytes are sent: it may refuse the size."""
HALVED = 4
"""A refused command with fewer messages than this is taken apart at once."""
WINDOW = 16
"""Commands on their way at once where a server takes one message a command."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to store. `flags` are atoms; `date` None leaves it to the server."""

    content: IO[bytes]
    size: int
    flags: tuple[str, ...] = ()
    date: datetime | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a message lies now; zeros where the server does not say it."""

    validity: int = 0
    uid: int = 0


Outcome = Stored | Answer
"""Stored, or the answer that refused it."""


class Writer:
    """Appends to one mailbox. Not thread-safe.

    Args:
        many: the server takes several messages in one command (MULTIAPPEND).
        eager: the server takes literals without being asked (LITERAL+).
    """

    def __init__(self, wire: Wire, mailbox: str, *, many: bool, eager: bool) -> None:
        self._wire, self._many, self._eager = wire, many, eager
        self._mailbox = quoted(mailbox)

    def append(self, messages: Sequence[Outgoing], outcomes: list[Outcome | None]) -> None:
        """Store the messages; the outcome of each goes into `outcomes` at its place.

        Raises Dropped; then what is still None is unknown.
        """
        for group in _groups(messages):
            if len(group) > 1 and self._many:
                self._together(messages, group, outcomes)
            elif self._eager and messages[group[0]].size < LARGE:
                self._in_a_row(messages, group, outcomes)
            else:
                for index in group:
                    outcomes[index] = self._alone(messages[index])

    def _together(
        self, messages: Sequence[Outgoing], group: Sequence[int], outcomes: list[Outcome | None]
    ) -> None:
        """One command for all; halves of it when it is refused, until the culprit stands alone."""
        answer = self._command([messages[each] for each in group])
        if answer.ok:
            for index, stored in zip(group, _stored(answer, len(group)), strict=True):
                outcomes[index] = stored
            return
        if answer.status == "BAD" or len(group) < HALVED:
            # Now nothing is sent unasked: a server that lost count must not read the text of a
            # message as commands.
            for index in group:
                outcomes[index] = self._alone(messages[index])
            return
        middle = len(group) // 2
        self._together(messages, group[:middle], outcomes)
        self._together(messages, group[middle:], outcomes)

    def _command(self, messages: Sequence[Outgoing]) -> Answer:
        tag = self._wire.tag()
        if not self._eager:
            return self._asking(tag, messages)
        parts = [tag + b" APPEND " + self._mailbox]
        for each in messages:
            parts.append(_head(each, eager=True))
            parts.append(_bytes(each))
        parts.append(b"\r\n")
        self._wire.send(b"".join(parts))
        return self._wire.finish(tag)

    def _asking(self, tag: bytes, messages: Sequence[Outgoing]) -> Answer:
        """The same with literals that wait for the server's word."""
        line = tag + b" APPEND " + self._mailbox
        for each in messages:
            self._wire.send(line + _head(each, eager=False))
            if refused := self._wire.go_ahead(tag):
                return refused
            self._pour(each)
            line = b""
        self._wire.send(b"\r\n")
        return self._wire.finish(tag)

    def _pour(self, message: Outgoing) -> None:
        message.content.seek(0)
        left = message.size
        while left and (data := message.content.read(min(left, 4 * CHUNK))):
            self._wire.send(data)
            left -= len(data)
        if left:  # the server would take our next commands for the rest of the message
            raise self._wire.dropped(None)

    def _alone(self, message: Outgoing) -> Outcome:
        return _one(self._asking(self._wire.tag(), [message]))

    def _in_a_row(
        self, messages: Sequence[Outgoing], group: Sequence[int], outcomes: list[Outcome | None]
    ) -> None:
        """One command a message, the answers afterwards."""
        for start in range(0, len(group), WINDOW):
            window, tags = group[start : start + WINDOW], []
            for index in window:
                tags.append(tag := self._wire.tag())
                head = tag + b" APPEND " + self._mailbox + _head(messages[index], eager=True)
                self._wire.send(head + _bytes(messages[index]) + b"\r\n")
            for index, tag in zip(window, tags, strict=True):
                outcomes[index] = _one(self._wire.finish(tag))


def _groups(messages: Sequence[Outgoing]) -> Iterator[list[int]]:
    """Indices of what may share a command; a large message has one of its own."""
    group: list[int] = []
    size = 0
    for index, each in enumerate(messages):
        if group and (len(group) >= BATCH or size + each.size > BATCH_BYTES or each.size >= LARGE):
            yield group
            group, size = [], 0
        group.append(index)
        size += each.size
        if each.size >= LARGE:
            yield group
            group, size = [], 0
    if group:
        yield group


def _bytes(message: Outgoing) -> bytes:
    """All of a message; never more or less than is announced, or the rest would be commands."""
    message.content.seek(0)
    data = message.content.read()
    if len(data) != message.size:
        raise ValueError(f"a message of {len(data)} bytes was announced with {message.size}")
    return data


def _head(message: Outgoing, *, eager: bool) -> bytes:
    flags = f" ({' '.join(message.flags)})" if message.flags else ""
    date = f' "{internal_date(message.date)}"' if message.date else ""
    return f"{flags}{date} {{{message.size}{'+' if eager else ''}}}\r\n".encode()


def internal_date(date: datetime) -> str:
    """The date as APPEND wants it, in UTC."""
    utc = date.astimezone(UTC)
    return f"{utc.day:02d}-{MONTHS[utc.month - 1]}-{utc.year:04d} {utc:%H:%M:%S} +0000"


def _one(answer: Answer) -> Outcome:
    return _stored(answer, 1)[0] if answer.ok else answer


def _stored(answer: Answer, expected: int) -> list[Stored]:
    """Where the messages lie, by APPENDUID; nowhere known when it does not add up."""
    validity, _, text = answer.argument.partition(" ")
    uids = uids_of(text) if answer.code == "APPENDUID" and validity.isdecimal() else ()
    if len(uids) != expected:
        return [Stored()] * expected
    return [Stored(int(validity), uid) for uid in uids]
