"""The rungs of the probe ladder that an IMAP server has: is it there, and does it let this mailbox in."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from backupd.cutoff.verdict import Cause, Evidence, cause_of
from backupd.errors import BackupdError
from backupd.model import Account

if TYPE_CHECKING:
    from backupd.config import Imap
    from sources.imap.mailbox import Mailboxes

BOX = 15.0
"""Seconds that one question may take."""

PORTS = {"tls": 993, "starttls": 143, "plain": 143}


def server(section: Imap) -> Iterator[Evidence]:
    """Whether anybody answers at the address; a server has no opinion of a whole organisation."""
    place = (section.host, section.port or PORTS[section.security])
    try:
        with socket.create_connection(place, timeout=BOX):
            yield _told(Cause.NONE, "", f"{section.host} takes connections.")
    except OSError as error:
        name = type(error).__name__
        yield _told(Cause.TRANSIENT, name, f"{section.host} cannot be reached ({name}).")


def mailbox(mailboxes: Mailboxes, account: Account) -> Iterator[Evidence]:
    """Log in (or be logged in) and open the inbox anew."""
    try:
        with mailboxes.lane(account) as lane:
            lane.examine(b"INBOX", anew=True)
    except BackupdError as error:
        yield _told(cause_of(error), error.code or error.reason, str(error))
    else:
        yield _told(Cause.NONE, "", f"The inbox of {account.address} opens.")


def _told(cause: Cause, code: str, said: str) -> Evidence:
    return Evidence(time.time(), "imap", cause, code, said)
