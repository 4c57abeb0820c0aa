"""One collection: its changes since the cursor, into the mirror and the catalog.

Bytes before names, cursor last: items go in batches (fetch, flush to disk, rename, rows), and
the cursor moves in the last transaction of its page. A killed run repeats a page and finds most
of it already there.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

from backupd.catalog import Catalog, loads
from backupd.catalog.rows import MISSING, UNTOLD, FolderRow, ItemRow, id_of
from backupd.errors import ItemGone
from backupd.mirror.files import Mirror
from backupd.mirror.index import render_dirty
from backupd.mirror.tree import Tree
from backupd.model import Account, Collection, Folder, Gap, Gone, Item, Page, Service
from backupd.ports import Failed, Fetched, Source
from backupd.sync.adoption import Adoption
from backupd.sync.placing import Batch, Placer, Tally, Work, gap_row, scope_of


class Intake:
    """Takes in the changes of one collection."""

    def __init__(
        self, source: Source, account: Account, catalog: Catalog, mirror: Mirror, tally: Tally
    ) -> None:
        self._source = source
        self._account = account
        self._catalog = catalog
        self._mirror = mirror
        self._tree = Tree(catalog, mirror)
        self._placer = Placer(source, catalog, mirror, tally)
        self._adoption = Adoption(source, account, catalog)

    def run(self, collection: Collection, row: FolderRow, *, relist: bool = False) -> None:
        """Follow the changes to the end. With `relist`, list everything again from the start."""
        try:
            for page in self._source.pages(
                self._account, collection, None if relist else row.cursor
            ):
                self._page(collection, row, page)
        except ItemGone:
            with self._catalog.transaction() as session:
                row.gone = True
                session.merge(row)
                self._catalog.miss_all(id_of(row))
        render_dirty(self._catalog, self._mirror)

    def retry(self, collection: Collection, row: FolderRow) -> None:
        """Try again what is due in the retry ledger."""
        due = self._catalog.retries(id_of(row), due=int(time.time()))
        items = [
            Item(entry.source_id, loads(entry.facts), folder=entry.folder_id, name=entry.name)
            for entry in due
        ]
        if items:
            self._take(collection, row, self._plan(row, items))
            render_dirty(self._catalog, self._mirror)

    # -- one page -----------------------------------------------------------------------------

    def _page(self, collection: Collection, row: FolderRow, page: Page) -> None:
        if _says_nothing(row, page):
            return
        if page.restart:
            row.round, row.complete = row.round + 1, False
        self._tree.folders(row, (each for each in page.changes if isinstance(each, Folder)))
        latest: dict[str, Item | Gone] = {}
        for change in page.changes:
            if isinstance(change, (Item, Gone)):
                latest[change.id] = _later(latest.get(change.id), change)
        items = [each for each in latest.values() if isinstance(each, Item)]
        self._take(collection, row, self._plan(row, items))
        gone = [each.id for each in latest.values() if isinstance(each, Gone)]
        gaps = [each for each in page.changes if isinstance(each, Gap)]
        self._finish(row, page, gone, gaps, {each.id for each in items})

    def _plan(self, row: FolderRow, items: list[Item]) -> list[Work]:
        """Tell the known from the new, the moved from the changed."""
        known = self._catalog.items_by_id(id_of(row), [item.id for item in items])
        new = [item.id for item in items if item.id not in known]
        keys = dict(self._source.keys(self._account, row.service, new)) if new else {}
        elsewhere = self._catalog.items_by_key(row.service, scope_of(row), list(keys.values()))
        moved = {item: elsewhere[key] for item, key in keys.items() if key in elsewhere}
        if row.service in self._source.recognises:
            strange = [item for item in items if item.id not in known]
            there, moved = moved, self._adoption.rows(row, strange, known, moved)
            keys |= {item: _another(there[item]) for item in there.keys() - moved.keys()}
        works = []
        for item in items:
            held = known.get(item.id) or moved.get(item.id)
            if held and held.version == UNTOLD:
                held.version = self._source.version(row.service, loads(held.facts))
            merged = replace(item, facts={**loads(held.facts), **item.facts}) if held else item
            key = held.key if held else keys.get(item.id, item.id)
            version = self._source.version(row.service, merged.facts)
            works.append(Work(merged, key, version, held, merged.facts))
        return works

    def _take(self, collection: Collection, row: FolderRow, works: list[Work]) -> None:
        """Fetch what is new or different, and write everything out batch by batch."""
        batch = Batch()
        wanted = {id(work.item): work for work in works if _must_fetch(work)}
        for work in works:
            if id(work.item) not in wanted:
                batch.works.append(work)
                batch = self._write_if_full(row, batch)
        try:
            for answer in self._fetch(collection, [work.item for work in wanted.values()]):
                batch.take(wanted.pop(id(answer.item)), answer)
                batch = self._write_if_full(row, batch)
        finally:  # what was fetched before the source gave up is kept
            self._placer.write(row, batch)

    def _fetch(self, collection: Collection, items: list[Item]) -> Iterator[Fetched | Failed]:
        if items:
            yield from self._source.fetch(self._account, collection, items, self._mirror.draft)

    # -- one batch ----------------------------------------------------------------------------

    def _write_if_full(self, row: FolderRow, batch: Batch) -> Batch:
        if not batch.full:
            return batch
        self._placer.write(row, batch)
        return Batch()

    # -- the end of a page --------------------------------------------------------------------

    def _finish(
        self, row: FolderRow, page: Page, gone: list[str], gaps: list[Gap], listed: set[str]
    ) -> None:
        """What left, what cannot be had, what now can, and the cursor: one transaction."""
        known = self._catalog.gap_ids(id_of(row))
        given = known & listed
        with self._catalog.transaction() as session:
            if row.complete and (
                given or known.intersection(gone) or not known.issuperset(gap.id for gap in gaps)
            ):
                self._catalog.touched()  # account.json tells of it, and snapshots shall
            if page.restart:  # a full listing tells every gap anew
                self._catalog.drop_gaps(id_of(row))
            for held in self._catalog.items_by_id(id_of(row), gone).values():
                held.state = MISSING
                session.add(held)
            for source_id in gone:
                self._catalog.drop_retry(id_of(row), source_id)
                self._catalog.drop_gaps(id_of(row), source_id=source_id)
                self._forget_folder(row, source_id)
            for source_id in (*given, *(gap.id for gap in gaps)):
                self._catalog.drop_gaps(id_of(row), source_id=source_id)
            for gap in gaps:
                session.add(gap_row(row, gap))
            if page.last and not row.complete:
                session.flush()
                self._catalog.miss_unseen(row)
                row.complete = True
            row.cursor = page.cursor
            session.merge(row)

    def _forget_folder(self, row: FolderRow, source_id: str) -> None:
        if row.service is Service.FILES:
            folder = self._catalog.find_folder(row.service, id_of(row), source_id)
            if folder is not None:
                folder.gone = True
                self._catalog.session.add(folder)


def _another(taken: ItemRow) -> str:
    """A key for what would have that of another item, which lives on under a new id."""
    return f"{taken.key}#{uuid.uuid4().hex}"


def _later(before: Item | Gone | None, now: Item | Gone) -> Item | Gone:
    """Changes of one id apply in order; a sparse one adds to what the page said before."""
    if isinstance(before, Item) and isinstance(now, Item):
        return replace(now, facts={**before.facts, **now.facts})
    return now


def _says_nothing(row: FolderRow, page: Page) -> bool:
    """Nothing changed, and the cursor neither: no reason to wait for the disk, folder by folder."""
    settled = row.complete and page.last and not page.restart
    return settled and not page.changes and page.cursor == row.cursor


def _must_fetch(work: Work) -> bool:
    return work.row is None or work.row.version != work.version
