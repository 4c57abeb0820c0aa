"""What has left the source leaves the mirror: last, confirmed, and only if the guard agrees.

Older snapshots keep it. The steps are states of the row (missing → gone → leaving), so a run
that is killed between them goes on where it was. How many went lately is kept beside them, in the
same transaction: the guard counts what goes within a day together.
"""

from __future__ import annotations

import json
import time

from backupd.catalog import Catalog, loads
from backupd.catalog.rows import GONE, HELD, LEAVING, MISSING, ItemRow
from backupd.mirror.files import Mirror
from backupd.mirror.index import render_dirty, shard_of
from backupd.mirror.tree import Tree
from backupd.model import Account, Item, Service
from backupd.ports import Source
from backupd.sync.guard import Guard

CHUNK = 500
"""Items confirmed or removed at a time."""
NOTES = 400
"""Removals that are noted one by one; beyond that the oldest are taken together."""


def settle(
    source: Source,
    account: Account,
    service: Service,
    catalog: Catalog,
    mirror: Mirror,
    guard: Guard,
) -> int:
    """Remove what is truly gone from a service; returns how many items.

    Of a frozen account nothing goes, not even an empty folder: what is missing stays missing and
    is asked about again when the freeze is over.

    Raises GuardTripped with everything still in place.
    """
    if not catalog.unsettled(service):
        return 0
    _confirm(source, account, service, catalog)
    gone = catalog.count(service, GONE)
    if gone and not _may_go(account, service, catalog, guard, gone):
        gone = 0
    if gone:
        with catalog.transaction():
            catalog.move_state(service, GONE, LEAVING)
            _note(catalog, service, guard, gone)
        finish_removals(catalog, mirror, service)
    render_dirty(catalog, mirror)  # a folder that is forgotten takes its marks along
    if not guard.frozen:
        Tree(catalog, mirror).forget_empty(service)
        render_dirty(catalog, mirror)
    return gone


def _may_go(account: Account, service: Service, catalog: Catalog, guard: Guard, gone: int) -> bool:
    total = gone + catalog.count(service, HELD) + catalog.count(service, MISSING)
    allowed = False
    try:
        before = sum(count for _, count in _lately(catalog, service, guard.window))
        allowed = guard.allow(account, service, gone, total, before)
    finally:
        if not allowed:
            with catalog.transaction():
                catalog.move_state(service, GONE, MISSING)
    return allowed


def _lately(catalog: Catalog, service: Service, window: float) -> list[tuple[float, int]]:
    """When how many items went unasked, within the window."""
    noted: list[tuple[float, int]] = json.loads(catalog.get(f"removed:{service}") or "[]")
    now = time.time()
    return [(when, count) for when, count in noted if 0 <= now - when < window]


def _note(catalog: Catalog, service: Service, guard: Guard, gone: int) -> None:
    """What a person has looked at begins a new count."""
    noted = [] if guard.looked_at(service, gone) else _lately(catalog, service, guard.window)
    if not guard.looked_at(service, gone):
        noted.append((time.time(), gone))
    while len(noted) > NOTES:
        (_, first), (when, second), *rest = noted
        noted = [(when, first + second), *rest]
    catalog.put(f"removed:{service}", json.dumps(noted))


def _confirm(source: Source, account: Account, service: Service, catalog: Catalog) -> None:
    """Ask the source where each missing item is: listings are known to omit some."""
    last = 0
    while rows := catalog.missing(service, after=last, limit=CHUNK):
        last = rows[-1].id or last
        where = source.locate(account, service, {row.key: last_seen(row) for row in rows})
        with catalog.transaction() as session:
            for row in rows:
                if row.key in where:
                    _judge(catalog, row, where[row.key])
                    session.add(row)


def last_seen(row: ItemRow) -> Item:
    """An item as the source described it last."""
    return Item(row.source_id, loads(row.facts))


def _judge(catalog: Catalog, row: ItemRow, collection_id: str | None) -> None:
    """Gone, or still where we hold it. One that moved unlisted stays until it is listed there."""
    if collection_id is None:
        row.state = GONE
    elif catalog.folder(row.collection).source_id == collection_id:
        row.state = HELD


def finish_removals(catalog: Catalog, mirror: Mirror, service: Service) -> None:
    """Take leaving items out of the mirror, then out of the catalog."""
    while rows := list(catalog.items(service=service, state=LEAVING, limit=CHUNK)):
        folders = {row.folder: catalog.folder(row.folder) for row in rows}
        mirror.remove(f"{folders[row.folder].path}/{row.name}" for row in rows)
        with catalog.transaction():
            catalog.mark_dirty({(row.folder, shard_of(row.service, row.name)) for row in rows})
            catalog.drop_items(rows)
            catalog.touched()
