"""The folders of a OneDrive as far as a restore needs them: listed once, made where missing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backupd.errors import ItemRefused, UserError
from backupd.mirror import names
from targets.microsoft365.answers import body_of
from targets.microsoft365.graph import Graph, Json, segment

_CONFLICT = "@microsoft.graph.conflictBehavior"
_SELECT = "$select=id,name,size,file,folder,package,remoteItem&$top=200"
_TAKEN, _CREATED = 409, frozenset({200, 201})
NAMES = 200_000
"""Names of items that are kept in memory, over all listed folders."""


@dataclass(frozen=True, slots=True)
class Held:
    """What OneDrive says of an item; `quick_xor` is "" where it says none, of an empty file say."""

    id: str
    size: int
    quick_xor: str
    file: bool
    folder: bool


def held(row: Json) -> Held:
    """What a driveItem says."""
    file = row.get("file")
    hashes = file.get("hashes") if isinstance(file, dict) else None
    found = hashes.get("quickXorHash") if isinstance(hashes, dict) else ""
    size = row.get("size")
    return Held(
        str(row.get("id", "")),
        size if isinstance(size, int) else -1,
        str(found or ""),
        isinstance(file, dict),
        isinstance(row.get("folder"), dict),
    )


@dataclass(slots=True)
class Folder:
    """A folder and what lies in it, by folded name: case makes no difference in OneDrive."""

    id: str
    inside: dict[str, Held]

    def get(self, name: str) -> Held | None:
        """What has a name."""
        return self.inside.get(names.fold(name))

    def remember(self, name: str, item: Held) -> None:
        """Note what was put."""
        self.inside[names.fold(name)] = item


class Drive:
    """The OneDrive of an account; from any thread."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._lock = threading.RLock()
        self._facts: Mapping[str, Any] = {}
        self._folders: OrderedDict[str, Folder] = OrderedDict()

    @property
    def facts(self) -> Mapping[str, Any]:
        """What Graph says of the drive. Raises UserError when the account has none."""
        with self._lock:
            if not self._facts:
                answer = self._graph.ask("GET", f"{self._graph.user}/drive")
                said = body_of(answer)
                if answer.status_code not in _CREATED or not said.get("id"):
                    raise UserError(
                        f"{self._graph.account} has no OneDrive ({answer.status_code}).",
                        hint="It comes into being when the person opens it once, and needs a licence.",
                        reason="no-drive",
                    )
                self._facts = said
            return self._facts

    @property
    def place(self) -> str:
        """The path of its items."""
        return f"drives/{segment(str(self.facts['id']))}/items"

    def below(self, path: str) -> str:
        """A path of the backup as one of this drive: a drive of the same name is this one."""
        top, _, rest = path.partition("/")
        return rest if names.fold(top) == names.fold(str(self.facts.get("name", ""))) else path

    def folder(self, path: str) -> Folder:
        """The folder at a path below the root, made where it is missing."""
        with self._lock:
            if path not in self._folders:
                self._folders[path] = self._found(path)
                while len(self._folders) > 1 and self._known() > NAMES:
                    self._folders.popitem(last=False)
            self._folders.move_to_end(path)
            return self._folders[path]

    def look_again(self, path: str) -> Folder:
        """A folder as it is now."""
        with self._lock:
            self._folders.pop(path, None)
            return self.folder(path)

    def forget(self) -> None:
        """Let go of all that was listed."""
        with self._lock:
            self._folders.clear()

    def _known(self) -> int:
        return sum(len(each.inside) for each in self._folders.values())

    def _found(self, path: str) -> Folder:
        if not path:
            return self._listed("root")
        above, _, name = path.rpartition("/")
        parent = self.folder(above)
        there = parent.get(name)
        if there is None:
            there = self._made(above, name) or self.look_again(above).get(name)
        if there is None or not there.folder:
            raise ItemRefused(f"{path} is a file where a folder should be.", reason="file-in-way")
        return self._listed(there.id)

    def _made(self, above: str, name: str) -> Held | None:
        """A new folder; None when something has the name meanwhile."""
        parent = self.folder(above)
        body = {"name": name, "folder": {}, _CONFLICT: "fail"}
        answer = self._graph.ask("POST", f"{self.place}/{segment(parent.id)}/children", body)
        if answer.status_code == _TAKEN:
            return None
        if answer.status_code not in _CREATED:
            self._graph.refuse(answer)
        made = held(body_of(answer))
        parent.remember(name, made)
        return made

    def _listed(self, item: str) -> Folder:
        where = f"{self.place}/{segment(item)}/children?{_SELECT}"
        own = item if item != "root" else str(self._graph.get(f"{self.place}/root").get("id", ""))
        return Folder(own, dict(self._named(self._graph.pages(where))))

    def _named(self, rows: Iterator[Json]) -> Iterator[tuple[str, Held]]:
        for row in rows:
            if isinstance(row.get("name"), str):
                yield names.fold(row["name"]), held(row)
