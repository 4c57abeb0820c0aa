"""What an IMAP server says of a message, and the same in the words that all providers share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from typing import Any

from backupd.imap.lister import Listed
from backupd.imap.session import decoded
from backupd.model import Facts

HEAD = 1 << 16
"""Bytes of a message in which its header is looked for."""
LONGEST = 1000
"""Characters of a header field that are kept in the index; the message keeps them all."""

_FIELD = re.compile(
    rb"^(subject|date|message-id)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE | re.MULTILINE
)
_END = re.compile(rb"\r?\n\r?\n")
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
    return {"flags": sorted(each for each in flags if each.lower() != "\\recent")}


def of_header(head: bytes) -> Facts:
    """Subject, date and Message-ID from the beginning of a message."""
    if end := _END.search(head):
        head = head[: end.start() + 1]
    facts: dict[str, Any] = {}
    for name, value in _FIELD.findall(head):
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
    flags = [str(each) for each in facts.get("flags") or ()]
    lowered = {each.lower() for each in flags}
    said: dict[str, Any] = {word: facts.get(word) for word in _TOLD}
    said |= {word: flag.lower() in lowered for flag, word in _WORDS.items()}
    said["forwarded"] = "$forwarded" in lowered or None
    keywords = [each for each in flags if not each.startswith("\\")]
    said["categories"] = [decoded(each.encode()) for each in keywords if each.lower() not in _OURS]
    return {word: value for word, value in said.items() if value not in (None, "", [])}


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
    whole = text.encode("utf-8", "replace").decode()
    return _SPACE.sub(" ", whole)[:LONGEST]


def _sent(text: str) -> str:
    try:
        found = parsedate_to_datetime(text)
        return written(found if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""


def written(moment: datetime) -> str:
    """RFC 3339 in UTC; raises OverflowError at the ends of time."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
