"""The ledger of a restore: what was put where, so that no later run does it again.

One SQLite file for a source account, a target and the account there, whatever the run, the
snapshot or the state of the catalog. An item is written down after the target has it; a run that
is killed between the two leaves its collection unsettled, and the next run looks there first.
Plain SQLite: it is asked several times for every item, and an object mapper took two thirds of a run.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from backupd.catalog.engine import as_disk_error, connect, unusable
from backupd.errors import UserError
from backupd.model import Service
from backupd.ports import Parcel, Proof, Put

SCHEMA = 1

TABLES = (
    """CREATE TABLE entry (
        service TEXT NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL, shelf TEXT NOT NULL,
        sha256 TEXT NOT NULL, size INTEGER NOT NULL, state TEXT NOT NULL, place TEXT NOT NULL,
        why TEXT NOT NULL, digest TEXT NOT NULL, proof TEXT NOT NULL, what TEXT NOT NULL,
        run INTEGER NOT NULL, PRIMARY KEY (service, key)) WITHOUT ROWID""",
    "CREATE INDEX entry_of_shelf ON entry (shelf)",
    "CREATE TABLE shelf (path TEXT PRIMARY KEY, settled INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE run (number INTEGER PRIMARY KEY, began REAL NOT NULL, target TEXT NOT NULL)",
)

COMMIT_ROWS, COMMIT_SECONDS = 200, 2.0
"""What a power cut can make the ledger forget; the next run finds it at the target."""

DONE = ("restored", "repaired", "present")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of an item; `proof` is empty until it was read back."""

    service: Service
    key: str
    path: str
    shelf: str
    sha256: str
    size: int
    put: Put
    proof: str
    what: str
    run: int

    @property
    def done(self) -> bool:
        """Whether the target has it."""
        return self.put.state in DONE


class Ledger:
    """The open ledger. One thread, one writer."""

    def __init__(self, path: Path, target: str) -> None:
        """Open or create; begins a new run. Raises UserError for a newer version, IntegrityError for damage."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        try:
            self._connection = connect(path)
        except sqlite3.Error as error:
            raise unusable(path, error) from error
        try:
            self._prepare()
            self.run = self._begin(target)
        except BaseException as error:
            self._connection.close()
            if isinstance(error, sqlite3.Error):
                raise unusable(path, error) from error
            raise
        self._pending, self._since = 0, time.monotonic()

    def close(self) -> None:
        """Make everything durable and release the file."""
        self.commit()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- items ----------------------------------------------------------------------------------

    def entry(self, parcel: Parcel) -> Entry | None:
        """What is known of an item, whichever of its versions was put."""
        found = self._run(
            "SELECT * FROM entry WHERE service = :service AND key = :key",
            service=parcel.service,
            key=parcel.key,
        ).fetchone()
        return _entry(found) if found else None

    def record(self, parcel: Parcel, shelf: str, put: Put) -> None:
        """Write down what became of an item; nothing is proven of it yet."""
        self._run(
            "INSERT OR REPLACE INTO entry VALUES (:service, :key, :path, :shelf, "
            ":sha256, :size, :state, :place, :why, :digest, '', '', :run)",
            service=parcel.service,
            key=parcel.key,
            path=parcel.path,
            shelf=shelf,
            sha256=parcel.sha256,
            size=parcel.size,
            state=put.state,
            place=put.where,
            why=put.why,
            digest=put.digest,
            run=self.run,
        )
        self._written()

    def proven(self, proof: Proof) -> None:
        """Write down what the target was found to hold."""
        parcel = proof.claim.parcel
        self._run(
            "UPDATE entry SET proof = :proof, what = :what WHERE service = :service AND key = :key",
            proof=proof.state,
            what=proof.what,
            service=parcel.service,
            key=parcel.key,
        )
        self._written()

    def entries(self) -> Iterator[Entry]:
        """Every item that any run met, by path."""
        self.commit()
        for row in self._run("SELECT * FROM entry ORDER BY path"):
            yield _entry(row)

    def holds_any(self, shelf: str) -> bool:
        """Whether anything of a collection was put before."""
        found = self._run(
            "SELECT 1 FROM entry WHERE shelf = :shelf AND run < :run LIMIT 1",
            shelf=shelf,
            run=self.run,
        )
        return found.fetchone() is not None

    # -- collections ----------------------------------------------------------------------------

    def settled(self, shelf: str) -> bool:
        """Whether all that a run put into a collection is written down here."""
        found = self._run("SELECT settled FROM shelf WHERE path = :path", path=shelf).fetchone()
        return bool(found and found[0])

    def mark(self, shelf: str, *, settled: bool) -> None:
        """Durably say whether the ledger knows all that was put into a collection."""
        self._run(
            "INSERT OR REPLACE INTO shelf VALUES (:path, :settled)", path=shelf, settled=settled
        )
        self.commit()

    # -- the file -------------------------------------------------------------------------------

    def commit(self) -> None:
        """Make durable what was written down. Raises OSError when the disk is full."""
        try:
            self._connection.commit()
        except sqlite3.Error as error:
            raise as_disk_error(self.path, error) from error
        self._pending, self._since = 0, time.monotonic()

    def _written(self) -> None:
        self._pending += 1
        if self._pending >= COMMIT_ROWS or time.monotonic() - self._since > COMMIT_SECONDS:
            self.commit()

    def _run(self, statement: str, **values: Any) -> Any:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise as_disk_error(self.path, error) from error

    def _prepare(self) -> None:
        found = self._run("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA:
            raise UserError(
                f"{self.path} was written by a newer backupd (ledger {found}, this one knows {SCHEMA}).",
                hint="Run the newer version again. Nothing was changed.",
                reason="newer-ledger",
            )
        if found < SCHEMA:
            _create(self._connection)

    def _begin(self, target: str) -> int:
        self._run("INSERT INTO run (began, target) VALUES (:began, :target)", began=time.time(), target=target)  # fmt: skip
        number = int(self._run("SELECT max(number) FROM run").fetchone()[0])
        self._connection.commit()
        return number


def _create(connection: sqlite3.Connection) -> None:
    for statement in TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.commit()


def _entry(row: Sequence[Any]) -> Entry:
    service, key, path, shelf, sha256, size, state, place, why, digest, proof, what, run = row
    return Entry(Service(service), key, path, shelf, sha256, size, Put(state, place, why, digest), proof, what, run)  # fmt: skip
