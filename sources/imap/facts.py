"""What an IMAP server says of a message, and the same in the words that all providers share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from backupd.imap.lister import Listed
from backupd.imap.reader import moment_of
from backupd.imap.session import decoded
from backupd.model import Facts

HEAD = 1 << 16
"""Bytes of a message in which its header is looked for."""
LONGEST = 1000
"""Characters of a header field that are kept in the index; the message keeps them all."""

_FIELD = re.compile(rb"\n(subject|date|message-id)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE)
_DATE = re.compile(
    r"(?:[A-Za-z]{3}, *)?(\d\d?) ([A-Za-z]{3}) (\d{4}) (\d\d):(\d\d):(\d\d) ([+-]\d{4})(?: \([^()]*\))?"
)
"""How nearly every Date is written; the others are for the library."""
_SPACE = re.compile(r"\s+")
_WORDS = {"\\Seen": "seen", "\\Flagged": "flagged", "\\Answered": "answered", "\\Draft": "draft"}


def id_of(collection: str, validity: int, uid: int) -> str:
    """The id of a message: its folder, the folder's numbering, its number."""
    return f"{collection}/{validity}/{uid}"


def place_of(item: str) -> tuple[str, int, int]:
    """What `id_of` was made of; zeros for what is none."""
    collection, validity, uid = (*item.rsplit("/", 2), "", "")[:3]
    if validity.isdecimal() and uid.isdecimal():
        return collection, int(validity), int(uid)
    return collection, 0, 0


def of_listing(listed: Listed) -> Facts:
    """The facts of a message that was listed."""
    facts: dict[str, Any] = {"flags": list(listed.flags), "size": listed.size}
    if listed.content:
        facts["content"] = listed.content
    if listed.date:
        facts["received"] = written(listed.date)
    return facts


def of_flags(flags: Iterable[str]) -> Facts:
    """The facts of a message of which only the flags are told."""
    return {"flags": list(_sorted(frozenset(flags)))}


@lru_cache(maxsize=1000)
def _sorted(flags: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(each for each in flags if each.lower() != "\\recent"))


def header_of(data: bytes) -> bytes:
    """The header at the beginning of a message, as far as it is there."""
    end = data.find(b"\n\r\n")
    bare = data.find(b"\n\n", 0, end if end >= 0 else HEAD)
    return data[: bare if bare >= 0 else end if end >= 0 else HEAD]


def of_header(head: bytes) -> Facts:
    """Subject, date and Message-ID from the beginning of a message."""
    facts: dict[str, Any] = {}
    for name, value in _FIELD.findall(b"\n" + header_of(head)):
        word, text = name.lower(), value.decode("utf-8", "replace").strip()[: 4 * LONGEST]
        if word == b"subject":
            facts.setdefault("subject", _clean(_readable(text)))
        elif word == b"date" and (sent := _sent(text)):
            facts.setdefault("sent", sent)
        elif word == b"message-id":
            facts.setdefault("message_id", _SPACE.sub("", text)[:LONGEST])
    return {word: value for word, value in facts.items() if value}


def version(facts: Facts) -> str:
    """What names the content; messages never change under their name."""
    return str(facts.get("content") or facts.get("message") or "")


def describe(facts: Facts) -> Facts:
    """The shared words for a message."""
    said: dict[str, Any] = {word: value for word in _TOLD if (value := facts.get(word))}
    return said | _marks(tuple(map(str, facts.get("flags") or ())))


@lru_cache(maxsize=1000)
def _marks(flags: tuple[str, ...]) -> dict[str, Any]:
    lowered = {each.lower() for each in flags}
    said: dict[str, Any] = {word: flag.lower() in lowered for flag, word in _WORDS.items()}
    if "$forwarded" in lowered:
        said["forwarded"] = True
    keywords = [each for each in flags if not each.startswith("\\")]
    if categories := [decoded(each.encode()) for each in keywords if each.lower() not in _OURS]:
        said["categories"] = categories
    return said


_TOLD = ("subject", "received", "sent", "message_id")
_OURS = frozenset({"$forwarded"})


def _readable(text: str) -> str:
    """Encoded words decoded, as far as they can be."""
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text


def _clean(text: str) -> str:
    """One line that every file and database takes."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text[:LONGEST]
    whole = text.encode("utf-8", "replace").decode()
    return _SPACE.sub(" ", whole)[:LONGEST]


def _sent(text: str) -> str:
    if usual := _DATE.fullmatch(text):
        moment = moment_of(*usual.groups())
        return written(moment) if moment else ""
    try:
        found = parsedate_to_datetime(text)
        return written(found if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""


def written(moment: datetime) -> str:
    """RFC 3339 in UTC; raises OverflowError at the ends of time."""
    there = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return there.isoformat(timespec="seconds").replace("+00:00", "Z")
