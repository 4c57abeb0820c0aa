"""Puts right what a killed run left behind: SIGKILL, power cut, full disk.

The journal was written before anything appeared in the mirror, so only what it names is looked
at; nothing is searched. Afterwards mirror and catalog agree again.
"""

from __future__ import annotations

from backupd.catalog import Catalog
from backupd.catalog.rows import JournalRow
from backupd.mirror.files import Mirror
from backupd.mirror.index import render_dirty
from backupd.sync.removal import finish_removals


def recover(catalog: Catalog, mirror: Mirror) -> None:
    """Bring mirror and catalog of an account back into agreement. Safe to call at any time."""
    mirror.empty_drafts()
    rows = catalog.journal_rows()
    for row in rows:
        _put_right(catalog, mirror, row)
    if rows:
        with catalog.transaction():
            catalog.clear_journal()
    for service in catalog.leaving():
        finish_removals(catalog, mirror, service)
    render_dirty(catalog, mirror)


def _put_right(catalog: Catalog, mirror: Mirror, row: JournalRow) -> None:
    if not mirror.exists(row.path):
        return
    if catalog.names_path(row.path):
        _trust_bytes(catalog, mirror, row.path)
    elif row.was is not None and not mirror.exists(row.was):
        mirror.rename(row.path, row.was)
        _trust_bytes(catalog, mirror, row.was)
    elif mirror.absolute(row.path).is_file():
        mirror.remove([row.path])


def _trust_bytes(catalog: Catalog, mirror: Mirror, path: str) -> None:
    """New bytes may have landed before their row: describe what lies there, and fetch it again."""
    item = catalog.item_at(path)
    if item is None:
        return
    sha256 = mirror.sha256(path)
    if sha256 == item.sha256:
        return
    with catalog.transaction() as session:
        item.sha256, item.size = sha256, mirror.absolute(path).stat().st_size
        item.version = ""
        session.add(item)
        catalog.touched()
