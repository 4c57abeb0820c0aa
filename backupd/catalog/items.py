"""Items: what the mirror holds, and in which state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import func, text
from sqlmodel import delete, select, update

from backupd.catalog.database import CHUNK, Database, any_of
from backupd.catalog.rows import (
    GONE,
    HELD,
    LEAVING,
    MISSING,
    TITLE,
    FolderRow,
    GapRow,
    ItemRow,
    RetryRow,
)
from backupd.model import Service


class NewItem(NamedTuple):
    """The columns of an `ItemRow` that does not exist yet: a plain value costs a tenth of a row object."""

    service: Service
    scope: int
    collection: int
    folder: int
    source_id: str
    key: str
    version: str
    name: str
    fold: str
    size: int
    sha256: str
    facts: str
    about: str
    note: str
    round: int
    state: int = HELD


class Described(NamedTuple):
    """What an index line says of an item; the columns of its row."""

    name: str
    key: str
    source_id: str
    sha256: str
    size: int
    facts: str
    about: str
    note: str


class Items(Database):
    """What the catalog knows of items."""

    def items(
        self,
        *,
        service: Service | None = None,
        folder: int | None = None,
        state: int | None = None,
        shard: str = "",
        limit: int | None = None,
    ) -> Iterator[ItemRow]:
        """Items in the order of their names, a few at a time in memory."""
        query = select(ItemRow)
        if service is not None:
            query = query.where(ItemRow.service == service)
        if folder is not None:
            query = query.where(ItemRow.folder == folder)
        if state is not None:
            query = query.where(ItemRow.state == state)
        if shard:
            query = query.where(ItemRow.name >= shard + "/", ItemRow.name < shard + "0")
        query = query.order_by(ItemRow.folder, ItemRow.name).limit(limit)  # type: ignore[arg-type]
        for row in self._session.exec(query.execution_options(yield_per=CHUNK)):
            yield row
            self._session.expunge(row)

    def described(self, folder: int, shard: str) -> Iterator[Described]:
        """What the index of a folder (and month) says, in the order of the names, a few at a time."""
        query = select(*(getattr(ItemRow, name) for name in Described._fields))
        query = query.where(ItemRow.folder == folder)
        if shard:
            query = query.where(ItemRow.name >= shard + "/", ItemRow.name < shard + "0")
        query = query.order_by(ItemRow.name).execution_options(yield_per=CHUNK)
        for row in self._session.connection().execute(query):
            yield Described._make(row)

    def items_by_id(self, collection: int, ids: Sequence[str]) -> dict[str, ItemRow]:
        """The items of a collection by the source's ids."""
        if not ids:
            return {}
        query = select(ItemRow).where(
            ItemRow.collection == collection, any_of(ItemRow.source_id, ids)
        )
        return {row.source_id: row for row in self._session.exec(query)}

    def items_by_key(self, service: Service, scope: int, keys: Sequence[str]) -> dict[str, ItemRow]:
        """Items by their stable keys, wherever they lie now."""
        if not keys:
            return {}
        chosen = (ItemRow.service == service, ItemRow.scope == scope, any_of(ItemRow.key, keys))
        return {row.key: row for row in self._session.exec(select(ItemRow).where(*chosen))}

    def items_by_version(self, service: Service, versions: Sequence[str]) -> list[ItemRow]:
        """Items with any of these contents, in the order in which they came."""
        if not versions:
            return []
        query = select(ItemRow).where(ItemRow.service == service, any_of(ItemRow.version, versions))
        return list(self._session.exec(query.order_by(ItemRow.id)))  # type: ignore[arg-type]

    def item_at(self, path: str) -> ItemRow | None:
        """The item that a mirror path belongs to."""
        parts = path.split("/")
        for cut in range(len(parts) - 1, 0, -1):
            folder = self._session.exec(
                select(FolderRow.id).where(FolderRow.path == "/".join(parts[:cut]))
            ).first()
            if folder is not None:
                query = select(ItemRow).where(ItemRow.folder == folder)
                return self._session.exec(
                    query.where(ItemRow.name == "/".join(parts[cut:]))
                ).first()
        return None

    def names_path(self, path: str) -> bool:
        """Whether an item or a folder of the catalog lies at a mirror path."""
        folder = select(FolderRow.id).where(FolderRow.path == path)
        return self._session.exec(folder).first() is not None or self.item_at(path) is not None

    def missing(self, service: Service, *, after: int, limit: int) -> list[ItemRow]:
        """Missing items by row number, for going through them in steps."""
        query = select(ItemRow).where(
            ItemRow.service == service,
            ItemRow.state == MISSING,
            ItemRow.id > after,  # type: ignore[operator]
        )
        return list(self._session.exec(query.order_by(ItemRow.id).limit(limit)))  # type: ignore[arg-type]

    def hashes(self, collection: FolderRow) -> Iterator[tuple[str, str, int]]:
        """Key, SHA-256 and size of every item of a collection, in the order of the keys."""
        yield from self._session.connection().exec_driver_sql(_HASHES, (collection.id,))

    def held(self, collection: int) -> int:
        """How many items of a collection are in the mirror or in the retry ledger."""
        items = select(func.count()).where(ItemRow.collection == collection, ItemRow.state == HELD)
        waiting = select(func.count()).where(
            RetryRow.collection == collection,
            RetryRow.source_id.not_in(  # type: ignore[attr-defined]
                select(ItemRow.source_id).where(ItemRow.collection == collection)
            ),
        )
        return self._session.exec(items).one() + self._session.exec(waiting).one()

    def held_counts(self, service: Service) -> dict[int, int]:
        """`held` of every collection of a service that holds or awaits something, in two statements."""
        items = select(ItemRow.collection, func.count()).where(
            ItemRow.service == service, ItemRow.state == HELD
        )
        counts = dict(self._session.exec(items.group_by(ItemRow.collection)).all())  # type: ignore[arg-type]
        waiting = select(RetryRow.collection).where(RetryRow.service == service).distinct()
        return counts | {each: self.held(each) for each in self._session.exec(waiting)}

    def unsettled(self, service: Service) -> bool:
        """Whether an item is in any other state than held, or a folder is gone and still here."""
        found = self._session.connection().execute(text(_UNSETTLED), {"service": service.name})
        return bool(found.scalar_one())

    def leaving(self) -> set[Service]:
        """The services from which items are being removed."""
        chosen = (ItemRow.service.in_(list(Service)), ItemRow.state == LEAVING)  # type: ignore[attr-defined]
        found = self._session.exec(select(ItemRow.service).where(*chosen).distinct())
        return {Service(each) for each in found}

    def totals(self, service: Service | None = None) -> tuple[int, int]:
        """Items and bytes in the mirror."""
        query = select(func.count(), func.coalesce(func.sum(ItemRow.size), 0)).select_from(ItemRow)
        if service:
            query = query.where(ItemRow.service == service)
        count, size = self._session.exec(query).one()
        return count, size

    def number(self) -> int:
        """How many items there are, without reading any."""
        return int(self._session.connection().exec_driver_sql(_NUMBER).scalar_one())

    def figures(self) -> list[tuple[Service, str, int, int]]:
        """Items and bytes by service and note, in one pass over everything."""
        amount = (func.count(), func.coalesce(func.sum(ItemRow.size), 0))
        query = select(ItemRow.service, ItemRow.note, *amount)
        rows = self._session.exec(query.group_by(ItemRow.service, ItemRow.note))
        return [(Service(service), note, count, size) for service, note, count, size in rows]

    def newest_mail(self) -> str:
        """When the newest message was received, as RFC 3339, or ""."""
        received = func.max(func.json_extract(ItemRow.about, "$.received"))
        return (
            self._session.exec(select(received).where(ItemRow.service == Service.MAIL)).one() or ""
        )

    def files_expected(self) -> int:
        """How many files the mirror must hold: items, their index files, account.json, README."""
        items = self.number()
        indexes = self._session.connection().execute(text(_COUNT_INDEXES)).scalar_one()
        return items + int(indexes) + 2

    def count(self, service: Service, state: int) -> int:
        """How many items of a service are in a state."""
        query = select(func.count()).where(ItemRow.service == service, ItemRow.state == state)
        return self._session.exec(query).one()

    def absent(self) -> int:
        """Items that the source no longer lists and that are still here."""
        return int(self._session.connection().exec_driver_sql(_ABSENT).scalar_one())

    def notes(self) -> dict[str, int]:
        """How many items were had in another way than usual, by note."""
        query = select(ItemRow.note, func.count()).where(ItemRow.note != "").group_by(ItemRow.note)
        return dict(self._session.exec(query).all())

    def add_items(self, rows: Sequence[NewItem]) -> None:
        """Insert items by their columns, inside a transaction."""
        if rows:
            values = [(row.service.name, *row[1:]) for row in rows]
            self._session.connection().exec_driver_sql(_INSERT, values)

    def miss_unseen(self, collection: FolderRow) -> None:
        """After a full listing: what it did not mention is missing, gone, or no longer to be retried."""
        self._session.exec(
            update(ItemRow)
            .where(
                ItemRow.collection == collection.id,  # type: ignore[arg-type]
                ItemRow.round < collection.round,  # type: ignore[arg-type]
                ItemRow.state == HELD,  # type: ignore[arg-type]
            )
            .values(state=MISSING)
        )
        self._session.exec(
            update(FolderRow)
            .where(
                FolderRow.collection == collection.id,  # type: ignore[arg-type]
                FolderRow.round < collection.round,  # type: ignore[arg-type]
            )
            .values(gone=True)
        )
        self._session.exec(
            delete(RetryRow).where(
                RetryRow.collection == collection.id,  # type: ignore[arg-type]
                RetryRow.round < collection.round,  # type: ignore[arg-type]
            )
        )

    def miss_all(self, collection: int) -> None:
        """The collection itself is gone: so is what it held, unless it turns up elsewhere."""
        self._session.exec(
            update(ItemRow)
            .where(ItemRow.collection == collection, ItemRow.state == HELD)  # type: ignore[arg-type]
            .values(state=MISSING)
        )

    def keep_listed(self, collection: int, source_id: str, round_: int) -> None:
        """An item that failed was listed all the same: what we hold of it stays; in a transaction."""
        chosen = (ItemRow.collection == collection, ItemRow.source_id == source_id)
        self._session.exec(update(ItemRow).where(*chosen).values(round=round_))  # type: ignore[arg-type]

    def move_state(self, service: Service, was: int, now: int) -> None:
        """Every item of a service in one state goes into another, inside a transaction."""
        chosen = (ItemRow.service == service, ItemRow.state == was)
        self._session.exec(update(ItemRow).where(*chosen).values(state=now))  # type: ignore[arg-type]

    def drop_items(self, rows: Sequence[ItemRow]) -> None:
        """Forget items with their gaps and retries, inside a transaction."""
        for row in rows:
            gaps = (GapRow.collection == row.collection, GapRow.owner == row.key)
            self._session.exec(delete(GapRow).where(*gaps))  # type: ignore[arg-type]
            self._session.exec(delete(ItemRow).where(ItemRow.id == row.id))  # type: ignore[arg-type]


_ABSENT = f"""
SELECT COUNT(*) FROM itemrow
WHERE service IN ({", ".join(f"'{each.name}'" for each in Service)}) AND state IN ({MISSING}, {GONE}, {LEAVING})
"""  # noqa: S608 - constants; in the words of the index, else every row is read

_INSERT = f"""
INSERT INTO itemrow ({", ".join(NewItem._fields)}, title)
VALUES ({", ".join(f"?{number}" for number, _ in enumerate(NewItem._fields, 1))},
        {TITLE.format(about=f"?{NewItem._fields.index('about') + 1}")})
"""  # noqa: S608 - names of columns

_UNSETTLED = """
SELECT EXISTS (SELECT 1 FROM itemrow WHERE service = :service AND state > 0)
    OR EXISTS (SELECT 1 FROM folderrow WHERE service = :service AND gone)
"""

_NUMBER = "SELECT COUNT(*) FROM itemrow"

_HASHES = "SELECT key, sha256, size FROM itemrow WHERE collection = ? ORDER BY key"

_COUNT_INDEXES = """
SELECT (SELECT COUNT(DISTINCT i.folder || '/' || substr(i.fold, 1, instr(i.fold, '/')))
        FROM folderrow f CROSS JOIN itemrow i ON i.folder = f.id WHERE f.service = 'MAIL')
     + (SELECT COUNT(*) FROM (
            SELECT id FROM folderrow f WHERE service <> 'MAIL'
            AND EXISTS (SELECT 1 FROM itemrow i WHERE i.folder = f.id)
            UNION SELECT parent FROM folderrow WHERE service = 'FILES' AND collection IS NOT NULL))
"""
