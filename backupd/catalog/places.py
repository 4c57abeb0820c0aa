"""Items by the place where they lie, for comparing the catalog with what is there."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlmodel import select

from backupd.catalog.database import CHUNK, Database
from backupd.catalog.rows import FolderRow, Meta
from backupd.model import Service


class Places(Database):
    """What the catalog knows of places in the mirror."""

    def places(self) -> Iterator[tuple[str, int, str, str, str]]:
        """Path, size, SHA-256, key and collection of every item, in the order of restic's trees."""
        rows = self._session.connection().execution_options(yield_per=CHUNK).execute(text(_PLACES))
        for row in rows:
            yield (str(row[0]), int(row[1]), str(row[2]), str(row[3]), str(row[4]))

    def shards(self) -> Iterator[tuple[int, str]]:
        """Every folder that has an index file, by its row and, in mail, month."""
        rows = self._session.connection().execute(text(_SHARDS))
        yield from [(int(row[0]), str(row[1])) for row in rows]

    def sizes(self) -> list[tuple[str, int, int]]:
        """Every folder that items lie in: its path, how many lie directly in it, and their bytes."""
        rows = self._session.connection().execute(text(_SIZES))
        return [(str(row[0]), int(row[1]), int(row[2])) for row in rows]

    def snapshot_revisions(self) -> dict[str, str]:
        """The revision of the mirror in the newest snapshot of every storage, by revision."""
        query = select(Meta.value, Meta.key).where(Meta.key.like("snapshot:%:revision"))  # type: ignore[attr-defined]
        return {value: key.split(":")[1] for value, key in self._session.exec(query)}

    def sound(self) -> bool:
        """Whether SQLite finds the file whole."""
        try:
            found = self._session.connection().execute(text("PRAGMA quick_check(1)"))
            return bool(found.scalar_one() == "ok")
        except DatabaseError:
            return False

    def folder_at(self, path: str) -> FolderRow | None:
        """The collection, or folder of a drive, at a mirror path."""
        return self._session.exec(select(FolderRow).where(FolderRow.path == path)).first()

    def has_shard(self, folder: FolderRow, shard: str) -> bool:
        """Whether a month of a mail folder, or another folder, has an index file."""
        query = text(_HAS_MONTH if folder.service is Service.MAIL else _HAS_ANY)
        found = self._session.connection().execute(query, {"folder": folder.id, "shard": shard})
        return found.first() is not None


_PLACES = """
SELECT f.path || '/' || i.name, i.size, i.sha256, i.key, c.path
FROM itemrow i JOIN folderrow f ON f.id = i.folder JOIN folderrow c ON c.id = i.collection
ORDER BY replace(f.path || '/' || i.name, '/', char(1))
"""

_SHARD = "CASE WHEN service = 'MAIL' THEN substr(name, 1, instr(name, '/') - 1) ELSE '' END"

_PARENTS = "SELECT parent, '' FROM folderrow WHERE service = 'FILES' AND collection IS NOT NULL"

_SHARDS = f"SELECT folder, {_SHARD} FROM itemrow UNION {_PARENTS} ORDER BY 1, 2"  # noqa: S608 - constants

_SIZES = f"""
SELECT f.path || CASE WHEN s.shard = '' THEN '' ELSE '/' || s.shard END, s.items, s.bytes
FROM (SELECT folder, {_SHARD} AS shard, COUNT(*) AS items, SUM(size) AS bytes
      FROM itemrow GROUP BY folder, shard) s JOIN folderrow f ON f.id = s.folder
"""  # noqa: S608 - constants

_HAS_MONTH = "SELECT 1 FROM itemrow WHERE folder = :folder AND name >= :shard || '/' AND name < :shard || '0' LIMIT 1"

_HAS_ANY = """
SELECT 1 FROM itemrow WHERE folder = :folder UNION
SELECT 1 FROM folderrow WHERE parent = :folder AND service = 'FILES' AND collection IS NOT NULL LIMIT 1
"""
