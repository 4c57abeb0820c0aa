"""What a mailbox holds, without the messages: UIDs, flags, dates, sizes, and what names the content.

Content has a name of its own where the server gives it one (EMAILID of RFC 8474, Dovecot's X-GUID, Gmail's
X-GM-MSGID). Elsewhere date, size and the hash of the whole header stand for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from backupd.errors import TransientError
from backupd.imap.reader import Digest, flags_of, moment, uid_set, uids_of, values_of
from backupd.imap.session import Session
from backupd.imap.wire import Answer, Sink, Untagged, number

AT_ONCE = 50_000
"""Messages up to which one SEARCH lists the UIDs: its answer is one line, and imaplib limits lines."""

LONGEST = 200
"""Characters of a server's name for content that are kept as they are."""

EMAILID, GUID, GMAIL, HEADER = "EMAILID", "X-GUID", "X-GM-MSGID", "BODY[HEADER]"
_ASK = {EMAILID: b"EMAILID", GUID: b"X-GUID", GMAIL: b"X-GM-MSGID", HEADER: b"BODY.PEEK[HEADER]"}
_LETTER = {EMAILID: "e", GUID: "g", GMAIL: "m", HEADER: "h"}


@dataclass(frozen=True, slots=True)
class Listed:
    """A message of a listing; `content` is empty when the server names none."""

    uid: int
    flags: tuple[str, ...]
    date: datetime | None
    size: int
    content: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A message whose flags are these now."""

    uid: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vanished:
    """UIDs that are no longer there, as a set."""

    uids: str


def naming(session: Session) -> str:
    """What this server names content by."""
    if session.can("OBJECTID"):
        return EMAILID
    if session.software.lower().startswith("dovecot"):
        return GUID
    return GMAIL if session.can("X-GM-EXT-1") else HEADER


def list_range(session: Session, first: int, last: int, by: str) -> Iterator[Listed]:
    """The messages with UIDs from `first` to `last`. Raises TransientError."""
    asked = b"UID FETCH %d:%d (UID FLAGS INTERNALDATE RFC822.SIZE %s)" % (first, last, _ASK[by])
    wire = session.wire
    tag = wire.begin(asked)
    while True:
        line = wire.line()
        listed: Listed | None
        if usual := _USUAL.fullmatch(line):
            listed = _usual(usual, by)
        else:
            response = wire.understood(line, tag, _digested)
            if isinstance(response, Answer):
                _demand(response)
                return
            listed = _listed(values_of(response), by) if response else None
        if listed and first <= listed.uid <= last:
            yield listed


_USUAL = re.compile(
    rb'\* [0-9]{1,19} FETCH \(UID ([0-9]{1,19}) FLAGS \(([^()"{}]*)\) INTERNALDATE "([^"\\]*)"'
    rb" RFC822\.SIZE ([0-9]{1,19}) (EMAILID|X-GUID|X-GM-MSGID) (\([^\s()\"\[\]{}]+\)|[^\s()\"\[\]{}]+)\)"
)
"""What servers answer whose messages have lasting names; everything else goes through the parser."""


def _usual(found: re.Match[bytes], by: str) -> Listed:
    uid, flags, date, size, name, content = found.groups()
    named = "" if name.decode() != by or content == b"NIL" else _name(content.strip(b"()"), by)
    return Listed(int(uid), _told(flags_of(flags)), moment(date), int(size), named)


def _listed(values: dict[str, object], by: str) -> Listed | None:
    if "FLAGS" not in values:
        return None
    date, size = moment(values.get("INTERNALDATE")), number(values.get("RFC822.SIZE"))
    return Listed(number(values.get("UID")), _flags(values), date, size, _content(values, by))


def list_content(session: Session, first: int, by: str) -> Iterator[tuple[int, str]]:
    """(UID, content) from one UID on. Raises TransientError."""
    more = b"INTERNALDATE RFC822.SIZE " if by == HEADER else b""
    asked = b"UID FETCH %d:* (UID %s%s)" % (first, more, _ASK[by])
    for values in _fetched(session, asked):
        if (uid := number(values.get("UID"))) >= first:
            yield uid, _content(values, by)


def list_flags(session: Session, uids: str) -> Iterator[Changed]:
    """The flags of a set of messages (`1:*` are all). Raises TransientError."""
    for values in _fetched(session, b"UID FETCH %s (UID FLAGS)" % uids.encode()):
        if (uid := number(values.get("UID"))) and "FLAGS" in values:
            yield Changed(uid, _flags(values))


def list_changes(
    session: Session, before: int, since: int, *, vanished: bool
) -> Iterator[Changed | Vanished]:
    """What changed below a UID since a modification number (RFC 7162). Raises TransientError."""
    if before <= 1:
        return
    tail = b" VANISHED" if vanished else b""
    asked = b"UID FETCH 1:%d (UID FLAGS) (CHANGEDSINCE %d%s)" % (before - 1, since, tail)
    for response in session.wire.responses(asked):
        if isinstance(response, Answer):
            _demand(response)
        elif response.kind == "VANISHED" and isinstance(response.parts[-1], bytes):
            yield Vanished(response.parts[-1].decode("ascii", "replace"))
        elif values := values_of(response):
            uid = number(values.get("UID"))
            if 0 < uid < before and "FLAGS" in values:
                yield Changed(uid, _flags(values))


def list_uids(session: Session, exists: int) -> list[int]:
    """Every UID of the open mailbox in order; a SEARCH that is shorter than it should be is not believed."""
    if not exists:
        return []
    if session.can("ESEARCH") and exists <= AT_ONCE:
        answer, seen = session.wire.command(b"UID SEARCH RETURN (ALL) ALL")
        found = _esearch(seen) if answer.ok else []
        if len(found) >= exists:
            return found
    asked = b"FETCH 1:* (UID)"
    found = sorted({number(values.get("UID")) for values in _fetched(session, asked)} - {0})
    if len(found) < exists:
        found = sorted({*found, *_by_position(session, exists)})
    return found


def list_uids_from(session: Session, first: int) -> list[int]:
    """The UIDs from one on, in order. Raises TransientError."""
    found = {number(each.get("UID")) for each in _fetched(session, b"UID FETCH %d:* (UID)" % first)}
    return sorted(uid for uid in found if uid >= first)


def still_there(session: Session, uids: Sequence[int]) -> set[int]:
    """Those that the open mailbox holds. Raises TransientError."""
    if not uids:
        return set()
    asked = b"UID FETCH %s (UID)" % uid_set(uids)
    return {number(values.get("UID")) for values in _fetched(session, asked)} & set(uids)


def _by_position(session: Session, exists: int) -> Iterator[int]:
    for start in range(1, exists + 1, 1000):
        asked = b"FETCH %d:%d (UID)" % (start, min(exists, start + 999))
        yield from (number(values.get("UID")) for values in _fetched(session, asked))


def _esearch(seen: Sequence[Untagged]) -> list[int]:
    for each in seen:
        if each.kind == "ESEARCH" and each.parts and isinstance(each.parts[-1], bytes):
            return sorted(uids_of(each.parts[-1].decode("ascii", "replace"), 2 * AT_ONCE))
    return []


def _fetched(session: Session, command: bytes) -> Iterator[dict[str, object]]:
    """The values of each FETCH response. Raises TransientError when the server refuses."""
    for response in session.wire.responses(command, _digested):
        if isinstance(response, Answer):
            _demand(response)
        elif values := values_of(response):
            yield values


def _digested(before: bytes, size: int, /) -> Sink | None:  # noqa: ARG001 - a Taker
    return Digest() if before.rstrip().upper().endswith(b"BODY[HEADER]") else None


def _demand(answer: Answer) -> None:
    if not answer.ok:
        raise TransientError(f"The server does not list its messages: {answer.words}")


def _flags(values: dict[str, object]) -> tuple[str, ...]:
    """In one order, without the mark that is another for every session."""
    flags = values.get("FLAGS")
    held = flags if isinstance(flags, list) else []
    return _told(
        frozenset(each.decode("utf-8", "replace") for each in held if isinstance(each, bytes))
    )


@lru_cache(maxsize=1000)
def _told(flags: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in flags if name.lower() != "\\recent"))


def _content(values: dict[str, object], by: str) -> str:
    """A letter for the kind of name, and the name; always the same for the same message."""
    held = values.get(by)
    if by == HEADER:
        held = _of_header(values, held)
    if isinstance(held, list) and held:
        held = held[0]
    return _name(held, by) if isinstance(held, bytes) and held else ""


def _name(held: bytes, by: str) -> str:
    name = held.decode("utf-8", "replace")
    long = len(name) > LONGEST
    return f"{_LETTER[by]}:{hashlib.sha256(held).hexdigest() if long else name}"


def _of_header(values: dict[str, object], header: object) -> bytes:
    if isinstance(header, bytes):  # a quoted string instead of a literal
        digest = Digest()
        digest.write(header)
        header = digest
    if not isinstance(header, Digest):
        return b""
    facts = (moment(values.get("INTERNALDATE")), number(values.get("RFC822.SIZE")))
    return hashlib.sha256(f"{facts} {header.hexdigest()}".encode()).hexdigest()[:32].encode()
