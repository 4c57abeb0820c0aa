"""Items, settings and a second client for the tests that restore mail by IMAP."""

from __future__ import annotations

import imaplib
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from parcels import loaded, parcel
from servers.cyrus import Cyrus
from servers.dovecot import Dovecot

from backupd.model import Service
from backupd.ports import Claim, Parcel, Put, Shelf
from targets.endpoint import Endpoint
from targets.imap import Imap, naming

MAIL = Service.MAIL
RECEIVED = "2021-03-04T05:06:07Z"
Server = Dovecot | Cyrus


@contextmanager
def target(server: Server, user: str = "u1", **over: Any) -> Iterator[Imap]:
    strategies = {word: over.pop(word) for word in ("layout", "letters") if word in over}
    settings: dict[str, Any] = {
        "name": "there", "type": "imap", "account": user, "host": server.host, "port": server.imaps,
        "username": user, "secret": lambda: server.password, "ca_file": server.cert, **over,
    }  # fmt: skip
    made = Imap(Endpoint(**settings), **strategies)
    try:
        yield made
    finally:
        made.close()


def mail(number: int, text: str = "", *, padding: int = 0) -> bytes:
    return (
        f"From: a@example.org\r\nTo: b@example.org\r\nDate: Thu, 4 Mar 2021 05:06:07 +0000\r\n"
        f"Message-ID: <{number}@example.org>\r\nSubject: letter {number}\r\n\r\n{text}\r\n"
    ).encode() + (b"0123456789" * 7 + b"\r\n") * (padding // 72)


def packed(where: Shelf, bodies: Sequence[bytes], **about: Any) -> list[tuple[Parcel, bytes]]:
    about = {"received": RECEIVED, "seen": True, **about}
    return [(parcel(where, f"{n}.eml", body, about=about), body) for n, body in enumerate(bodies)]


def put(there: Imap, where: Shelf, pairs: Sequence[tuple[Parcel, bytes]], look: bool = False) -> list[tuple[Parcel, Put]]:  # fmt: skip
    there.make_collection(where)
    return list(there.put(where, loaded(pairs), look=look))


def states(results: Sequence[tuple[Parcel, Put]]) -> Counter[str]:
    return Counter(each.state for _, each in results)


def proofs(there: Imap, where: Shelf, results: Sequence[tuple[Parcel, Put]], deep: bool = True) -> Counter[tuple[str, str]]:  # fmt: skip
    claims = [Claim(each, done, deep) for each, done in results]
    return Counter((each.state, each.what) for each in there.read_back(where, claims))


@dataclass(frozen=True)
class Held:
    data: bytes
    flags: frozenset[str]
    date: datetime


@contextmanager
def other_client(server: Server, user: str = "u1") -> Iterator[imaplib.IMAP4]:
    client = imaplib.IMAP4(server.host, server.imap)
    client.login(user, server.password)
    try:
        yield client
    finally:
        client.logout()


def held(server: Server, where: str, user: str = "u1") -> list[Held]:
    """What an independent client finds in a mailbox; `where` is the address of a put or a raw name."""
    name = naming.encoded(where.rsplit(";", 2)[0]).decode()
    with other_client(server, user) as client:
        quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        answer, [count] = client.select(quoted, readonly=True)
        assert answer == "OK", count
        if count == b"0":
            return []
        _, parts = client.fetch("1:*", "(FLAGS INTERNALDATE BODY.PEEK[])")
    found = []
    for head, data in (each for each in parts if isinstance(each, tuple)):
        flags = re.search(rb"FLAGS \(([^)]*)\)", head)
        date = imaplib.Internaldate2tuple(head)
        assert flags
        assert date
        when = datetime.fromtimestamp(time.mktime(date), UTC)
        found.append(Held(data, frozenset(flags[1].decode().split()) - {"\\Recent"}, when))
    return found
