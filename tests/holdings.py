"""Accounts that are held, without a source: what status, alerts and figures look at."""

from __future__ import annotations

import time
from pathlib import Path

from backupd.app import App
from backupd.catalog.rows import FolderRow, ItemRow, RetryRow
from backupd.config import Config
from backupd.home import Home, home_of
from backupd.model import Account, AccountKind, Service

MINUTE, HOUR, DAY = 60, 3600, 86_400


def an_app(state: Path, **sections: object) -> App:
    """A configuration with one source and two storages, none of which is ever asked."""
    source = {"type": "imap", "host": "imap.invalid", "username": "nobody", "accounts": ["*", "!left@*"]}  # fmt: skip
    storage = {"repository": "/nowhere", "password_file": "/nowhere/password"}
    raw = {
        "state_dir": str(state),
        "sources": {"contoso": source},
        "storage": {"primary": dict(storage), "second": dict(storage)},
        **sections,
    }
    return App(Config.model_validate(raw))


def held(
    state: Path,
    address: str,
    *,
    synced: int | None = 2 * MINUTE,
    copies: dict[str, int] | None = None,
    amount: tuple[int, int] = (3, 0),
    behind: bool = False,
) -> Home:
    """An account: `synced` and `copies` are ages in seconds; `behind` when the mirror is newer.

    `amount` is how many items are held, and how many wait in the retry ledger.
    """
    home = home_of(state, "contoso", address)
    services = frozenset({Service.MAIL, Service.CALENDAR})
    account = Account(address, address, address, AccountKind.USER, "contoso", services)
    now = int(time.time())
    with home.writing() as catalog:
        home.remember(account)
        with catalog.transaction() as session:
            inbox = FolderRow(service=Service.MAIL, source_id="inbox", name="Inbox", local="Inbox", fold="inbox", path="mail/Inbox", complete=True)  # fmt: skip
            session.add(inbox)
            session.flush()
            assert inbox.id is not None
            for number in range(amount[0]):
                session.add(_item(inbox.id, number))
            for number in range(amount[1]):
                session.add(_retry(inbox.id, number, now))
            if synced is not None:
                for service in services:
                    catalog.put(f"synced:{service}", str(now - synced))
            catalog.touched()
        with catalog.transaction():
            for storage, age in ({"primary": 90, "second": HOUR} if copies is None else copies).items():  # fmt: skip
                catalog.put(f"snapshot:{storage}:id", "ab" * 32)
                catalog.put(f"snapshot:{storage}:time", str(now - age))
                catalog.put(f"snapshot:{storage}:revision", "0" if behind else str(catalog.revision))  # fmt: skip
    return home


def _item(folder: int, number: int) -> ItemRow:
    return ItemRow(
        service=Service.MAIL, collection=folder, folder=folder, source_id=f"id{number}", key=f"k{number}",
        version="1", name=f"2026-11/{number}.eml", fold=f"{number}", size=1000, sha256="0" * 64, facts="{}",
    )  # fmt: skip


def _retry(folder: int, number: int, now: int) -> RetryRow:
    return RetryRow(
        service=Service.MAIL, collection=folder, source_id=f"lost{number}", facts="{}", reason="unreadable",
        message="the server fails over it", first_seen=now, last_seen=now, next_try=now,
    )  # fmt: skip
