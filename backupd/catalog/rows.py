"""The tables of the catalog, schema number `SCHEMA`.

A changed table needs a new number and a migration in `catalog`.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, String, UniqueConstraint
from sqlmodel import Field, SQLModel

from backupd.model import Service

SCHEMA = 4
"""The schema this version writes, kept in `PRAGMA user_version`."""

HELD, MISSING, GONE, LEAVING = 0, 1, 2, 3
"""An item's state: in the mirror; no longer listed; confirmed gone, to be removed if the guard
agrees; being removed. The file is in the mirror in all four."""

UNTOLD = "?"
"""An item's version that its source has yet to work out, from the facts that are held."""


class Meta(SQLModel, table=True):
    """Single values: revision, times of the last sync of each service, the account itself."""

    key: str = Field(primary_key=True)
    value: str


class FolderRow(SQLModel, table=True):
    """A collection, or a folder inside a drive (then `collection` is the drive's row).

    Attributes:
        local: its one path component; `path` is the whole path inside the mirror.
        round: number of the full listing under way or last made; `complete` when it ended.
        drift: held minus counted when last looked at; `suspect` when seen once and not yet acted on.
    """

    __table_args__ = (
        UniqueConstraint("service", "scope", "source_id"),
        Index("folder_path", "path"),
    )
    id: int | None = Field(default=None, primary_key=True)
    service: Service
    scope: int = 0
    collection: int | None = None
    source_id: str
    parent: int | None = Field(default=None, index=True)
    name: str
    local: str
    fold: str
    path: str
    special: str | None = None
    count: int | None = None
    facts: str = "{}"
    cursor: str | None = None
    round: int = 0
    complete: bool = False
    drift: int = 0
    suspect: bool = False
    gone: bool = False


def id_of(row: FolderRow) -> int:
    """The number of a row that the database has."""
    if row.id is None:
        raise AssertionError(f"{row.path} was never stored")
    return row.id


TITLE = "coalesce(json_extract({about}, '$.subject'), json_extract({about}, '$.name'), '')"
"""What a person calls an item, by what is told about it."""


class ItemRow(SQLModel, table=True):
    """One item in the mirror.

    The column `title` is no attribute: the database keeps it, for `backupd.report.lookup`, which reads nothing but the index
    that it is in.

    Attributes:
        scope: 0, or for files the drive's row: the space in which `key` is unique.
        name: its path below its folder's path (mail: `<month>/<file>`).
        version: what identifies its content at the source; "" asks for it to be fetched again, `UNTOLD` for being worked out.
        facts: what the source said, in its own words; `about` the same in shared words.
        round: the last full listing of its collection that mentioned it.
    """

    __table_args__ = (
        UniqueConstraint("service", "scope", "key"),
        Index("item_source", "collection", "source_id"),
        Column("title", String),
        Index("item_folder", "folder", "fold", "title"),
        Index("item_state", "service", "state", "collection"),
        Index("item_version", "service", "version"),
    )
    __mapper_args__ = {"exclude_properties": ["title"]}
    id: int | None = Field(default=None, primary_key=True)
    service: Service
    scope: int = 0
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
    about: str = "{}"
    note: str = ""
    round: int = 0
    state: int = HELD


class RetryRow(SQLModel, table=True):
    """An item that could not be had: the retry ledger. Times are Unix seconds."""

    __table_args__ = (UniqueConstraint("collection", "source_id"),)
    id: int | None = Field(default=None, primary_key=True)
    service: Service
    collection: int
    source_id: str
    folder_id: str | None = None
    name: str | None = None
    facts: str
    reason: str
    message: str
    attempts: int = 1
    first_seen: int
    last_seen: int
    next_try: int
    round: int = 0


class GapRow(SQLModel, table=True):
    """Something the source holds and we cannot take. `collection` is None for a whole collection."""

    __table_args__ = (UniqueConstraint("service", "collection", "source_id", "owner"),)
    id: int | None = Field(default=None, primary_key=True)
    service: Service
    collection: int | None = None
    owner: str = ""
    source_id: str
    kind: str
    name: str
    why: str


class JournalRow(SQLModel, table=True):
    """A change of the mirror under way: `path` is about to appear, from `was` if it is a move."""

    id: int | None = Field(default=None, primary_key=True)
    path: str
    was: str | None = None


class DirtyRow(SQLModel, table=True):
    """An index file that no longer tells what the catalog does: (folder row, month or "")."""

    folder: int = Field(primary_key=True)
    shard: str = Field(primary_key=True)
