"""A large estate without a source: catalogs written directly, the same on every run.

The rows are those that a sync of Graph mail leaves (some 700 bytes of facts, 230 of shared words), made by SQLite
itself, since a Python loop over a million of them would take longer than everything that is measured.
"""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from backupd.catalog.rows import FolderRow
from backupd.home import Home, home_of
from backupd.model import Account, AccountKind, Service

SEED = 20_240_229
FOLDERS = ("Inbox", "Sent Items", "Archive", "Clients", "Projects", "Deleted Items")
STORAGES = ("primary", "second")
SOURCE = "contoso"


def sizes(accounts: int, items: int) -> list[int]:
    """How many items each account holds: most are small, a few very large (log-normal, sigma 1)."""
    chance = random.Random(SEED)
    weights = [chance.lognormvariate(0, 1) for _ in range(accounts)]
    shares = [int(items * weight / sum(weights)) for weight in weights]
    shares[0] += items - sum(shares)
    return shares


def address(number: int) -> str:
    return f"person{number:04d}@contoso.example"


def build(state: Path, accounts: int, items: int) -> list[Home]:
    """An estate of so many accounts and items in all; each was synced and copied to two storages."""
    return [account(state, number, count) for number, count in enumerate(sizes(accounts, items))]


def account(state: Path, number: int, items: int) -> Home:
    home = home_of(state, SOURCE, address(number))
    services = frozenset({Service.MAIL})
    with home.writing() as catalog:
        home.remember(Account(f"id{number}", home.address, home.address, AccountKind.USER, SOURCE, services))  # fmt: skip
        with catalog.transaction() as session:
            for name in FOLDERS:
                session.add(FolderRow(service=Service.MAIL, source_id=name, name=name, local=name, fold=name.lower(), path=f"mail/{name}", complete=True))  # fmt: skip
            _marks(catalog)
    _fill(home.catalog_path, number, items)
    return home


def _marks(catalog: object) -> None:
    now = int(time.time())
    put = catalog.put  # type: ignore[attr-defined]
    put("revision", "1")
    put(f"synced:{Service.MAIL}", str(now - 120))
    for storage in STORAGES:
        put(f"snapshot:{storage}:id", "ab" * 32)
        put(f"snapshot:{storage}:time", str(now - 600))
        put(f"snapshot:{storage}:revision", "1")


def _fill(path: Path, number: int, items: int) -> None:
    """All items in one statement; the indexes are made afterwards, which is several times as fast."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous=OFF")
        database.execute("PRAGMA journal_mode=OFF")
        indexes = database.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'itemrow' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            database.execute(f"DROP INDEX {name}")
        database.execute("BEGIN")
        database.execute(_ITEMS, {"items": items, "account": number})
        for _, sql in indexes:
            database.execute(sql)
        database.execute("COMMIT")
        database.execute("PRAGMA journal_mode=WAL")


_ITEMS = """
WITH RECURSIVE
number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number LIMIT :items),
chance (n, r, h) AS (
  SELECT n, (n * 2654435761 + :account * 40503) % 1000003,
    printf('%08x%08x%08x%08x', (n * 2654435761) % 4294967296, (n * 40503 + :account) % 4294967296, n, :account) FROM number),
word (n, r, h, subject, at) AS (
  SELECT n, r, h,
    CASE r % 4 WHEN 0 THEN 'Re: ' WHEN 1 THEN 'Fwd: ' ELSE '' END
    || CASE r % 7 WHEN 0 THEN 'Invoice' WHEN 1 THEN 'Contract with Müller GmbH' WHEN 2 THEN 'Minutes of the meeting'
       WHEN 3 THEN 'Offer' WHEN 4 THEN 'Hearing moved to Thursday' WHEN 5 THEN 'Travel expenses' ELSE 'Delivery note' END
    || ' ' || (r % 9973) || CASE WHEN r % 3 = 0 THEN ' (project ' || (r % 211) || ')' ELSE '' END,
    strftime('%s', '2016-01-01') + n * 315360000 / (:items + 1)
  FROM chance),
stamped (n, r, h, subject, month, stamp, iso) AS (
  SELECT n, r, h, subject, strftime('%Y-%m', at, 'unixepoch'), strftime('%Y%m%dT%H%M%SZ', at, 'unixepoch'), strftime('%Y-%m-%dT%H:%M:%SZ', at, 'unixepoch')
  FROM word),
named (n, r, h, subject, iso, name) AS (
  SELECT n, r, h, subject, iso, month || '/' || stamp || '_' || replace(subject, ':', '%3A') || '_' || substr(h, 4, 13) || '.eml' FROM stamped)
INSERT INTO itemrow (service, scope, collection, folder, source_id, key, version, name, fold, size, sha256, facts, about, note, round, state, title)
SELECT 'MAIL', 0, 1 + r % 6, 1 + r % 6,
  'AAMkADY0ZmM3MThkLTdlMTctNDIyZC04ZTcyLTMzODZiMDE1OTVkNABGAAAe' || h, 'AAkALgAAAAAANjRmYzcxOGQtN2Ux' || h, substr(h, 1, 24),
  name, lower(name), 2000 + (r * r) % 90000, h || h,
  printf('{"categories":[],"changeKey":"CQAAABYAAAAQ%s","conversationId":"AAMkADY0ZmM3MThkLTdlMTctNDIyZC04ZTcyLTMzODZiMDE1OTVkNABGAAAe%s","flag":{"flagStatus":"notFlagged"},"hasAttachments":false,"importance":"normal","inferenceClassification":"focused","internetMessageId":"<%s@refuge-danube.example>","isDraft":false,"isRead":true,"lastModifiedDateTime":"%s","parentFolderId":"AAMkADY0ZmM3MThkLTdlMTctNDIyZC04ZTcyLTMzODZiMDE1OTVkNABGAAD-_6_v392iIJxLuTTXfVPky44=","receivedDateTime":"%s","sentDateTime":"%s","subject":"%s"}', h, h, h, iso, iso, iso, subject),
  printf('{"draft":false,"flagged":false,"message_id":"<%s@refuge-danube.example>","received":"%s","seen":true,"sent":"%s","subject":"%s"}', h, iso, iso, subject),
  '', 1, 0, subject
FROM named
"""
