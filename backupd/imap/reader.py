"""Messages from a mailbox as a stream: from the socket into a sink, without a parser in between."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Generic, TypeVar

from backupd.errors import TransientError
from backupd.imap.wire import DIGITS, MONTHS, Answer, Sink, Untagged, Wire, number

S = TypeVar("S", bound=Sink)

_MONTHS = {name.lower(): n for n, name in enumerate(MONTHS, 1)}


class Digest:
    """A sink that keeps only the hash and the size."""

    def __init__(self) -> None:
        self._hash, self.size = hashlib.sha256(), 0

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""
        self._hash.update(data)
        self.size += len(data)
        return None

    def hexdigest(self) -> str:
        """SHA-256 of all bytes so far."""
        return self._hash.hexdigest()


@dataclass(frozen=True, slots=True)
class Header:
    """What a mailbox says of a message without its bytes."""

    uid: int
    size: int
    field: bytes = b""
    """The header field that was asked for, as it is; empty when there is none."""


@dataclass(frozen=True, slots=True)
class Message(Generic[S]):
    r"""A message that was read to its end.

    Attributes:
        flags: as the server writes them (`\Seen`, `$Forwarded`, `Red`).
        date: INTERNALDATE in UTC, or None where it is no date.
        size: RFC822.SIZE, which some servers only estimate.
        sink: what took its bytes.
    """

    uid: int
    flags: frozenset[str]
    date: datetime | None
    size: int
    sink: S


def uid_set(uids: Iterable[int]) -> bytes:
    """The shortest sequence set: `1:4,7`."""
    runs: list[list[int]] = []
    for uid in sorted(set(uids)):
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return b",".join(b"%d" % a if a == b else b"%d:%d" % (a, b) for a, b in runs)


def uids_of(text: str, limit: int = 100_000) -> tuple[int, ...]:
    """The UIDs of a set in their order; empty for what is no set of at most `limit` UIDs."""
    found: list[int] = []
    for part in text.split(","):
        first, colon, last = part.partition(":")
        if not first.isdecimal() or (colon and not last.isdecimal()) or len(part) > 2 * DIGITS:
            return ()
        low, high = sorted((int(first), int(last or first)))
        if high - low + len(found) >= limit:
            return ()
        found.extend(range(low, high + 1))
    return tuple(found)


def fetch_bodies(wire: Wire, uids: Sequence[int], make: Callable[[], S]) -> Iterator[Message[S]]:
    """The messages of the selected mailbox, each read into a sink of its own; nothing is marked as read.

    A UID that is not there is left out; one is never answered twice. Take at most some hundred UIDs at once. Raises TransientError.
    """
    if not uids:
        return
    waiting = set(uids)
    for message in read_bodies(wire, ask_bodies(wire, uids), make):
        if isinstance(message, Answer):
            yield from _rest(wire, message, sorted(waiting), make, alone=len(uids) == 1)
        elif message.uid in waiting:
            waiting.remove(message.uid)
            yield message


def ask_bodies(wire: Wire, uids: Iterable[int]) -> bytes:
    """Ask for messages, to be read later or while others are still on their way; returns the tag."""
    asked = b"UID FETCH %s (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"
    return wire.begin(asked % uid_set(uids))


def read_bodies(wire: Wire, tag: bytes, make: Callable[[], S]) -> Iterator[Message[S] | Answer]:
    """What comes until the answer to a tag, which is the last: whichever messages the server sends."""
    take = _into(make)
    while True:
        line = wire.line()
        if usual := _USUAL.fullmatch(line):
            yield _usual_message(wire, usual, make())
            continue
        response = wire.understood(line, tag, take)
        if isinstance(response, Answer):
            yield response
            return
        message = _message(response, make) if response else None
        if message is not None:
            yield message


_USUAL = re.compile(
    rb'\* [0-9]{1,19} FETCH \(UID ([0-9]{1,19}) FLAGS \(([^()"{}]*)\) INTERNALDATE "([^"\\]*)"'
    rb" RFC822\.SIZE ([0-9]{1,19}) BODY\[\] \{([0-9]{1,19})\}"
)
"""What nearly every server answers to `ask_bodies`; everything else goes through the parser."""


def _usual_message(wire: Wire, usual: re.Match[bytes], sink: S) -> Message[S]:
    uid, flags, date, told, size = usual.groups()
    wire.pour(int(size), sink)
    wire.close_list(wire.line())
    return Message(int(uid), flags_of(flags), moment(date), int(told), sink)


@lru_cache(maxsize=1000)
def flags_of(text: bytes) -> frozenset[str]:
    """The flags that stand between the brackets of a response."""
    return frozenset(each.decode("utf-8", "replace") for each in text.split())


def _rest(
    wire: Wire, answer: Answer, waiting: Sequence[int], make: Callable[[], S], *, alone: bool
) -> Iterator[Message[S]]:
    """After a refusal one by one: a single broken message must not hide the others."""
    if answer.ok or (answer.status == "NO" and alone):
        return
    if answer.status == "BAD":
        raise TransientError(f"The server does not hand out messages: {answer.words}")
    for uid in waiting:
        yield from fetch_bodies(wire, [uid], make)


def fetch_headers(wire: Wire, uids: int | Sequence[int], name: str) -> Iterator[Header]:
    """Size and one header field of messages: of these UIDs, or of all from one UID on. Raises TransientError."""
    which = b"%d:*" % uids if isinstance(uids, int) else uid_set(uids)
    field = name.encode("ascii")
    asked = b"UID FETCH %s (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (%s)])" % (which, field)
    for response in wire.responses(asked):
        if isinstance(response, Answer):
            if not response.ok:
                raise TransientError(f"The server does not list its messages: {response.words}")
            return
        header = _header(response)
        # `n:*` answers the last message even when it lies before n.
        if header and not (isinstance(uids, int) and header.uid < uids):
            yield header


def _header(response: Untagged) -> Header | None:
    values = values_of(response)
    uid = number(values.get("UID"))
    if not uid or "RFC822.SIZE" not in values:
        return None
    field = next((held for key, held in values.items() if key.startswith("BODY[HEADER")), b"")
    return Header(uid, number(values["RFC822.SIZE"]), field if isinstance(field, bytes) else b"")


def _into(make: Callable[[], S]) -> Callable[[bytes, int], Sink | None]:
    def take(before: bytes, size: int, /) -> Sink | None:  # noqa: ARG001 - a Taker
        return make() if before.rstrip().upper().endswith(b"BODY[]") else None

    return take


def _message(response: Untagged, make: Callable[[], S]) -> Message[S] | None:
    values = values_of(response)
    uid, body = number(values.get("UID")), values.get("BODY[]")
    if not uid or body is None or isinstance(body, list):
        return None
    if isinstance(body, bytes):  # a quoted string instead of a literal
        sink: S = make()
        sink.write(body)
    else:
        sink = body  # type: ignore[assignment]  # it came from `make`
    flags = values.get("FLAGS")
    return Message(
        uid,
        frozenset(each.decode("utf-8", "replace") for each in flags if isinstance(each, bytes))
        if isinstance(flags, list)
        else frozenset(),
        moment(values.get("INTERNALDATE")),
        number(values.get("RFC822.SIZE")),
        sink,
    )


def values_of(response: Untagged) -> dict[str, object]:
    """The pairs of a FETCH response; empty for any other one."""
    if response.kind != "FETCH" or not response.parts or not isinstance(response.parts[0], list):
        return {}
    flat = response.parts[0]
    return {
        name.decode("ascii", "replace").upper(): value
        for name, value in zip(flat[::2], flat[1::2], strict=False)
        if isinstance(name, bytes)
    }


def moment(value: object) -> datetime | None:
    """An INTERNALDATE in UTC (` 2-Jan-2023 04:05:06 +0100`), or None."""
    found = _DATE.fullmatch(value.decode("latin-1")) if isinstance(value, bytes) else None
    return moment_of(*found.groups()) if found else None


_DATE = re.compile(r" *(\d{1,2})-([A-Za-z]{3})-(\d{1,4}) (\d\d?):(\d\d?):(\d\d?) ([+-]\d{4}) *")


def moment_of(*told: str) -> datetime | None:
    """A moment in UTC from day, name of the month, year, hour, minute, second and zone (`+0100`); None for what is none."""
    day, month, year, hour, minute, second, zone = told
    try:
        number = _MONTHS[month.lower()]
        shift = _zone(zone)
        local = datetime(
            int(year), number, int(day), int(hour), int(minute), int(second), tzinfo=shift
        )
        return local if shift is UTC else local.astimezone(UTC)
    except (ValueError, KeyError, OverflowError):
        return None


@lru_cache(maxsize=200)
def _zone(text: str) -> timezone:
    """Raises ValueError for a shift of a day or more."""
    shift = timedelta(hours=int(text[1:-2]), minutes=int(text[-2:]))
    return timezone(-shift if text.startswith("-") else shift) if shift else UTC
