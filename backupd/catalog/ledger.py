"""The retry ledger, the coverage gaps, and the journal of a change under way."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import insert
from sqlmodel import delete, select

from backupd.catalog.database import Database
from backupd.catalog.rows import DirtyRow, GapRow, JournalRow, RetryRow
from backupd.model import Service

_TROUBLES = """
SELECT reason, COUNT(*), message, MIN(first_seen) FROM retryrow GROUP BY reason ORDER BY reason
"""
"""SQLite takes a bare column from the row that has the minimum."""

_GAP_KINDS = "SELECT kind, COUNT(*) FROM gaprow GROUP BY kind ORDER BY MIN(service), MIN(id)"


class Ledger(Database):
    """What could not be had, what cannot be had, and what is half done."""

    def retries(self, collection: int | None = None, *, due: int | None = None) -> list[RetryRow]:
        """The retry ledger: of a collection, due at a time, or all of it."""
        query = select(RetryRow)
        if collection is not None:
            query = query.where(RetryRow.collection == collection)
        if due is not None:
            query = query.where(RetryRow.next_try <= due)
        return list(self._session.exec(query.order_by(RetryRow.first_seen, RetryRow.id)))  # type: ignore[arg-type]

    def troubles(self) -> list[tuple[str, int, str]]:
        """What the retry ledger holds, by reason: how many items, and what was said of the first."""
        found = self._session.connection().exec_driver_sql(_TROUBLES)
        return [(reason, count, message) for reason, count, message, _ in found]

    def gap_kinds(self) -> dict[str, int]:
        """How many coverage gaps there are of each kind."""
        found = self._session.connection().exec_driver_sql(_GAP_KINDS)
        return {kind: int(count) for kind, count in found}

    def due_collections(self, due: int) -> set[int]:
        """The collections in which something of the retry ledger is due at a time."""
        query = select(RetryRow.collection).where(RetryRow.next_try <= due).distinct()
        return set(self._session.exec(query))

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

    def gaps(self) -> list[GapRow]:
        """Every coverage gap."""
        return list(self._session.exec(select(GapRow).order_by(GapRow.service, GapRow.id)))  # type: ignore[arg-type]

    def gap_ids(self, collection: int) -> set[str]:
        """The ids of what a collection lists and cannot give."""
        chosen = (GapRow.collection == collection, GapRow.owner == "")
        return set(self._session.exec(select(GapRow.source_id).where(*chosen)))

    def drop_gaps(
        self, collection: int | None, *, owner: str = "", source_id: str | None = None
    ) -> None:
        """Forget gaps: of an item, of one thing, or those of whole collections; in a transaction."""
        query = delete(GapRow).where(GapRow.collection == collection, GapRow.owner == owner)  # type: ignore[arg-type]
        if source_id is not None:
            query = query.where(GapRow.source_id == source_id)  # type: ignore[arg-type]
        self._session.exec(query)

    def service_gaps(self, service: Service) -> list[GapRow]:
        """The gaps that are whole collections."""
        chosen = (GapRow.service == service, GapRow.collection == None)  # noqa: E711
        return list(self._session.exec(select(GapRow).where(*chosen)))

    def drop_service_gaps(self, service: Service) -> None:
        """Forget the gaps that are whole collections; inside a transaction."""
        chosen = (GapRow.service == service, GapRow.collection == None)  # noqa: E711
        self._session.exec(delete(GapRow).where(*chosen))  # type: ignore[arg-type]

    def journal(self, moves: Iterable[tuple[str, str | None]]) -> None:
        """Say what is about to appear in the mirror, durably, before it does."""
        rows = [{"path": path, "was": was} for path, was in moves]
        if rows:
            with self.transaction() as session:
                session.connection().execute(insert(JournalRow), rows)

    def journal_rows(self) -> list[JournalRow]:
        """What was under way when the last run ended."""
        return list(self._session.exec(select(JournalRow).order_by(JournalRow.id.desc())))  # type: ignore[union-attr]

    def clear_journal(self) -> None:
        """The change is complete, inside its transaction."""
        self._session.exec(delete(JournalRow))

    def dirty(self) -> list[DirtyRow]:
        """Index files to be written again; the database is asked only when there may be some."""
        found = list(self._session.exec(select(DirtyRow))) if self._any_dirty else []
        self._any_dirty = bool(found)
        return found
