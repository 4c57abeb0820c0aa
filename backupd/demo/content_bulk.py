"""As many messages as a scale test wants, each made when it is asked for."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

from backupd.demo.moments import ago, stamp

if TYPE_CHECKING:
    from datetime import datetime

    from backupd.demo.calls import Json
    from backupd.demo.mailbox import Mailbox, MailFolder
    from backupd.demo.mime_facts import Part

_WORDS = ("case", "file", "hearing", "court", "crane", "harbour", "appeal", "notice", "wages")
_LINE = 12
_SENDER = "archive@harbourlight.example"
_OLDEST_DAYS = 3_650
_HEAVY_EVERY = 50
_LIGHT, _HEAVY = 40, 1_200


class BulkContent:
    """One made message: its bytes depend on owner, seed and number alone."""

    __slots__ = ("_number", "_owner")

    def __init__(self, owner: str, number: int) -> None:
        self._owner = owner
        self._number = number

    @property
    def sent(self) -> datetime:
        """Spread evenly over ten years."""
        return ago(days=_OLDEST_DAYS) + timedelta(minutes=self._number * 7 % (_OLDEST_DAYS * 1_440))

    def mime(self) -> bytes:
        """Between 3 and 90 kB of plain text."""
        heavy = self._number % _HEAVY_EVERY == 0
        digest = hashlib.shake_128(f"{self._owner}/{self._number}".encode())
        letters = digest.digest((_HEAVY if heavy else _LIGHT) * _LINE)
        words = [_WORDS[byte % len(_WORDS)] for byte in letters]
        lines = [" ".join(words[at : at + _LINE]) for at in range(0, len(words), _LINE)]
        return "\r\n".join([*self._head(), "", *lines, ""]).encode()

    def facts(self) -> Json:
        """The properties, without making the bytes."""
        sender = {"emailAddress": {"name": _SENDER, "address": _SENDER}}
        owner = {"emailAddress": {"name": self._owner, "address": self._owner}}
        return {
            "subject": f"Archived case {self._number}",
            "internetMessageId": self._message_id(),
            "from": sender,
            "sender": sender,
            "toRecipients": [owner],
            "ccRecipients": [],
            "bccRecipients": [],
            "replyTo": [],
            "sentDateTime": stamp(self.sent),
            "importance": "normal",
            "isReadReceiptRequested": False,
            "hasAttachments": False,
        }

    def parts(self) -> list[Part]:
        """None."""
        return []

    def _message_id(self) -> str:
        return f"<bulk.{self._number}@{self._owner.partition('@')[2]}>"

    def _head(self) -> list[str]:
        return [
            f"From: {_SENDER}",
            f"To: {self._owner}",
            f"Subject: Archived case {self._number}",
            f"Date: {format_datetime(self.sent)}",
            f"Message-ID: {self._message_id()}",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=us-ascii",
        ]


def write_bulk(mailbox: Mailbox, folder: MailFolder, owner: str, count: int) -> None:
    """Lay `count` made messages into a folder."""
    read: Json = {"isRead": True}
    for number in range(count):
        content = BulkContent(owner, number)
        mailbox.add(folder, content, content.sent).props = read  # one object for all
