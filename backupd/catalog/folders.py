"""Folders: collections, and the folders inside drives."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import delete, select, update

from backupd.catalog.database import Database, any_of
from backupd.catalog.rows import DirtyRow, FolderRow, GapRow, ItemRow, RetryRow
from backupd.errors import IntegrityError
from backupd.model import Service

_TAKEN = """
SELECT EXISTS (SELECT 1 FROM itemrow WHERE folder = ? AND fold = ? AND key <> ?)
    OR EXISTS (SELECT 1 FROM folderrow WHERE parent = ? AND fold = ?)
"""


class Folders(Database):
    """What the catalog knows of folders."""

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

    def children(self, folder: FolderRow) -> list[FolderRow]:
        """The folders that lie directly in a folder, by name."""
        query = select(FolderRow).where(FolderRow.parent == folder.id).order_by(FolderRow.local)
        return list(self._session.exec(query))

    def below(self, path: str) -> list[FolderRow]:
        """All folders at or below a mirror path."""
        low, high = path + "/", path + "0"  # "0" follows "/" in every ASCII collation
        inside = select(FolderRow).where(FolderRow.path >= low, FolderRow.path < high)
        exact = select(FolderRow).where(FolderRow.path == path)
        return [*self._session.exec(exact), *self._session.exec(inside)]

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
        found = self._session.connection().exec_driver_sql(
            _TAKEN, (folder, fold, but, folder, fold)
        )
        return bool(found.scalar_one())

    def gone_folders(self, service: Service) -> list[FolderRow]:
        """Folders that the source said are gone, still here."""
        query = select(FolderRow).where(FolderRow.service == service, FolderRow.gone == True)  # noqa: E712
        return list(self._session.exec(query))

    def see_folders(self, drive: FolderRow, source_ids: Sequence[str]) -> None:
        """Folders that a listing names are there, and were seen in its round; inside a transaction."""
        known = (
            FolderRow.service == drive.service,
            FolderRow.scope == drive.id,
            any_of(FolderRow.source_id, source_ids),
        )
        self._session.exec(update(FolderRow).where(*known).values(gone=False, round=drive.round))  # type: ignore[arg-type]

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
