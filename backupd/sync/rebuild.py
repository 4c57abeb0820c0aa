"""A catalog out of a mirror: what the index files and `account.json` say becomes rows again.

What only a catalog knows stays unknown: cursors (the next sync lists everything and finds most of it known) and
the retry ledger (it is found anew). An item's version is worked out by its source when it is first seen again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from backupd.catalog import Catalog, NewItem, dumps
from backupd.catalog.rows import UNTOLD, FolderRow, GapRow, id_of
from backupd.errors import IntegrityError
from backupd.mirror import names
from backupd.mirror.index import OWN
from backupd.mirror.tree import index_path
from backupd.model import Account, AccountKind, Service

BATCH = 1_000
"""Rows in one transaction."""

Line = Mapping[str, Any]


@dataclass
class Rebuilt:
    """What was found: items and bytes, and the paths that an index names and that are not there as it says."""

    items: int = 0
    size: int = 0
    damaged: list[str] = field(default_factory=list)


def account_of(described: Mapping[str, Any]) -> Account:
    """The account that an `account.json` describes. Raises IntegrityError."""
    try:
        told = described["account"]
        services = frozenset(Service(each["service"]) for each in described["collections"])
        return Account(
            str(told["id"]), str(told["address"]), str(told["name"]), AccountKind(told["kind"]),
            str(told["source"]), services,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise _unlike(f"account.json ({error})") from error


def rebuild(catalog: Catalog, root: Path, described: Mapping[str, Any]) -> Rebuilt:
    """Fill an empty catalog from the mirror below `root`. Raises IntegrityError for an index that is none."""
    return _Rebuild(catalog, root).run(described)


class _Rebuild:
    def __init__(self, catalog: Catalog, root: Path) -> None:
        self._catalog = catalog
        self._root = root
        self._told = Rebuilt()

    def run(self, described: Mapping[str, Any]) -> Rebuilt:
        rows: dict[str, FolderRow] = {}
        for each in sorted(described["collections"], key=lambda each: str(each["path"])):
            rows[each["path"]] = self._collection(each, _above(each["path"], rows))
        for row in rows.values():
            if row.service is Service.FILES:
                self._drive(row)
            elif row.service is Service.MAIL:
                for index in sorted((self._root / row.path).glob("[0-9u]*/index.jsonl")):
                    self._items(row, row, index, f"{index.parent.name}/")
            else:
                self._items(row, row, self._root / index_path(row), "")
        self._gaps(described.get("gaps") or (), rows)
        return self._told

    def _collection(self, told: Mapping[str, Any], parent: FolderRow | None) -> FolderRow:
        path, service = str(told["path"]), Service(told["service"])
        parts = path.split("/")
        if parts[0] != service or {"", ".", ".."} & set(parts):
            raise _unlike(f"a collection at {path[:80]!r}")
        row = FolderRow(
            service=service,
            source_id=str(told["id"]),
            parent=parent.id if parent else None,
            name=str(told["name"]),
            path=path,
            special=told.get("special"),
            count=told.get("source_count"),
            facts=dumps(told.get("facts") or {}),
            local=parts[-1],
            fold=names.fold(parts[-1]),
        )
        return self._added(row)

    def _added(self, row: FolderRow) -> FolderRow:
        with self._catalog.transaction() as session:
            session.add(row)
            session.flush()
            self._catalog.touched()
        return row

    def _drive(self, drive: FolderRow) -> None:
        """A drive's folders from the top down; each index names the folders and the files in one."""
        waiting = [drive]
        while waiting:
            folder = waiting.pop()
            index = self._root / index_path(folder)
            waiting += [
                self._folder(drive, folder, line) for line in _lines(index) if "folder" in line
            ]
            self._items(drive, folder, index, "")

    def _folder(self, drive: FolderRow, parent: FolderRow, line: Line) -> FolderRow:
        path = f"{parent.path}/{_leaf(line)}"
        row = FolderRow(
            service=Service.FILES,
            scope=id_of(drive),
            collection=drive.id,
            source_id=str(line["id"]),
            parent=parent.id,
            name=str(line["folder"]),
            path=path,
            local=_leaf(line),
            fold=names.fold(_leaf(line)),
        )
        return self._added(row)

    def _items(self, collection: FolderRow, folder: FolderRow, index: Path, shard: str) -> None:
        lines = (line for line in _lines(index) if "sha256" in line)
        while batch := list(islice(lines, BATCH)):
            rows = [self._item(collection, folder, line, shard) for line in batch]
            with self._catalog.transaction():
                self._catalog.add_items([row for row in rows if row])
                self._catalog.touched()

    def _item(
        self, collection: FolderRow, folder: FolderRow, line: Line, shard: str
    ) -> NewItem | None:
        name = f"{shard}{_leaf(line)}"
        try:
            size = int(line["size"])
            row = NewItem(
                collection.service,
                id_of(collection) if collection.service is Service.FILES else 0,
                id_of(collection),
                id_of(folder),
                str(line["id"]),
                str(line["key"]),
                UNTOLD,
                name,
                names.fold(name),
                size,
                str(line["sha256"]),
                dumps(line.get("source") or {}),
                dumps({word: value for word, value in line.items() if word not in OWN}),
                str(line.get("note") or ""),
                0,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _unlike(f"the index of {folder.path} ({error})") from error
        return self._checked(row, f"{folder.path}/{name}", size)

    def _checked(self, row: NewItem, path: str, size: int) -> NewItem | None:
        """A file that is not as its index says is fetched again: it gets no row."""
        place = self._root / path
        if place.is_symlink() or not place.is_file() or place.stat().st_size != size:
            self._told.damaged.append(path)
            return None
        self._told.items += 1
        self._told.size += size
        return row

    def _gaps(self, told: Any, rows: Mapping[str, FolderRow]) -> None:
        """What cannot be had was told when items were fetched: nobody tells it again."""
        seen: set[tuple[object, ...]] = set()
        with self._catalog.transaction() as session:
            for each in told:
                collection = rows.get(str(each.get("collection")))
                row = GapRow(
                    service=Service(each["service"]),
                    collection=collection.id if collection else None,
                    owner=str(each.get("owner") or ""),
                    source_id=str(each["id"]),
                    kind=str(each["kind"]),
                    name=str(each["name"]),
                    why=str(each["why"]),
                )
                mark = (row.service, row.collection, row.source_id, row.owner)
                if mark not in seen:
                    seen.add(mark)
                    session.add(row)


def _above(path: str, rows: Mapping[str, FolderRow]) -> FolderRow | None:
    """The innermost collection that a path lies in."""
    while "/" in path:
        path = path.rpartition("/")[0]
        if path in rows:
            return rows[path]
    return None


def _leaf(line: Line) -> str:
    """The file that a line names: one component, or nobody's business."""
    leaf = str(line.get("file", ""))
    if leaf in {"", ".", ".."} or "/" in leaf or "\0" in leaf:
        raise _unlike(f"an index that names {leaf[:80]!r}")
    return leaf


def _lines(index: Path) -> Iterator[Line]:
    try:
        with index.open(encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                read = json.loads(line)
                if not isinstance(read, dict):
                    raise _unlike(str(index.name))
                yield read
    except FileNotFoundError:
        return
    except ValueError as error:
        raise _unlike(f"{index.parent.name}/{index.name} ({error})") from error


def _unlike(what: str) -> IntegrityError:
    return IntegrityError(
        f"The snapshot is not as backupd writes it: {what}.",
        hint="Name an older snapshot, or another storage. `restic restore` gives the files in any case.",
        reason="unlike",
    )
