"""Mail of realistic sizes and contents, the same on every run, and mirrors full of it without a source.

Sizes follow what the mailboxes of offices look like: a median of some 8 kB (text and HTML), a heavy tail (sigma 1.2), and
every eighth message with an attachment out of a common stock, some of which a whole team has got.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backupd.catalog import NewItem, dumps
from backupd.catalog.rows import FolderRow, id_of
from backupd.home import Home, home_of
from backupd.mirror.index import render_dirty
from backupd.model import Account, AccountKind, Service

SEED = 20_240_229
MEDIAN, SIGMA, LARGEST = 6_000, 1.2, 1 << 20
ATTACHED_EVERY = 8
STOCK, SMALLEST, BIGGEST = 400, 20_000, 3 << 20
FIRST = datetime(2016, 1, 1, tzinfo=UTC)
WORDS = 6_000


@dataclass(frozen=True)
class Mail:
    """One message: when it was received, and its bytes."""

    number: int
    received: datetime
    subject: str
    body: bytes


class Writer:
    """Writes messages as a house full of people does; every one depends on seed and number alone.

    Args:
        attachments: whether there are any; without them messages are what the text makes them.
    """

    def __init__(self, seed: int = SEED, *, attachments: bool = True) -> None:
        self._seed = seed
        chance = random.Random(SEED)
        letters = "eeeeetttaaooiinnsshhrrddlluucmfwypvbgk"
        self._words = ["".join(chance.choices(letters, k=chance.randint(2, 11))) for _ in range(WORDS)]  # fmt: skip
        self._weights = [1 / (rank + 3) for rank in range(WORDS)]
        self._attachments = attachments

    def mail(self, number: int, count: int) -> Mail:
        """The message of this number among so many, spread over ten years."""
        chance = random.Random(f"{self._seed}/{number}")
        received = FIRST + timedelta(seconds=number * 315_360_000 // max(count, 1))
        subject = " ".join(chance.choices(self._words, k=chance.randint(2, 7)))
        parts = [self._head(chance, number, received, subject), self._text(chance)]
        if self._attachments and number % ATTACHED_EVERY == 0:
            parts.append(_attached(chance))
        parts.append(b"\r\n--=_b--\r\n")
        return Mail(number, received, subject, b"".join(parts))

    def _head(self, chance: random.Random, number: int, received: datetime, subject: str) -> bytes:
        hops = "".join(f"Received: from mx{chance.randrange(9)}.example.org ([192.0.2.{chance.randrange(255)}]) by mail.contoso.example\r\n\twith ESMTPS id {chance.getrandbits(64):016x}; {received:%a, %d %b %Y %H:%M:%S} +0000\r\n" for _ in range(3))  # fmt: skip
        return (
            f"{hops}DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=k1; b={base64.b64encode(chance.randbytes(256)).decode()}\r\n"
            f"From: Person {number % 97} <p{number % 97}@example.org>\r\nTo: us@contoso.example\r\nSubject: {subject}\r\n"
            f"Date: {received:%a, %d %b %Y %H:%M:%S} +0000\r\nMessage-ID: <{number}.{chance.getrandbits(64):x}@example.org>\r\n"
            'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=_b"\r\n\r\n'
            "--=_b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
        ).encode()

    def _text(self, chance: random.Random) -> bytes:
        size = min(LARGEST, int(chance.lognormvariate(0, SIGMA) * MEDIAN))
        words = chance.choices(self._words, weights=None, k=max(1, min(size, 60_000) // 8))
        lines = [" ".join(words[at : at + 12]) for at in range(0, len(words), 12)]
        text = "<p>" + "</p>\r\n<p>".join(lines) + "</p>\r\n"
        return (text * max(1, size // max(len(text), 1))).encode()


def _attached(chance: random.Random) -> bytes:
    """An attachment out of the stock; the first ones are known to everybody."""
    which = min(STOCK - 1, int(chance.expovariate(1 / 60)))
    own = random.Random(f"stock/{which}")
    size = min(BIGGEST, int(own.lognormvariate(0, 1.1) * 90_000) + SMALLEST)
    encoded = base64.encodebytes(own.randbytes(size)).replace(b"\n", b"\r\n")
    head = f'\r\n--=_b\r\nContent-Type: application/pdf; name="{which}.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    return head.encode() + encoded


def home_for(state: Path, address: str, source: str = "contoso") -> Home:
    """An empty account with an inbox, as after a sync that found nothing."""
    home = home_of(state, source, address)
    account = Account(address, address, address, AccountKind.USER, source, frozenset({Service.MAIL}))  # fmt: skip
    with home.writing() as catalog:
        home.remember(account)
        home.mirror().make_folder("mail/Inbox")
        with catalog.transaction() as session:
            session.add(FolderRow(service=Service.MAIL, source_id="inbox", name="Inbox", local="Inbox", fold="inbox", path="mail/Inbox", complete=True))  # fmt: skip
            catalog.put(f"synced:{Service.MAIL}", "1700000000")
            catalog.touched()
    return home


def lay(home: Home, mails: Iterator[Mail]) -> int:
    """Put messages into mirror, catalog and index, as a sync leaves them; their bytes in all."""
    total = 0
    with home.writing() as catalog:
        inbox = id_of(catalog.collections()[0])
        rows: list[NewItem] = []
        places: set[tuple[int, str]] = set()
        for mail in mails:
            row = _row(inbox, mail)
            path = home.mirror_path / "mail/Inbox" / row.name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_bytes(mail.body)
            rows.append(row)
            places.add((inbox, row.name.partition("/")[0]))
            total += len(mail.body)
        with catalog.transaction():
            catalog.add_items(rows)
            catalog.mark_dirty(places)
            catalog.touched()
        render_dirty(catalog, home.mirror())
    return total


def _row(inbox: int, mail: Mail) -> NewItem:
    key = hashlib.sha256(f"key/{mail.number}".encode()).hexdigest()
    name = (
        f"{mail.received:%Y-%m}/{mail.received:%Y%m%dT%H%M%SZ}_{mail.subject[:60]}_{key[:13]}.eml"
    )
    stamp = f"{mail.received:%Y-%m-%dT%H:%M:%SZ}"
    about = dumps({"subject": mail.subject, "received": stamp, "seen": True, "flagged": False})
    facts = dumps({"id": key, "receivedDateTime": stamp, "subject": mail.subject, "changeKey": key[:40], "parentFolderId": key * 2})  # fmt: skip
    return NewItem(
        Service.MAIL, 0, inbox, inbox, f"id{mail.number}", key[:24], "1", name, name.lower(), len(mail.body),
        hashlib.sha256(mail.body).hexdigest(), facts, about, "", 1,
    )  # fmt: skip
