"""Folders: collections and the folders inside drives, as they move about in the mirror.

A move at the source is a rename here. The journal names it before it happens, so that a killed
run can be put right; the rows of everything below follow in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backupd.catalog import Catalog, dumps
from backupd.catalog.rows import FolderRow, id_of
from backupd.errors import TransientError
from backupd.mirror import names
from backupd.mirror.files import Mirror
from backupd.model import Collection, Folder, Service

INDEX_ROOT = "files/.backupd/index"
"""Where the index of drives lies: inside a drive every name belongs to the user."""


def index_path(folder: FolderRow, shard: str = "") -> str:
    """The index file that tells about the items of a folder (and month)."""
    if folder.service is Service.FILES:
        return f"{INDEX_ROOT}/{folder.path.removeprefix('files/')}/index.jsonl"
    return f"{folder.path}/{shard}/index.jsonl" if shard else f"{folder.path}/index.jsonl"


class Tree:
    """Places folders of one account."""

    def __init__(self, catalog: Catalog, mirror: Mirror) -> None:
        self._catalog = catalog
        self._mirror = mirror
        self._known: dict[str, FolderRow] | None = None

    def collections(self, service: Service, seen: Sequence[Collection]) -> list[FolderRow]:
        """The rows of the collections of a service, parents first; one statement while nothing has changed."""
        self._known = {row.source_id: row for row in self._catalog.collections(service, gone=True)}
        try:
            return [self.collection(each) for each in seen]
        finally:
            self._known = None

    def collection(self, seen: Collection) -> FolderRow:
        """The row of a collection, created, renamed or moved to what the source says now."""
        parent = self._collection(seen.service, seen.parent) if seen.parent else None
        row = self._collection(seen.service, seen.id)
        row = self._put(seen.service, 0, row, seen.id, parent, seen.name)
        told = (seen.special, seen.count, dumps(seen.facts), False)
        if (row.special, row.count, row.facts, row.gone) != told:
            with self._catalog.transaction() as session:
                row.special, row.count, row.facts, row.gone = told
                session.merge(row)
        return row

    def folders(self, drive: FolderRow, changes: Iterable[Folder]) -> None:
        """Create, rename and move folders inside a drive, whatever order they are told in."""
        told = {change.id: change for change in changes}
        waiting = list(told.values())
        while waiting:
            later = [change for change in waiting if not self._apply(drive, change)]
            if len(later) == len(waiting):
                self._free(drive, later[0])
            waiting = later
        if told:
            with self._catalog.transaction():
                self._catalog.see_folders(drive, list(told))

    def folder(self, drive: FolderRow, source_id: str | None) -> FolderRow:
        """A folder inside a drive; one that was not told of yet is parked until it is."""
        if source_id is None:
            return drive
        found = self._find(Service.FILES, id_of(drive), source_id)
        return found or self._create(
            drive, source_id, drive, f"unplaced~{names.short_key(source_id)[:8]}"
        )

    def _apply(self, drive: FolderRow, change: Folder) -> bool:
        """Apply a change unless it would put a folder below itself for now."""
        parent = self.folder(drive, change.parent)
        row = self._find(Service.FILES, id_of(drive), change.id)
        if row and parent.path.startswith(row.path + "/"):
            return False
        self._put(Service.FILES, id_of(drive), row, change.id, parent, change.name)
        return True

    def _free(self, drive: FolderRow, change: Folder) -> None:
        """Break a circle of moves: what this folder goes into leaves it for the top of the drive.

        Where that one belongs may be told on a later page only.
        """
        inner = self.folder(drive, change.parent)
        self._move(inner, drive, inner.name)

    def _collection(self, service: Service, source_id: str) -> FolderRow | None:
        """A collection, as it was read with all others or as it is now."""
        if self._known is not None:
            return self._known.get(source_id)
        return self._find(service, 0, source_id)

    def _find(self, service: Service, scope: int, source_id: str | None) -> FolderRow | None:
        return None if source_id is None else self._catalog.find_folder(service, scope, source_id)

    def _put(
        self,
        service: Service,
        scope: int,
        row: FolderRow | None,
        source_id: str,
        parent: FolderRow | None,
        name: str,
    ) -> FolderRow:
        parent_id = parent.id if parent else None
        if row is not None and row.parent == parent_id and row.name == name:
            return row
        self._known = None  # paths change, of this folder and of those in it
        if row is None:
            drive = self._catalog.folder(scope) if scope else None
            return self._create(drive, source_id, parent, name, service)
        return self._move(row, parent, name)

    def _create(
        self,
        drive: FolderRow | None,
        source_id: str,
        parent: FolderRow | None,
        name: str,
        service: Service = Service.FILES,
    ) -> FolderRow:
        local = self._local(service, parent, name, source_id, None)
        base = parent.path if parent else service.value
        row = FolderRow(
            service=service,
            scope=id_of(drive) if drive else 0,
            collection=drive.id if drive else None,
            source_id=source_id,
            parent=parent.id if parent else None,
            name=name,
            local=local,
            fold=names.fold(local),
            path=f"{base}/{local}",
        )
        self._mirror.make_folder(row.path)
        with self._catalog.transaction() as session:
            session.add(row)
            session.flush()
            self._catalog.touched()
            self._tell_parent(row)
        return row

    def _move(self, row: FolderRow, parent: FolderRow | None, name: str) -> FolderRow:
        was, old_parent = row.path, row.parent
        if parent and (parent.path + "/").startswith(was + "/"):
            raise TransientError(
                f"The source says that the folder {name!r} lies inside itself.",
                hint="Nothing was changed. The next run asks again.",
                reason="folders",
            )
        local = self._local(row.service, parent, name, row.source_id, row.id)
        path = f"{parent.path if parent else row.service.value}/{local}"
        moves = [(path, was)]
        if row.service is Service.FILES:
            moves.append((_index_folder(path), _index_folder(was)))
        if path != was:
            self._catalog.journal(moves)
            for new, old in moves:
                self._mirror.rename(old, new)
        with self._catalog.transaction() as session:
            for each in self._catalog.below(was):
                each.path = path + each.path[len(was) :]
                session.add(each)
                if each.id == row.id:
                    row = each
            row.parent = parent.id if parent else None
            row.name, row.local, row.fold = name, local, names.fold(local)
            self._catalog.touched()
            self._tell_parent(row)
            if row.collection is not None and old_parent is not None:
                self._catalog.mark_dirty([(old_parent, "")])
            self._catalog.clear_journal()
        return row

    def _tell_parent(self, row: FolderRow) -> None:
        """The index of a drive's folder lists the folders in it."""
        if row.collection is not None and row.parent is not None:
            self._catalog.mark_dirty([(row.parent, "")])

    def _local(
        self, service: Service, parent: FolderRow | None, name: str, source_id: str, but: int | None
    ) -> str:
        local = names.component(name)
        if self._catalog.taken(parent.id if parent else None, service, names.fold(local), but):
            return names.twin(local, source_id)
        return local

    def forget_empty(self, service: Service) -> None:
        """Remove folders that the source said are gone, once nothing is left in them."""
        for row in _deepest_first(self._catalog.gone_folders(service)):
            if self._catalog.has_content(id_of(row)):
                continue
            self._mirror.remove_folder(row.path)
            if service is Service.FILES:
                self._mirror.remove_folder(_index_folder(row.path))
            with self._catalog.transaction():
                self._catalog.touched()
                self._tell_parent(row)
                self._catalog.drop_folder(id_of(row))


def _index_folder(path: str) -> str:
    return f"{INDEX_ROOT}/{path.removeprefix('files/')}"


def _deepest_first(rows: Sequence[FolderRow]) -> list[FolderRow]:
    return sorted(rows, key=lambda row: row.path.count("/"), reverse=True)
