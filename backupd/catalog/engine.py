"""SQLite as backupd opens it: write-ahead log, durable commits, errors that name the file."""

from __future__ import annotations

import errno
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool
from sqlalchemy.util import LRUCache

from backupd.errors import BackupdError, IntegrityError, UserError


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection whose committed transactions survive a power cut. Raises sqlite3.Error."""
    address = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    connection = sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False)
    if not read_only:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # a committed cursor must survive a power cut
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


COMPILED: LRUCache[Any, Any] = LRUCache(1_000)
"""Statements as SQLite takes them, for all catalogs: a service opens thousands of them an hour."""


def open_engine(path: Path, *, read_only: bool) -> Engine:
    """An engine of one such connection."""
    base = _dialect_of_all()
    creator = cast("Any", lambda: connect(path, read_only=read_only))
    pool = StaticPool(creator, dialect=base.dialect)
    engine = Engine(pool, base.dialect, base.url, query_cache_size=0)
    return engine.execution_options(compiled_cache=COMPILED)


@cache
def _dialect_of_all() -> Engine:
    """An engine that has met SQLite once; what it compiled can be shared only with its own dialect."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.connect():
        pass
    engine.dispose()
    return engine


def unusable(path: Path, error: BaseException | None) -> BackupdError:
    """Why a file cannot be opened, for a person."""
    cause = str(error)
    if "full" in cause or "readonly" in cause or "unable to open" in cause:
        return UserError(
            f"Cannot open {path}: {cause}.",
            hint="Check free space, the owner of the state directory and its permissions.",
        )
    return IntegrityError(
        f"{path} is damaged: {cause}.",
        hint="Move it aside: the next run builds it anew; snapshots are not affected.",
    )


def as_disk_error(path: Path, error: Exception, cause: BaseException | None = None) -> Exception:
    """A full disk is a full disk, whoever met it first; every other error is itself."""
    if getattr(cause or error, "sqlite_errorname", "") == "SQLITE_FULL":
        return OSError(errno.ENOSPC, "No space left on device", str(path))
    return error
