"""SQLite as backupd opens it: write-ahead log, durable commits, errors that name the file."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import StaticPool

from backupd.errors import BackupdError, IntegrityError, UserError


def open_engine(path: Path, *, read_only: bool) -> Engine:
    """An engine of one connection; a transaction that has returned survives a power cut."""
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


def unusable(path: Path, error: DatabaseError) -> BackupdError:
    """Why a file cannot be opened, for a person."""
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


def as_disk_error(path: Path, error: DatabaseError) -> Exception:
    """A full disk is a full disk, whoever met it first."""
    if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_FULL":
        return OSError(errno.ENOSPC, "No space left on device", str(path))
    return error
