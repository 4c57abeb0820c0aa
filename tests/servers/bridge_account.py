"""The Proton account behind the double of Bridge: what is stored, and what is refused.

As strict as what is known of Bridge 3.22 and its IMAP library, and stricter in doubt.
"""

from __future__ import annotations

import base64
import email.policy
import itertools
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.errors import CloseBoundaryNotFoundDefect, NoBoundaryInMultipartDefect
from email.headerregistry import HeaderRegistry
from pathlib import Path

SYSTEM = {
    "INBOX": b"",
    "Sent": b"\\Sent",
    "Drafts": b"\\Drafts",
    "Archive": b"\\Archive",
    "Spam": b"\\Junk",
    "Trash": b"\\Trash",
    "Starred": b"\\Flagged",
    "All Mail": b"\\All",
    "Folders": b"\\Noselect",
    "Labels": b"\\Noselect",
    "Recovered Messages": b"",
}
KEPT = (b"\\Seen", b"\\Flagged", b"\\Answered", b"\\Draft", b"\\Deleted")
GLUON_ID = b"X-Pm-Gluon-Id"
_VALIDITY = itertools.count(1_700_000_001)
_FIELDS = HeaderRegistry()


@dataclass(eq=False)
class Stored:
    """One message of the account; the mailboxes it lies in share it.

    Attributes:
        given: the bytes as they were appended.
        literal: the bytes as they are handed out.
        sent: Proton would show it as sent by the account, not as received.
    """

    given: bytes
    literal: bytes
    date: str
    sent: bool
    flags: set[bytes]


@dataclass(eq=False)
class Box:
    """A mailbox: UID → message."""

    name: str
    attribute: bytes = b""
    validity: int = field(default_factory=lambda: next(_VALIDITY))
    next: int = 1
    held: dict[int, Stored] = field(default_factory=dict)

    def add(self, message: Stored) -> int:
        uid, self.next = self.next, self.next + 1
        self.held[uid] = message
        return uid


class Refused(Exception):
    """How a command ends that is not done: NO or BAD, and the words."""

    def __init__(self, status: bytes, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


class Bridge:
    """The account behind the double, and its switches.

    Attributes:
        rebuild: hand every message out as Python's email package writes it anew.
        depth: how deep folders may be nested.
        refuse: messages with this in them are not imported.
        fall_after: kill the connection during this many more APPENDs, before the answer.
    """

    user = "alice@proton.example"
    password = "bridge-generated"

    def __init__(self, *, max_bytes: int = 50_000_000) -> None:
        self.port = 0
        self.cert = Path()
        self.max_bytes = max_bytes
        self.rebuild = False
        self.depth = 3
        self.refuse: re.Pattern[bytes] | None = None
        self.fall_after: int | None = None
        self.logins = self.appends = self.open = self.most_open = 0
        self.lock = threading.RLock()
        self.boxes = {name: Box(name, attribute) for name, attribute in SYSTEM.items()}

    def box(self, name: str) -> list[Stored]:
        """The messages of a mailbox."""
        return list(self.boxes[name].held.values())

    def everything(self) -> list[Stored]:
        """Every message once, but for `Recovered Messages`."""
        found = {
            id(message): message
            for name, box in self.boxes.items()
            if name != "Recovered Messages"
            for message in box.held.values()
        }
        return list(found.values())

    def named(self, name: str) -> Box | None:
        return self.boxes.get("INBOX" if name.upper() == "INBOX" else name)

    def create(self, name: str) -> None:
        kind, *rest = name.split("/")
        if kind not in {"Folders", "Labels"} or not rest or not all(rest):
            raise Refused(b"NO", "operation not allowed")
        if name in self.boxes:
            raise Refused(b"NO", "a mailbox with that name already exists")
        if len(rest) > (1 if kind == "Labels" else self.depth):
            raise Refused(b"NO", "operation not allowed")
        if "/".join((kind, *rest[:-1])) not in self.boxes:
            raise Refused(b"NO", "parent folder does not exist")
        taken = {each.rpartition("/")[2].casefold() for each in self.boxes if each not in SYSTEM}
        if rest[-1].casefold() in taken:
            raise Refused(b"NO", "A label or folder with this name already exists")
        self.boxes[name] = Box(name)

    def append(self, name: str, flags: list[bytes], literal: bytes) -> tuple[Box, int]:
        """What Bridge does with a message; Refused after it went to `Recovered Messages` or not."""
        box = self.named(name)
        if box is None or box.attribute == b"\\Noselect":
            raise Refused(b"NO", "[TRYCREATE] no such mailbox")
        head = _head(literal)
        if name != "Drafts":
            _gate(head)
        if (known := head.get("x-pm-gluon-id")) and name != "Drafts":
            raise Refused(b"NO", f"known message {known}")
        if len(literal) > self.max_bytes:
            raise Refused(b"NO", "message exceeds size limits")
        try:
            return box, self._import(box, head, flags, literal)
        except Refused:
            self.boxes["Recovered Messages"].add(Stored(literal, literal, "", False, set()))
            raise

    def _import(self, box: Box, head: dict[str, str], flags: list[bytes], literal: bytes) -> int:
        for each in ("to", "cc", "bcc"):
            if each in head and not _addresses(each, head[each]):
                raise Refused(b"NO", f"failed to parse addresses for {each}")
        if box.name in {"All Mail", "Starred", "Recovered Messages"}:
            raise Refused(b"NO", "operation not allowed")
        if self.refuse and self.refuse.search(literal):
            raise Refused(b"NO", "36026: message cannot be imported")
        if b"\0" in literal or max(map(len, literal.split(b"\r\n"))) > 9_990:
            raise Refused(b"NO", "36026: message cannot be parsed")
        _decodable(literal)
        sent = box.name == "Sent" or (
            box.name not in {"INBOX", "Drafts"} and "received" not in head
        )
        kept = {each for each in flags if each in KEPT}
        stored = Stored(literal, self._built(literal), head.get("date", ""), sent, kept)
        self.boxes["All Mail"].add(stored)
        if b"\\Flagged" in kept:
            self.boxes["Starred"].add(stored)
        return box.add(stored)

    def _built(self, literal: bytes) -> bytes:
        """Every message gets a name of Bridge's own; multiparts without text are written anew."""
        parsed = message_from_bytes(literal)
        bare = parsed.is_multipart() and not any(
            part.get_content_maintype() == "text" for part in parsed.walk()
        )
        if bare or self.rebuild:
            if bare:
                parsed.preamble = "written anew"
            with suppress(Exception):
                literal = parsed.as_bytes(policy=email.policy.SMTP.clone(refold_source="none"))
        return GLUON_ID + b": %d\r\n" % (len(self.boxes["All Mail"].held) + 1) + literal


def _decodable(literal: bytes) -> None:
    """Bridge takes every message apart and decodes its parts before it imports it."""
    for part in message_from_bytes(literal).walk():
        if any(isinstance(each, _FATAL) for each in part.defects):
            raise Refused(b"NO", "multipart: NextPart: EOF")
        content = part.get_payload()
        if isinstance(content, str):
            _decoded(str(part.get("Content-Transfer-Encoding", "7bit")).strip().lower(), content)


_FATAL = (CloseBoundaryNotFoundDefect, NoBoundaryInMultipartDefect)


def _decoded(encoding: str, content: str) -> None:
    if encoding == "base64":
        try:
            base64.b64decode(re.sub(r"[\r\n]", "", content), validate=True)
        except ValueError:
            raise Refused(b"NO", "illegal base64 data") from None
    elif encoding == "quoted-printable":
        if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|=[ \t]+\r?\n", content):
            raise Refused(b"NO", "invalid unescaped byte in body")
    elif encoding not in {"7bit", "8bit", "binary", ""}:
        raise Refused(b"NO", "encoding error: unhandled encoding")


def _head(literal: bytes) -> dict[str, str]:
    """The first field of each name; raises as Bridge's own parser does."""
    fields: dict[str, str] = {}
    block = re.sub(rb"\r\n[ \t]+", b" ", literal.partition(b"\r\n\r\n")[0])
    for line in filter(None, block.split(b"\r\n")):
        name, colon, value = line.partition(b":")
        if not colon:
            continue
        if not name or re.search(rb"[^!-~]", name) or value.startswith(b":"):
            raise Refused(b"BAD", "header field name is not ASCII")
        if re.search(rb"[\x80-\xff]", value):
            raise Refused(b"BAD", "8-bit header")
        fields.setdefault(name.decode().lower(), value.decode().strip())
    return fields


def _gate(head: dict[str, str]) -> None:
    if not head.get("date"):
        raise Refused(b"BAD", "Required header field 'Date' not found or empty")
    if not head.get("from"):
        raise Refused(b"BAD", "Required header field 'From' not found or empty")
    authors = _addresses("from", head["from"])
    if not authors:
        raise Refused(b"BAD", "failed to parse From header")
    sender = head.get("sender")
    if len(authors) > 1 and not sender:
        raise Refused(b"BAD", "Required header field 'Sender' not found or empty")
    if sender is not None and len(_addresses("sender", sender)) != 1:
        raise Refused(b"BAD", "failed to parse Sender header")


def _addresses(name: str, value: str) -> list[str]:
    """Who is named, by Python's own strict parser; empty when it finds a fault."""
    parsed = _FIELDS("to" if name == "sender" else name, value)
    faults = [
        each for each in parsed.defects
        if "Obsolete" not in type(each).__name__ and "encoded" not in str(each)
    ]  # fmt: skip
    named = [each.addr_spec for each in parsed.addresses]
    if (
        faults
        or not parsed.groups
        or any(not each.username or not each.domain for each in parsed.addresses)
    ):
        return []
    return named or ["a group without members"]
