"""Recognises messages that a mailbox already holds: by size and Message-ID first, by content in the end.

Identical messages are matched as often as they are there, never merged. Memory is some thirty
bytes a message, whatever is in it.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import IO, Protocol

from backupd.errors import TransientError
from backupd.imap.reader import Digest, fetch_bodies, fetch_headers
from backupd.imap.session import Selected, Session

FIELD = "Message-ID"
HEAD = 1 << 18
AT_ONCE = 100
"""Messages in one FETCH."""
SLACK = 1 << 20
"""A server that changes a size by as much tells nothing by it."""
SHORT = 16
"""Bytes of a SHA-256 that are kept."""

_CLEAN = re.compile(rb"\s*message-id[ \t]*:[ \t\r\n]*(<[!-;=?-~]+>)\s*", re.IGNORECASE)
_MINE = re.compile(
    rb"^message-id[ \t]*:(?:[^\n]*\n)(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE
)
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True, slots=True)
class Want:
    """A message that is looked for. `size` None: unknown; `id` 0: it has no clean Message-ID."""

    sha256: str
    size: int | None
    id: int


def id_of(field: bytes) -> int:
    """Eight bytes that stand for exactly one well-formed Message-ID field, else 0."""
    found = _CLEAN.fullmatch(field)
    return _short(found[1]) if found else 0


def id_in(content: IO[bytes]) -> int:
    """The same of a message; its position is its beginning afterwards."""
    content.seek(0)
    head = content.read(HEAD)
    content.seek(0)
    if end := _END_OF_HEAD.search(head):
        head = head[: end.start() + 2]
    return id_of(b"".join(_MINE.findall(head)))


def id_named(message_id: object) -> int:
    """The same of a Message-ID that was written down elsewhere."""
    return id_of(f"Message-ID: {message_id}".encode("utf-8", "replace")) if message_id else 0


def _short(value: bytes) -> int:
    return int.from_bytes(hashlib.sha256(value).digest()[:8], "big") or 1


class Hashing(Protocol):
    """Takes the bytes of a message and says afterwards what stands for its content."""

    size: int

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""
        ...

    def hexdigest(self) -> str:
        """What letters are compared by: SHA-256 in hex."""
        ...


class Finder:
    """The messages of one mailbox from a UID on, as they were when it was made. Thread-safe.

    Args:
        slack: by how many bytes a server's idea of a size may differ from ours.
        digest: what a message is compared by; its bytes unless the server changes them.
    """

    def __init__(
        self, session: Session, mailbox: str, *, first: int = 1, slack: int = 0,
        digest: Callable[[], Hashing] = Digest,
    ) -> None:  # fmt: skip
        self._mailbox, self._slack, self._lock = mailbox, slack, Lock()
        self._digest = digest
        uids, sizes, ids = array("Q"), array("Q"), array("Q")
        opened = session.select(mailbox)
        self.validity = opened.validity if isinstance(opened, Selected) else 0
        if isinstance(opened, Selected) and opened.exists:
            for each in fetch_headers(session.wire, first, FIELD):
                uids.append(each.uid)
                sizes.append(each.size)
                ids.append(id_of(each.field))
        order = sorted(range(len(uids)), key=sizes.__getitem__)
        self._uids = array("Q", (uids[each] for each in order))
        self._sizes = array("Q", (sizes[each] for each in order))
        self._ids = array("Q", (ids[each] for each in order))
        self._by_id = array("Q")  # places in the order of ids, once somebody asks
        self._digests = bytearray(SHORT * len(order))
        self._state = bytearray(len(order))  # 1: digest known, 2: taken

    def __len__(self) -> int:
        return len(self._uids)

    def match(self, session: Session, wants: Sequence[Want]) -> list[int]:
        """For each the UID of a message with this content that nobody has taken yet, or 0.

        Raises TransientError.
        """
        with self._lock:
            places = [list(self._candidates(want)) for want in wants]
            unknown = sorted({p for some in places for p in some if not self._state[p] & 1})
            if unknown:
                self._learn(session, unknown)
            return [self._take(want, some) for want, some in zip(wants, places, strict=True)]

    def _candidates(self, want: Want) -> Iterator[int]:
        for place in self._near(want):
            # Both ids are clean and differ: other content. Anything less is decided by content.
            if not self._state[place] & 2 and not (
                want.id and self._ids[place] not in {0, want.id}
            ):
                yield place

    def _near(self, want: Want) -> Iterator[int]:
        """Places whose size fits, or, where sizes tell nothing, whose id does or is unclear."""
        if want.size is not None and self._slack < SLACK:
            low = bisect_left(self._sizes, want.size - self._slack)
            yield from range(low, bisect_right(self._sizes, want.size + self._slack))
            return
        if not want.id:
            yield from range(len(self._ids))
            return
        if len(self._by_id) != len(self._ids):
            self._by_id = array("Q", sorted(range(len(self._ids)), key=self._ids.__getitem__))
        for each in (0, want.id):
            low = bisect_left(self._by_id, each, key=self._ids.__getitem__)
            high = bisect_right(self._by_id, each, key=self._ids.__getitem__)
            yield from self._by_id[low:high]

    def _learn(self, session: Session, places: Sequence[int]) -> None:
        opened = session.select(self._mailbox)
        if not isinstance(opened, Selected) or opened.validity != self.validity:
            raise TransientError(
                f"The folder {self._mailbox} was replaced while we looked into it."
            )
        for start in range(0, len(places), AT_ONCE):
            by_uid = {self._uids[place]: place for place in places[start : start + AT_ONCE]}
            for found in fetch_bodies(session.wire, list(by_uid), self._digest):
                place = by_uid[found.uid]
                digest = bytes.fromhex(found.sink.hexdigest())[:SHORT]
                self._digests[SHORT * place : SHORT * (place + 1)] = digest
                self._state[place] |= 1

    def _take(self, want: Want, places: Sequence[int]) -> int:
        wanted = bytes.fromhex(want.sha256)[:SHORT]
        for place in places:
            known = self._state[place] == 1
            if known and self._digests[SHORT * place : SHORT * (place + 1)] == wanted:
                self._state[place] |= 2
                return self._uids[place]
        return 0
