"""What we hold of one account and where it came from: one SQLite file beside the mirror.

One writer (the account's lock sees to that), any number of readers. The mirror can be read
without the catalog and the catalog rebuilt from the mirror; what only the catalog knows are
cursors, the journal of a change under way and the retry ledger.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, func, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import StaticPool
from sqlmodel import Session, SQLModel, create_engine, delete, select, update

from backupd.errors import BackupdError, IntegrityError, UserError
from backupd.model import Facts, Service
from backupd.rows import (
    HELD,
    MISSING,
    SCHEMA,
    DirtyRow,
    FolderRow,
    GapRow,
    ItemRow,
    JournalRow,
    Meta,
    RetryRow,
)

CHUNK = 500
"""Values in one SQL `IN (…)`: well below SQLite's limit of variables."""


class Catalog:
    """The open file. Not thread-safe; each thread opens its own."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open, create or migrate. Raises UserError for a newer schema, IntegrityError for damage."""
        self.path = path
        self._engine = _engine(path, read_only=read_only)
        try:
            self._migrate(read_only=read_only)
        except DatabaseError as error:
            self._engine.dispose()
            raise _unusable(path, error) from error
        self._session = Session(self._engine, expire_on_commit=False, autoflush=False)
        self._changed = False
        self._stale: set[tuple[int, str]] = set()

    def close(self) -> None:
        """Release the file."""
        self._session.close()
        self._engine.dispose()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """All of it durable at the end, or none of it."""
        try:
            yield self._session
            self._write_marks()
            self._session.commit()
        except DatabaseError as error:
            self._session.rollback()
            raise _as_disk_error(self.path, error) from error
        except BaseException:
            self._session.rollback()
            raise
        finally:
            self._changed = False
            self._stale.clear()
            self._session.expunge_all()

    def _write_marks(self) -> None:
        """The revision and the stale index files, once for all that a transaction did."""
        connection = self._session.connection()
        if self._changed:
            connection.execute(text(_RAISE_REVISION))
        for folder, shard in self._stale:
            connection.execute(text(_MARK_DIRTY), {"folder": folder, "shard": shard})

    @property
    def session(self) -> Session:
        """For reading outside a transaction."""
        return self._session

    def _migrate(self, *, read_only: bool) -> None:
        with self._engine.connect() as connection:
            found = connection.execute(text("PRAGMA user_version")).scalar_one()
        if found > SCHEMA:
            raise UserError(
                f"{self.path} was written by a newer backupd (schema {found}, this one knows {SCHEMA}).",
                hint="Run the newer version again. Nothing was changed.",
                reason="newer-catalog",
            )
        if read_only:
            return
        for number in range(found, SCHEMA):
            with self._engine.begin() as connection:
                MIGRATIONS[number](connection)
                connection.execute(text(f"PRAGMA user_version = {number + 1}"))

    # -- single values ------------------------------------------------------------------------

    def get(self, key: str, default: str = "") -> str:
        """A single value."""
        found = self._session.exec(select(Meta.value).where(Meta.key == key)).first()
        return default if found is None else found

    def put(self, key: str, value: str) -> None:
        """Set a single value, inside a transaction."""
        self._session.merge(Meta(key=key, value=value))

    @property
    def revision(self) -> int:
        """Goes up with every change of what the mirror holds."""
        return int(self.get("revision", "0"))

    def touched(self) -> None:
        """This transaction changes what the mirror holds."""
        self._changed = True

    # -- folders ------------------------------------------------------------------------------

    def collections(self, service: Service | None = None, *, gone: bool = False) -> list[FolderRow]:
        """The collections (not the folders inside drives), in path order."""
        query = select(FolderRow).where(FolderRow.collection == None)  # noqa: E711
        if service:
            query = query.where(FolderRow.service == service)
        if not gone:
            query = query.where(FolderRow.gone == False)  # noqa: E712
        return list(self._session.exec(query.order_by(FolderRow.path)))

    def all_folders(self) -> list[FolderRow]:
        """Every collection and every folder inside a drive, in path order."""
        return list(self._session.exec(select(FolderRow).order_by(FolderRow.path)))

    def folder(self, row_id: int) -> FolderRow:
        """A folder by its row. Raises IntegrityError when the catalog contradicts itself."""
        row = self._session.get(FolderRow, row_id)
        if row is None:
            raise IntegrityError(
                f"{self.path} names folder {row_id}, which it does not hold.",
                hint="Restore the catalog, or remove it: the next sync builds it anew.",
            )
        return row

    def find_folder(self, service: Service, scope: int, source_id: str) -> FolderRow | None:
        """A folder by the source's id."""
        return self._session.exec(
            select(FolderRow).where(
                FolderRow.service == service,
                FolderRow.scope == scope,
                FolderRow.source_id == source_id,
            )
        ).first()

    def taken(self, parent: int | None, service: Service, fold: str, but: int | None) -> bool:
        """Whether a sibling (folder or item) other than the folder `but` has this folded name."""
        folders = select(FolderRow.id).where(
            FolderRow.parent == parent, FolderRow.service == service, FolderRow.fold == fold
        )
        if any(row != but for row in self._session.exec(folders)):
            return True
        items = select(ItemRow.id).where(ItemRow.folder == parent, ItemRow.fold == fold)
        return parent is not None and self._session.exec(items).first() is not None

    def item_taken(self, folder: int, fold: str, but: str) -> bool:
        """Whether a sibling other than the item of key `but` has this folded name."""
        items = select(ItemRow.key).where(ItemRow.folder == folder, ItemRow.fold == fold)
        folders = select(FolderRow.id).where(FolderRow.parent == folder, FolderRow.fold == fold)
        return (
            any(key != but for key in self._session.exec(items))
            or self._session.exec(folders).first() is not None
        )

    def below(self, path: str) -> list[FolderRow]:
        """All folders at or below a mirror path."""
        low, high = path + "/", path + "0"  # "0" follows "/" in every ASCII collation
        inside = select(FolderRow).where(FolderRow.path >= low, FolderRow.path < high)
        exact = select(FolderRow).where(FolderRow.path == path)
        return [*self._session.exec(exact), *self._session.exec(inside)]

    def gone_folders(self, service: Service) -> list[FolderRow]:
        """Folders that the source said are gone, still here."""
        query = select(FolderRow).where(FolderRow.service == service, FolderRow.gone == True)  # noqa: E712
        return list(self._session.exec(query))

    def has_content(self, folder: int) -> bool:
        """Whether any item or folder lies in a folder."""
        items = select(ItemRow.id).where(
            (ItemRow.folder == folder) | (ItemRow.collection == folder)
        )
        folders = select(FolderRow.id).where(FolderRow.parent == folder)
        return any(self._session.exec(query.limit(1)).first() for query in (items, folders))

    def drop_folder(self, folder: int) -> None:
        """Forget an empty folder with all that hung on it, inside a transaction."""
        for table, column in (
            (RetryRow, RetryRow.collection),
            (GapRow, GapRow.collection),
            (DirtyRow, DirtyRow.folder),
            (FolderRow, FolderRow.id),
        ):
            self._session.exec(delete(table).where(column == folder))  # type: ignore[arg-type]

    # -- items --------------------------------------------------------------------------------

    def items_by_id(self, collection: int, ids: Sequence[str]) -> dict[str, ItemRow]:
        """The items of a collection by the source's ids."""
        found: dict[str, ItemRow] = {}
        for some in _chunks(ids):
            query = select(ItemRow).where(
                ItemRow.collection == collection,
                ItemRow.source_id.in_(some),  # type: ignore[attr-defined]
            )
            found.update((row.source_id, row) for row in self._session.exec(query))
        return found

    def items_by_key(self, service: Service, scope: int, keys: Sequence[str]) -> dict[str, ItemRow]:
        """Items by their stable keys, wherever they lie now."""
        found: dict[str, ItemRow] = {}
        for some in _chunks(keys):
            query = select(ItemRow).where(
                ItemRow.service == service,
                ItemRow.scope == scope,
                ItemRow.key.in_(some),  # type: ignore[attr-defined]
            )
            found.update((row.key, row) for row in self._session.exec(query))
        return found

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

    def totals(self, service: Service | None = None) -> tuple[int, int]:
        """Items and bytes in the mirror."""
        query = select(func.count(), func.coalesce(func.sum(ItemRow.size), 0)).select_from(ItemRow)
        if service:
            query = query.where(ItemRow.service == service)
        count, size = self._session.exec(query).one()
        return count, size

    def files_expected(self) -> int:
        """How many files the mirror must hold: items, their index files, account.json, README."""
        items = self.totals()[0]
        indexes = self._session.connection().execute(text(_COUNT_INDEXES)).scalar_one()
        return items + int(indexes) + 2

    def count(self, service: Service, state: int) -> int:
        """How many items of a service are in a state."""
        query = select(func.count()).where(ItemRow.service == service, ItemRow.state == state)
        return self._session.exec(query).one()

    def absent(self) -> int:
        """Items that the source no longer lists and that are still here."""
        query = select(func.count()).select_from(ItemRow).where(ItemRow.state != HELD)
        return self._session.exec(query).one()

    def notes(self) -> dict[str, int]:
        """How many items were had in another way than usual, by note."""
        query = select(ItemRow.note, func.count()).where(ItemRow.note != "").group_by(ItemRow.note)
        return dict(self._session.exec(query).all())

    def miss_unseen(self, collection: FolderRow) -> None:
        """After a full listing: what it did not mention is missing, or no longer to be retried."""
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

    def missing(self, service: Service, *, after: int, limit: int) -> list[ItemRow]:
        """Missing items by row number, for going through them in steps."""
        query = select(ItemRow).where(
            ItemRow.service == service,
            ItemRow.state == MISSING,
            ItemRow.id > after,  # type: ignore[operator]
        )
        return list(self._session.exec(query.order_by(ItemRow.id).limit(limit)))  # type: ignore[arg-type]

    def move_state(self, service: Service, was: int, now: int) -> None:
        """Every item of a service in one state goes into another, inside a transaction."""
        chosen = (ItemRow.service == service, ItemRow.state == was)
        self._session.exec(update(ItemRow).where(*chosen).values(state=now))  # type: ignore[arg-type]

    def drop_items(self, rows: Sequence[ItemRow]) -> None:
        """Forget items with their gaps and retries, inside a transaction."""
        for row in rows:
            self.drop_gaps(row.collection, owner=row.key)
            self._session.exec(delete(ItemRow).where(ItemRow.id == row.id))  # type: ignore[arg-type]

    def hashes(self, collection: FolderRow) -> Iterator[tuple[str, str, int]]:
        """Key, SHA-256 and size of every item of a collection, in the order of the keys."""
        query = select(ItemRow.key, ItemRow.sha256, ItemRow.size)
        query = query.where(ItemRow.collection == collection.id).order_by(ItemRow.key)
        yield from self._session.exec(query.execution_options(yield_per=CHUNK))

    def children(self, folder: FolderRow) -> list[FolderRow]:
        """The folders that lie directly in a folder, by name."""
        query = select(FolderRow).where(FolderRow.parent == folder.id).order_by(FolderRow.local)
        return list(self._session.exec(query))

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

    # -- retry ledger, gaps, journal ----------------------------------------------------------

    def retries(self, collection: int | None = None, *, due: int | None = None) -> list[RetryRow]:
        """The retry ledger: of a collection, due at a time, or all of it."""
        query = select(RetryRow)
        if collection is not None:
            query = query.where(RetryRow.collection == collection)
        if due is not None:
            query = query.where(RetryRow.next_try <= due)
        return list(self._session.exec(query.order_by(RetryRow.first_seen, RetryRow.id)))  # type: ignore[arg-type]

    def ledger_ids(self, collection: int) -> set[str]:
        """The ids in the retry ledger of a collection."""
        return set(
            self._session.exec(select(RetryRow.source_id).where(RetryRow.collection == collection))
        )

    def retry(self, collection: int, source_id: str) -> RetryRow | None:
        """One entry of the retry ledger."""
        return self._session.exec(
            select(RetryRow).where(
                RetryRow.collection == collection, RetryRow.source_id == source_id
            )
        ).first()

    def drop_retry(self, collection: int, source_id: str) -> None:
        """The item is had, or gone: no longer in the ledger; inside a transaction."""
        chosen = (RetryRow.collection == collection, RetryRow.source_id == source_id)
        self._session.exec(delete(RetryRow).where(*chosen))  # type: ignore[arg-type]

    def keep_listed(self, collection: int, source_id: str, round_: int) -> None:
        """An item that failed was listed all the same: what we hold of it stays; in a transaction."""
        chosen = (ItemRow.collection == collection, ItemRow.source_id == source_id)
        self._session.exec(update(ItemRow).where(*chosen).values(round=round_))  # type: ignore[arg-type]

    def gaps(self) -> list[GapRow]:
        """Every coverage gap."""
        return list(self._session.exec(select(GapRow).order_by(GapRow.service, GapRow.id)))  # type: ignore[arg-type]

    def drop_gaps(
        self, collection: int | None, *, owner: str = "", source_id: str | None = None
    ) -> None:
        """Forget gaps: of an item, of one thing, or those of whole collections; in a transaction."""
        query = delete(GapRow).where(GapRow.collection == collection, GapRow.owner == owner)  # type: ignore[arg-type]
        if source_id is not None:
            query = query.where(GapRow.source_id == source_id)  # type: ignore[arg-type]
        self._session.exec(query)

    def drop_service_gaps(self, service: Service) -> None:
        """Forget the gaps that are whole collections; inside a transaction."""
        chosen = (GapRow.service == service, GapRow.collection == None)  # noqa: E711
        self._session.exec(delete(GapRow).where(*chosen))  # type: ignore[arg-type]

    def journal(self, moves: Iterable[tuple[str, str | None]]) -> None:
        """Say what is about to appear in the mirror, durably, before it does."""
        with self.transaction() as session:
            session.add_all(JournalRow(path=path, was=was) for path, was in moves)

    def journal_rows(self) -> list[JournalRow]:
        """What was under way when the last run ended."""
        return list(self._session.exec(select(JournalRow).order_by(JournalRow.id.desc())))  # type: ignore[union-attr]

    def clear_journal(self) -> None:
        """The change is complete, inside its transaction."""
        self._session.exec(delete(JournalRow))

    def dirty(self) -> list[DirtyRow]:
        """Index files to be written again."""
        return list(self._session.exec(select(DirtyRow)))

    def mark_dirty(self, places: Iterable[tuple[int, str]]) -> None:
        """Remember that these index files must be written again, inside a transaction."""
        self._stale.update(places)


_RAISE_REVISION = """
INSERT INTO meta (key, value) VALUES ('revision', '1')
ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)
"""

_COUNT_INDEXES = """
SELECT (SELECT COUNT(DISTINCT folder || '/' || substr(name, 1, instr(name, '/')))
        FROM itemrow WHERE service = 'MAIL')
     + (SELECT COUNT(*) FROM (
            SELECT DISTINCT folder FROM itemrow WHERE service <> 'MAIL'
            UNION SELECT parent FROM folderrow WHERE service = 'FILES' AND collection IS NOT NULL))
"""

_MARK_DIRTY = "INSERT OR IGNORE INTO dirtyrow (folder, shard) VALUES (:folder, :shard)"


def dumps(facts: Facts) -> str:
    """Facts as one line of JSON that equal facts always give."""
    return json.dumps(dict(facts), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def loads(line: str) -> dict[str, Any]:
    """The facts of a row."""
    facts: dict[str, Any] = json.loads(line)
    return facts


def _create(connection: Any) -> None:
    SQLModel.metadata.create_all(connection)


MIGRATIONS: tuple[Callable[[Any], None], ...] = (_create,)
"""From schema N to N + 1, by position."""


def _engine(path: Path, *, read_only: bool) -> Engine:
    address = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False),
        poolclass=StaticPool,
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: object) -> None:
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # a committed cursor must survive a power cut
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


def _unusable(path: Path, error: DatabaseError) -> BackupdError:
    cause = str(error.orig)
    if "full" in cause or "readonly" in cause or "unable to open" in cause:
        return UserError(
            f"Cannot open {path}: {cause}.",
            hint="Check free space, the owner of the state directory and its permissions.",
        )
    return IntegrityError(
        f"{path} is damaged: {cause}.",
        hint="Move it aside: the next sync builds it anew from the source; snapshots are not affected.",
    )


def _as_disk_error(path: Path, error: DatabaseError) -> Exception:
    """A full disk is a full disk, whoever met it first."""
    if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_FULL":
        return OSError(errno.ENOSPC, "No space left on device", str(path))
    return error


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]
