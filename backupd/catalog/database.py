"""The open SQLite file: one writer, durable transactions, migrations by version number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import func, text
from sqlalchemy.exc import DatabaseError
from sqlmodel import Session, SQLModel, select

from backupd.catalog.engine import as_disk_error, open_engine, unusable
from backupd.catalog.rows import SCHEMA, TITLE
from backupd.errors import UserError

CHUNK = 500
"""Rows that are read at a time."""


class Database:
    """The open file. Not thread-safe; each thread opens its own."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open, create or migrate. Raises UserError for a newer schema, IntegrityError for damage."""
        self.path = path
        self._engine = open_engine(path, read_only=read_only)
        try:
            self._migrate(read_only=read_only)
        except DatabaseError as error:
            self._engine.dispose()
            raise unusable(path, error.orig) from error
        self._session = Session(self._engine, expire_on_commit=False, autoflush=False)
        self._changed = False
        self._stale: set[tuple[int, str]] = set()
        self._any_dirty = True

    def close(self) -> None:
        """Release the file."""
        self._session.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
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
            raise as_disk_error(self.path, error, error.orig) from error
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
        self._any_dirty = self._any_dirty or bool(self._stale)
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

    def get(self, key: str, default: str = "") -> str:
        """A single value."""
        found = self._session.connection().exec_driver_sql(_GET, (key,)).scalar()
        return default if found is None else str(found)

    def put(self, key: str, value: str) -> None:
        """Set a single value, inside a transaction."""
        self._session.connection().execute(text(_PUT), {"key": key, "value": value})

    @property
    def revision(self) -> int:
        """Goes up with every change of what the mirror holds."""
        return int(self.get("revision", "0"))

    def touched(self) -> None:
        """This transaction changes what the mirror holds."""
        self._changed = True

    def mark_dirty(self, places: Iterable[tuple[int, str]]) -> None:
        """Remember that these index files must be written again, inside a transaction."""
        self._stale.update(places)


_GET = "SELECT value FROM meta WHERE key = ?"

_RAISE_REVISION = """
INSERT INTO meta (key, value) VALUES ('revision', '1')
ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)
"""

_PUT = """
INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""

_MARK_DIRTY = "INSERT OR IGNORE INTO dirtyrow (folder, shard) VALUES (:folder, :shard)"


def _create(connection: Any) -> None:
    SQLModel.metadata.create_all(connection)


def _index_versions(connection: Any) -> None:
    """Content is looked for by what names it."""
    connection.execute(
        text("CREATE INDEX IF NOT EXISTS item_version ON itemrow (service, version)")
    )


def _index_states(connection: Any) -> None:
    """Counting what each collection holds reads this index and nothing else."""
    connection.execute(text("DROP INDEX IF EXISTS item_state"))
    connection.execute(text("CREATE INDEX item_state ON itemrow (service, state, collection)"))


def _keep_titles(connection: Any) -> None:
    """A search reads an index with name and title of every item, and SQLite sees to the title.

    A generated column would do the same, but no index that holds one is ever enough for SQLite to read.
    """
    known = connection.execute(text("SELECT name FROM pragma_table_info('itemrow')")).scalars()
    if "title" not in known.all():
        connection.execute(text("ALTER TABLE itemrow ADD COLUMN title VARCHAR"))
        connection.execute(text(f"UPDATE itemrow SET title = {TITLE.format(about='about')}"))  # noqa: S608 - constant
        connection.execute(text("DROP INDEX item_folder"))
        connection.execute(text("CREATE INDEX item_folder ON itemrow (folder, fold, title)"))
    title = f"UPDATE itemrow SET title = {TITLE.format(about='new.about')} WHERE id = new.id"  # noqa: S608 - constant
    for when in ("INSERT ON itemrow WHEN new.title IS NULL", "UPDATE OF about ON itemrow"):
        name = f"item_{when[:6].lower()}"
        connection.execute(text(f"CREATE TRIGGER {name} AFTER {when} BEGIN {title}; END"))


MIGRATIONS: tuple[Callable[[Any], None], ...] = (
    _create,
    _index_versions,
    _index_states,
    _keep_titles,
)
"""From schema N to N + 1, by position."""


def any_of(column: Any, values: Sequence[str]) -> Any:
    """Whether a column has one of the values: one parameter, one statement, however many there are."""
    text_ = json.dumps(values)
    if "\\u0000" in text_:  # SQLite's JSON ends a text there
        return column.in_(values)
    listed = func.json_each(text_).table_valued("value")
    return column.in_(select(listed.c.value))
