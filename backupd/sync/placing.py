"""A batch of items into the mirror and the catalog: journal, bytes, then rows, in this order."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from backupd.catalog import Catalog, NewItem, dumps, loads
from backupd.catalog.rows import HELD, FolderRow, GapRow, ItemRow, RetryRow, id_of
from backupd.errors import BackupdError, ItemGone
from backupd.mirror import names
from backupd.mirror.files import FileDraft, Mirror
from backupd.mirror.index import shard_of
from backupd.mirror.tree import Tree
from backupd.model import Facts, Gap, Item, Service, nothing
from backupd.ports import Failed, Fetched, Source

BATCH_ITEMS = 250
"""Items in one transaction; at most so many are fetched again after a crash."""

BATCH_BYTES = 256 << 20
"""Bytes after which a batch is closed early."""

BATCH_SECONDS = 10.0
"""Seconds after which a batch is closed early: so much work a crash may cost at a slow provider."""

BATCH_FACTS = 4 << 20
"""Characters of facts after which a batch is closed early: this is what lies in memory."""

FIRST_RETRY, LAST_RETRY = 300, 86_400
"""Seconds until an item that could not be had is tried again: doubling from one to the other."""

EXTENSION = {Service.MAIL: ".eml", Service.CALENDAR: ".ics", Service.CONTACTS: ".vcf"}


@dataclass
class Tally:
    """What a sync of one service did, in items and bytes."""

    fetched: int = 0
    fetched_bytes: int = 0
    updated: int = 0
    moved: int = 0
    removed: int = 0
    failed: int = 0


@dataclass(slots=True)
class Work:
    """An item on its way: what the catalog holds of it (if anything) and what it becomes.

    Attributes:
        facts: the listing's facts, with what fetching added.
        text: the same as the catalog keeps them.
    """

    item: Item
    key: str
    version: str
    row: ItemRow | None
    facts: Facts
    about: Facts = field(default_factory=nothing)
    fetched: Fetched | None = None
    text: str = ""


@dataclass
class Batch:
    """What goes into the next transaction."""

    works: list[Work] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)
    size: int = 0
    facts: int = 0
    began: float = field(default_factory=time.monotonic)

    def take(self, work: Work, answer: Fetched | Failed) -> None:
        """Add an item with what fetching it came to."""
        if isinstance(answer, Failed):
            self.failures.append(answer)
            return
        answer.draft.close()  # hundreds of open files for each account are more than a process may have
        work.fetched = answer
        if answer.facts:
            work.facts = {**work.facts, **answer.facts}
        work.text = dumps(work.facts)
        self.works.append(work)
        self.size += answer.draft.size
        self.facts += len(work.text)

    @property
    def full(self) -> bool:
        """Whether to write it out before taking more."""
        items = len(self.works) + len(self.failures)
        late = items > 0 and time.monotonic() - self.began >= BATCH_SECONDS
        large = self.size >= BATCH_BYTES or self.facts >= BATCH_FACTS
        return items >= BATCH_ITEMS or large or late


class Spots:
    """Where the items of one batch go, so far: folders do not move meanwhile."""

    def __init__(self, collection: FolderRow, tree: Tree) -> None:
        self._collection, self._tree = collection, tree
        self._folders: dict[str | None, FolderRow] = {}
        self._claimed: dict[tuple[int, str], str] = {}

    def folder(self, source_id: str | None) -> FolderRow:
        """The folder inside a drive, looked up once."""
        if source_id not in self._folders:
            self._folders[source_id] = self._tree.folder(self._collection, source_id)
        return self._folders[source_id]

    def claim(self, spot: tuple[int, str], key: str) -> bool:
        """Take a folded name in a folder for an item; False when another of the batch has it."""
        return self._claimed.setdefault(spot, key) == key


class Placer:
    """Gives each item of a collection its place and records it."""

    def __init__(self, source: Source, catalog: Catalog, mirror: Mirror, tally: Tally) -> None:
        self._source = source
        self._catalog = catalog
        self._mirror = mirror
        self._tree = Tree(catalog, mirror)
        self._tally = tally

    def write(self, row: FolderRow, batch: Batch) -> None:
        """Journal, bytes, then rows: in this order."""
        if not batch.works and not batch.failures:
            return
        spots = Spots(row, self._tree)
        places = [self._place(row, work, spots) for work in batch.works]
        self._write_bytes([place for place in places if place.moved or place.draft])
        with self._catalog.transaction():
            self._catalog.add_items(
                [self._new(row, place) for place in places if place.work.row is None]
            )
            for place in places:
                if place.work.row is not None:
                    self._record(row, place, place.work.row)
            for source_id in self._catalog.ledger_ids(id_of(row)).intersection(
                place.work.item.id for place in places
            ):
                self._catalog.drop_retry(id_of(row), source_id)
            for failure in batch.failures:
                self._put_into_ledger(row, failure)
            self._catalog.clear_journal()

    def _write_bytes(self, places: list[Place]) -> None:
        if not places:
            return
        self._catalog.journal((place.path, place.was) for place in places)
        for place in places:
            if place.was and place.moved:
                self._mirror.rename(place.was, place.path)
        arrivals = [(each.draft, each.path, each.mtime) for each in places if each.draft]
        self._mirror.place(arrivals)

    def _place(self, row: FolderRow, work: Work, spots: Spots) -> Place:
        """Decide where an item lies from now on."""
        files = row.service is Service.FILES
        about = self._source.describe(row.service, work.facts)
        # A file's name is its listing's, wherever its facts come from.
        work.about = {**about, "name": work.item.name} if files else about
        moment = names.parse_time(about.get("modified" if files else "received"))
        folder = spots.folder(work.item.folder) if files else row
        old = work.row
        if old is not None and work.fetched is None and not _renamed(row, work, old, folder):
            name = old.name
        else:
            name = self._name(row, work, folder, moment, spots)
        was = f"{self._catalog.folder(old.folder).path}/{old.name}" if old else None
        place = Place(work, folder, name, was, f"{folder.path}/{name}", moment)
        if work.fetched is not None:
            place.settle(cast("FileDraft", work.fetched.draft))
        return place

    def _name(
        self,
        row: FolderRow,
        work: Work,
        folder: FolderRow,
        moment: datetime | None,
        spots: Spots,
    ) -> str:
        if row.service is Service.MAIL:
            return names.mail_name(moment, str(work.about.get("subject") or ""), work.key)
        if row.service is not Service.FILES:
            return names.short_key(work.key) + EXTENSION[row.service]
        local = names.component(work.item.name or work.item.id)
        spot = (id_of(folder), names.fold(local))
        if not spots.claim(spot, work.key) or self._catalog.item_taken(*spot, work.key):
            local = names.twin(local, work.key)
        return local

    def _new(self, row: FolderRow, place: Place) -> NewItem:
        """A row for what was not held before."""
        work = place.work
        fetched = cast("Fetched", work.fetched)
        self._count(row, place, fetched)
        self._dirty(row.service, id_of(place.folder), place.name)
        self._catalog.touched()
        return NewItem(
            row.service, scope_of(row), id_of(row), id_of(place.folder), work.item.id, work.key,
            self._version(row, work, fetched), place.name, names.fold(place.name),
            place.size, place.sha256, work.text, dumps(work.about), fetched.note, row.round,
        )  # fmt: skip

    def _record(self, row: FolderRow, place: Place, old: ItemRow) -> None:
        """What became of a row that was there."""
        before = _told(old)
        if place.moved or old.folder != place.folder.id:
            self._dirty(old.service, old.folder, old.name)
            self._tally.moved += 1
        self._describe_row(row, old, place)
        self._catalog.session.add(old)
        if _told(old) != before:
            self._dirty(old.service, old.folder, old.name)
            self._catalog.touched()
            self._tally.updated += not place.moved

    def _describe_row(self, row: FolderRow, old: ItemRow, place: Place) -> None:
        work = place.work
        old.collection, old.folder = id_of(row), id_of(place.folder)
        old.source_id = work.item.id
        old.name, old.fold = place.name, names.fold(place.name)
        old.facts, old.about = work.text or dumps(work.facts), dumps(work.about)
        old.round, old.state = row.round, HELD
        old.version = work.version
        if work.fetched is not None:
            if place.draft is not None:
                old.sha256, old.size = place.sha256, place.size
            old.version = self._version(row, work, work.fetched)
            old.note = work.fetched.note
            self._catalog.drop_gaps(id_of(row), owner=work.key)
            self._count(row, place, work.fetched)

    def _version(self, row: FolderRow, work: Work, fetched: Fetched) -> str:
        """What identifies the bytes that came, where the fetch knew more than the listing."""
        return self._source.version(row.service, work.facts) if fetched.facts else work.version

    def _count(self, row: FolderRow, place: Place, fetched: Fetched) -> None:
        """What was fetched, and the parts of it that could not be taken along."""
        self._tally.fetched += 1
        self._tally.fetched_bytes += place.size
        for gap in fetched.gaps:
            self._catalog.session.add(gap_row(row, gap, owner=place.work.key))

    def _dirty(self, service: Service, folder: int, name: str) -> None:
        if folder:
            self._catalog.mark_dirty([(folder, shard_of(service, name))])

    def _put_into_ledger(self, row: FolderRow, failure: Failed) -> None:
        item, error = failure.item, failure.error
        if isinstance(error, ItemGone):  # it vanished after it was listed: the next listing says so
            self._catalog.drop_retry(id_of(row), item.id)
            return
        now = int(time.time())
        entry = self._catalog.retry(id_of(row), item.id) or RetryRow(
            service=row.service,
            collection=id_of(row),
            source_id=item.id,
            facts="",
            reason="",
            message="",
            attempts=0,
            first_seen=now,
            last_seen=now,
            next_try=now,
        )
        entry.folder_id, entry.name, entry.facts = item.folder, item.name, dumps(item.facts)
        entry.reason, entry.message, entry.last_seen = error.reason, _plain(error), now
        entry.next_try = now + min(FIRST_RETRY << min(entry.attempts, 16), LAST_RETRY)
        entry.attempts, entry.round = entry.attempts + 1, row.round
        self._catalog.session.add(entry)
        self._catalog.keep_listed(id_of(row), item.id, row.round)
        self._catalog.touched()
        self._tally.failed += 1


@dataclass(slots=True)
class Place:
    """Where an item lies from now on, and what has to happen for that.

    Attributes:
        was: its path in the mirror until now; `path` from now on.
        moment: when it was received or changed.
        draft: its new bytes, unless they are those that lie there.
    """

    work: Work
    folder: FolderRow
    name: str
    was: str | None
    path: str
    moment: datetime | None
    draft: FileDraft | None = None
    size: int = 0
    sha256: str = ""

    def settle(self, draft: FileDraft) -> None:
        """Take the bytes, or drop them when they are the same as before."""
        old = self.work.row
        self.size, self.sha256 = draft.size, draft.sha256
        if old is not None and self.sha256 == old.sha256 and self.was == self.path:
            draft.discard()
        else:
            self.draft = draft

    @property
    def moved(self) -> bool:
        """Whether a file of ours has to be renamed."""
        return self.was is not None and self.was != self.path

    @property
    def mtime(self) -> float | None:
        """What its file shall say it was changed at, in Unix seconds."""
        return max(self.moment.timestamp(), 0.0) if self.moment else None


def _renamed(row: FolderRow, work: Work, old: ItemRow, folder: FolderRow) -> bool:
    """Only a file's name is its own; the others are named after what their content says."""
    if row.service is not Service.FILES:
        return False
    return old.folder != folder.id or loads(old.about).get("name") != work.about.get("name")


def _told(row: ItemRow) -> tuple[Any, ...]:
    """What an index line says of an item."""
    return (
        row.folder,
        row.name,
        row.source_id,
        row.sha256,
        row.size,
        row.facts,
        row.about,
        row.note,
    )


def gap_row(row: FolderRow, gap: Gap, owner: str = "") -> GapRow:
    """Something in a collection that cannot be taken; `owner` is the item it belongs to."""
    return GapRow(
        service=row.service,
        collection=row.id,
        owner=owner,
        source_id=gap.id,
        kind=gap.kind,
        name=gap.name,
        why=gap.why,
    )


def gap_of_service(service: Service, gap: Gap) -> GapRow:
    """A whole collection that cannot be taken."""
    return GapRow(service=service, source_id=gap.id, kind=gap.kind, name=gap.name, why=gap.why)


def _plain(error: BackupdError) -> str:
    return str(error)[:1000]


def scope_of(row: FolderRow) -> int:
    """The space in which the keys of a collection are unique: its drive, or 0 for all others."""
    return id_of(row) if row.service is Service.FILES else 0
