"""Identifiers that look and behave like Exchange's and SharePoint's.

A default ("REST") id carries the item's incarnation: it changes when the item moves, and the
old one stops resolving. An immutable id carries only the item's number. Some ids contain a
slash, as some real ones do, so that a client which does not encode them fails here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from dataclasses import dataclass
from enum import IntEnum

_REST_MARK = b"\x00\x03\x24\x00"
_IMMUTABLE_MARK = b"\x00\x09\x00\x2e\x00\x00\x00\x00\x00"
_SLASHED_EVERY = 6


class Kind(IntEnum):
    """What an identifier names."""

    FOLDER = 1
    MESSAGE = 2
    ATTACHMENT = 3
    CALENDAR = 4
    EVENT = 5
    CONTACT_FOLDER = 6
    CONTACT = 7
    TASK_LIST = 8
    TASK = 9
    CALENDAR_GROUP = 10
    OCCURRENCE = 11


@dataclass(frozen=True, slots=True)
class Reference:
    """What an identifier says: `incarnation` is None for an immutable id."""

    kind: Kind
    uid: int
    incarnation: int | None


class IdSpace:
    """The identifiers of one mailbox."""

    def __init__(self, owner: str) -> None:
        self._owner = owner.encode()
        self._key = hashlib.sha256(b"ids" + self._owner).digest()

    def rest(self, kind: Kind, uid: int, incarnation: int = 0) -> str:
        """The default id: new after every move."""
        core = bytes([kind]) + uid.to_bytes(6, "big") + incarnation.to_bytes(3, "big")
        return _text(_REST_MARK + self._owner + b"\x00\x46", self._sealed(core), uid)

    def immutable(self, kind: Kind, uid: int) -> str:
        """The id that survives moves."""
        core = bytes([kind]) + uid.to_bytes(6, "big")
        return _text(_IMMUTABLE_MARK + self._owner[:16], self._sealed(core), uid)

    def parse(self, text: str) -> Reference:
        """Read an id of this mailbox back; raises ValueError for anything else."""
        raw = _octets(text)
        for mark, length in ((_REST_MARK, 10), (_IMMUTABLE_MARK, 7)):
            if raw.startswith(mark):
                core = self._opened(raw, length)
                moves = int.from_bytes(core[7:], "big") if mark is _REST_MARK else None
                return Reference(Kind(core[0]), int.from_bytes(core[1:7], "big"), moves)
        raise ValueError("not an identifier")

    def change_key(self, uid: int, version: int) -> str:
        """The `changeKey` of a version of an item."""
        digest = hashlib.sha256(self._key + f"{uid}/{version}".encode()).digest()
        return base64.b64encode(b"\x09\x00\x00\x00\x16\x00\x00\x00" + digest[:20]).decode()

    def _sealed(self, core: bytes) -> bytes:
        check = hashlib.sha256(self._key + core).digest()
        mask = hashlib.sha256(self._key + check[:8]).digest()
        return _xor(core, mask) + check[:8]

    def _opened(self, raw: bytes, length: int) -> bytes:
        sealed = raw[-length - 8 :]
        check = sealed[length:]
        mask = hashlib.sha256(self._key + check).digest()
        core = _xor(sealed[:length], mask)
        if hashlib.sha256(self._key + core).digest()[:8] != check:
            raise ValueError("an identifier of another mailbox")
        return core


def _xor(short: bytes, long: bytes) -> bytes:
    size = len(short)
    mixed = int.from_bytes(short, "big") ^ int.from_bytes(long[:size], "big")
    return mixed.to_bytes(size, "big")


def _text(head: bytes, core: bytes, uid: int) -> str:
    filler = b"\x00" * ((2 - len(head) - len(core)) % 3)  # so that the text ends in "="
    text = base64.b64encode(head + filler + core).decode()
    if uid % _SLASHED_EVERY == 0:
        return text.replace("+", "-")
    return text.replace("+", "-").replace("/", "_")


def _octets(text: str) -> bytes:
    try:
        raw = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise ValueError("not an identifier") from problem
    return raw


def guid_of(*words: object) -> str:
    """A UUID that depends on `words` alone."""
    return str(uuid.UUID(bytes=hashlib.sha256(repr(words).encode()).digest()[:16], version=4))


def drive_item_id(drive: str, uid: int) -> str:
    """An id as SharePoint makes them: `01` and 32 letters and digits."""
    digest = hashlib.sha256(f"{drive}/{uid}".encode()).digest()[:20]
    return "01" + base64.b32encode(digest).decode()


def drive_id(owner: str) -> str:
    """A drive id as SharePoint makes them: `b!` and 64 characters."""
    return "b!" + base64.urlsafe_b64encode(hashlib.sha384(owner.encode()).digest()).decode()
