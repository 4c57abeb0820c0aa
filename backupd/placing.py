"""A batch of items into the mirror and the catalog: journal, bytes, then rows, in this order."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from backupd import names
from backupd.catalog import Catalog, dumps, loads
from backupd.catalog.rows import HELD, FolderRow, GapRow, ItemRow, RetryRow
from backupd.errors import BackupdError, ItemGone
from backupd.index import shard_of
from backupd.mirror import FileDraft, Mirror
from backupd.model import Gap, Item, Service
from backupd.ports import Failed, Fetched, Source
from backupd.tree import Tree

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


@dataclass
class Work:
    """An item on its way: what the catalog holds of it (if anything) and what it becomes."""

    item: Item
    key: str
    version: str
    row: ItemRow | None
    about: Mapping[str, Any] = field(default_factory=dict)
    fetched: Fetched | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """The listing's facts with what fetching added."""
        return {**self.item.facts, **self.fetched.facts} if self.fetched else self.item.facts


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
        self.works.append(work)
        self.size += answer.draft.size
        self.facts += len(str(answer.facts))

    @property
    def full(self) -> bool:
        """Whether to write it out before taking more."""
        items = len(self.works) + len(self.failures)
        late = items > 0 and time.monotonic() - self.began >= BATCH_SECONDS
        large = self.size >= BATCH_BYTES or self.facts >= BATCH_FACTS
        return items >= BATCH_ITEMS or large or late


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
        claimed: dict[tuple[int, str], str] = {}
        for work in batch.works:
            work.about = self._describe(row.service, work)
        places = [self._place(row, work, claimed) for work in batch.works]
        self._write_bytes([place for place in places if place.moved or place.draft])
        with self._catalog.transaction() as session:
            ledger = self._catalog.ledger_ids(id_of(row))
            new: list[NewItem] = []
            for place in places:
                if place.work.row is None:
                    new.append(self._new(row, place))
                else:
                    self._record(row, place, place.work.row)
                if place.work.item.id in ledger:
                    self._catalog.drop_retry(id_of(row), place.work.item.id)
            for failure in batch.failures:
                self._put_into_ledger(row, failure)
            self._catalog.add_items([each.columns() for each in new])
            self._catalog.clear_journal()
            session.flush()

    def _describe(self, service: Service, work: Work) -> Mapping[str, Any]:
        """The shared words; a file's name is its listing's, wherever its facts come from."""
        said = self._source.describe(service, work.facts)
        return {**said, "name": work.item.name} if service is Service.FILES else said

    def _write_bytes(self, places: list[Place]) -> None:
        if places:
            self._catalog.journal((place.path, place.was) for place in places)
        for place in places:
            if place.was and place.moved:
                self._mirror.rename(place.was, place.path)
        self._mirror.place(
            (place.draft, place.path, _mtime(place.folder.service, place.work.about))
            for place in places
            if place.draft is not None
        )

    def _place(self, row: FolderRow, work: Work, claimed: dict[tuple[int, str], str]) -> Place:
        """Decide where an item lies from now on."""
        folder = self._tree.folder(row, work.item.folder) if row.service is Service.FILES else row
        old = work.row
        if old is not None and work.fetched is None and not _renamed(row, work, old, folder):
            name = old.name
        else:
            name = self._name(row, work, folder, claimed)
        was = f"{self._catalog.folder(old.folder).path}/{old.name}" if old else None
        draft = cast("FileDraft", work.fetched.draft) if work.fetched else None
        size = draft.size if draft else 0
        if draft is not None:
            draft.close()
            if old is not None and draft.sha256 == old.sha256 and was == f"{folder.path}/{name}":
                draft.discard()
                draft = None
        return Place(work, folder, name, was, draft, size)

    def _name(
        self, row: FolderRow, work: Work, folder: FolderRow, claimed: dict[tuple[int, str], str]
    ) -> str:
        if row.service is Service.MAIL:
            subject = str(work.about.get("subject") or "")
            return names.mail_name(names.parse_time(work.about.get("received")), subject, work.key)
        if row.service is not Service.FILES:
            return names.short_key(work.key) + EXTENSION[row.service]
        local = names.component(work.item.name or work.item.id)
        spot = (id_of(folder), names.fold(local))
        if claimed.setdefault(spot, work.key) != work.key or self._catalog.item_taken(
            *spot, work.key
        ):
            local = names.twin(local, work.key)
        return local

    def _new(self, row: FolderRow, place: Place) -> NewItem:
        """A row for what was not held before."""
        fresh = NewItem(row.service, scope_of(row), place.work.key)
        self._describe_row(row, fresh, place)
        self._dirty(fresh)
        self._catalog.touched()
        return fresh

    def _record(self, row: FolderRow, place: Place, old: ItemRow) -> None:
        before = _told(old)
        if place.moved or old.folder != place.folder.id:
            self._dirty(old)
            self._tally.moved += 1
        self._describe_row(row, old, place)
        self._catalog.session.add(old)
        if _told(old) != before:
            self._dirty(old)
            self._catalog.touched()
            self._tally.updated += not place.moved

    def _describe_row(self, row: FolderRow, fresh: ItemRow | NewItem, place: Place) -> None:
        work = place.work
        fresh.collection, fresh.folder = id_of(row), id_of(place.folder)
        fresh.source_id = work.item.id
        fresh.name, fresh.fold = place.name, names.fold(place.name)
        fresh.facts, fresh.about = dumps(work.facts), dumps(work.about)
        fresh.round, fresh.state = row.round, HELD
        fresh.version = work.version
        if work.fetched is not None:
            self._record_fetch(row, fresh, work, place)

    def _record_fetch(
        self, row: FolderRow, fresh: ItemRow | NewItem, work: Work, place: Place
    ) -> None:
        fetched = cast("Fetched", work.fetched)
        if place.draft is not None:
            fresh.sha256, fresh.size = place.draft.sha256, place.draft.size
        fresh.version = self._source.version(row.service, work.facts)
        fresh.note = fetched.note
        self._tally.fetched += 1
        self._tally.fetched_bytes += place.size
        if work.row is not None:
            self._catalog.drop_gaps(id_of(row), owner=work.key)
        for gap in fetched.gaps:
            self._catalog.session.add(gap_row(row, gap, owner=work.key))

    def _dirty(self, item: ItemRow | NewItem) -> None:
        if item.folder:
            self._catalog.mark_dirty([(item.folder, shard_of(item.service, item.name))])

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


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item lies from now on, and what has to happen for that."""

    work: Work
    folder: FolderRow
    name: str
    was: str | None
    draft: FileDraft | None
    size: int

    @property
    def path(self) -> str:
        """Its path in the mirror."""
        return f"{self.folder.path}/{self.name}"

    @property
    def moved(self) -> bool:
        """Whether a file of ours has to be renamed."""
        return self.was is not None and self.was != self.path


@dataclass(slots=True)
class NewItem:
    """The columns of an `ItemRow` that does not exist yet: a plain value costs a tenth of a row object."""

    service: Service
    scope: int
    key: str
    collection: int = 0
    folder: int = 0
    source_id: str = ""
    version: str = ""
    name: str = ""
    fold: str = ""
    size: int = 0
    sha256: str = ""
    facts: str = ""
    about: str = "{}"
    note: str = ""
    round: int = 0
    state: int = HELD

    def columns(self) -> dict[str, Any]:
        """As the catalog takes it."""
        return {name: getattr(self, name) for name in self.__slots__}


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


def _mtime(service: Service, about: Mapping[str, Any]) -> float | None:
    moment = names.parse_time(about.get("modified" if service is Service.FILES else "received"))
    return max(moment.timestamp(), 0.0) if moment else None


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


def id_of(row: FolderRow) -> int:
    """The number of a row that the database has."""
    return cast("int", row.id)
