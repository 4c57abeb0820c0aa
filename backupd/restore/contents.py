"""What a snapshot (or the mirror) holds, read with nothing but its own files.

`account.json` names the collections, the index files describe the items. One folder's index is in
memory at a time, and those of the folders above it. How the bytes leave a vault: `unpacking`.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from backupd.errors import IntegrityError, UserError
from backupd.mirror.index import OWN
from backupd.mirror.names import parse_time
from backupd.mirror.tree import INDEX_ROOT
from backupd.model import Service
from backupd.ports import Parcel, Reader, Shelf

FORMATS = (1,)
"""The mirror formats this version reads."""

NOT_ABOUT = OWN | {"files"}
"""Words of an index line that are not about the item itself, those of early versions too."""

AGES = {Service.MAIL: "received", Service.FILES: "modified"}
"""Which fact of an item says how old it is."""

URGENT = ("inbox", "sentitems", "drafts")
"""Mail that people need first to go on working."""

CALLED = {"recoverableitemsdeletions": "Recoverable items"}
"""Folders that their own program never shows, and whose names were not made for people."""


def urgency(shelf: Shelf) -> tuple[int, str]:
    """Sorts collections: current mail, calendars and contacts, the rest of the mail, files."""
    if shelf.service is Service.MAIL:
        return (URGENT.index(shelf.special) if shelf.special in URGENT else 6), shelf.path
    if shelf.service is Service.FILES:
        return 7, shelf.path
    return (3 if shelf.service is Service.CALENDAR else 4), shelf.path


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of an account is meant.

    Attributes:
        folder: a glob over the display names of a collection joined by `/`, or None for all.
        since: only messages received and files modified from then on; calendars and contacts whole.
    """

    services: frozenset[Service] = frozenset(Service)
    folder: str | None = None
    since: datetime | None = None

    @property
    def whole(self) -> bool:
        """Whether a collection that is meant is meant with all its items."""
        return self.since is None

    def takes_item(self, parcel: Parcel) -> bool:
        """Whether an item of a collection that is meant is meant itself; one without a time is."""
        word = AGES.get(parcel.service)
        moment = parse_time(parcel.about.get(word)) if word else None
        return self.since is None or moment is None or moment >= self.since

    def takes(self, service: Service, names: tuple[str, ...]) -> bool:
        """Whether a collection is meant: it, or one it lies in, matches."""
        if service not in self.services:
            return False
        if self.folder is None:
            return True
        wanted = self.folder.casefold()
        parts = [name.casefold() for name in names]
        return any(
            fnmatch.fnmatchcase("/".join(parts[:end]), wanted) for end in range(1, len(parts) + 1)
        )


class Contents:
    """The description of an account below `root` (which need not hold the items themselves)."""

    def __init__(self, root: Path) -> None:
        """Raises UserError for a folder that is no mirror, or of a newer format."""
        self.root = root
        self.described = _described(root)
        names = {
            each["path"]: CALLED.get(each.get("special") or "", each["name"])
            for each in self.described["collections"]
        }
        self._shelves = {
            each["path"]: Shelf(
                Service(each["service"]),
                each["path"],
                _names(each["path"], names),
                each["items"],
                each["bytes"],
                each.get("special"),
            )
            for each in self.described["collections"]
        }
        self._indexes: dict[str, Mapping[str, Any]] = {}

    @property
    def address(self) -> str:
        """The account's address."""
        return str(self.described["account"]["address"])

    @property
    def source(self) -> str:
        """The name of the source it was saved from."""
        return str(self.described["account"].get("source") or "unknown")

    def shelves(self, selection: Selection) -> list[Shelf]:
        """The collections that are meant, the most urgent first."""
        chosen = (
            each for each in self._shelves.values() if selection.takes(each.service, each.names)
        )
        return sorted(chosen, key=urgency)

    def parcels(self, shelf: Shelf, selection: Selection) -> Iterator[Parcel]:
        """The items of a collection that are meant, newest first in mail, without their bytes."""
        for path in self.expected(shelf):
            parcel = self.parcel(path)
            if parcel and self.shelf_of(path) == shelf and selection.takes_item(parcel):
                yield parcel

    def months(self, shelf: Shelf) -> list[str]:
        """The folders of a mail collection that hold its messages, newest first."""
        found = (self.root / shelf.path).glob("[0-9u]*/index.jsonl")
        return [f"{shelf.path}/{each.parent.name}" for each in sorted(found, reverse=True)]

    def parcel(self, path: str) -> Parcel | None:
        """The item at a path; None for a file that is no item (an index, say)."""
        shelf = self.shelf_of(path)
        folder, _, leaf = path.rpartition("/")
        if shelf is None:
            return None
        line = self._index(shelf.service, folder).get(leaf)
        if line is None or "sha256" not in line:
            return None
        return Parcel(
            service=shelf.service,
            collection=shelf.names,
            path=path,
            key=line["key"],
            inner=self._inner(shelf, path) if shelf.service is Service.FILES else (),
            size=line["size"],
            sha256=line["sha256"],
            about={word: value for word, value in line.items() if word not in NOT_ABOUT},
        )

    def expected(self, shelf: Shelf) -> Iterator[str]:
        """The paths of every item of a collection, newest month of mail first."""
        base = self.root / (INDEX_ROOT if shelf.service is Service.FILES else ".")
        inside = shelf.path.removeprefix("files/") if shelf.service is Service.FILES else shelf.path
        for index in sorted((base / inside).glob(self._depth(shelf)), reverse=True):
            folder = index.parent.relative_to(base).as_posix()
            prefix = f"files/{folder}" if shelf.service is Service.FILES else folder
            lines = self._index(shelf.service, prefix)
            newest_first = shelf.service is Service.MAIL  # whose names begin with their time
            for leaf in sorted(lines, reverse=newest_first):
                if "sha256" in lines[leaf]:
                    yield f"{prefix}/{leaf}"

    def _depth(self, shelf: Shelf) -> str:
        """Where below a collection its own index files lie; sub-collections are shelves themselves."""
        if shelf.service is Service.FILES:
            return "**/index.jsonl"
        return "[0-9u]*/index.jsonl" if shelf.service is Service.MAIL else "index.jsonl"

    def shelf_of(self, path: str) -> Shelf | None:
        """The innermost collection a path lies in."""
        while path:
            path = path.rpartition("/")[0]
            if path in self._shelves:
                return self._shelves[path]
        return None

    def _index(self, service: Service, folder: str) -> Mapping[str, Any]:
        if folder not in self._indexes:
            kept = {path: index for path, index in self._indexes.items() if folder.startswith(path)}
            place = (
                f"{INDEX_ROOT}/{folder.removeprefix('files/')}"
                if service is Service.FILES
                else folder
            )
            self._indexes = kept | {folder: _lines(self.root / place / "index.jsonl")}
        return self._indexes[folder]

    def _inner(self, shelf: Shelf, path: str) -> tuple[str, ...]:
        """The true names below the drive; an index line tells the name behind each component."""
        names, folder = [], shelf.path
        for part in path.removeprefix(shelf.path + "/").split("/"):
            line = self._index(shelf.service, folder).get(part, {})
            names.append(str(line.get("folder") or line.get("name") or part))
            folder = f"{folder}/{part}"
        return tuple(names)


class Absent:
    """Stands for a file that should be there and is not: one item's failure, not the run's."""

    def __init__(self, path: str, whole: str) -> None:
        self._path = path
        self._whole = whole

    def read(self, _size: int = -1, /) -> bytes:
        """Raises IntegrityError."""
        raise IntegrityError(
            f"{self._path} is missing from the {self._whole}.", reason="missing-file"
        )


@contextmanager
def opened(root: Path, parcel: Parcel, whole: str) -> Iterator[Reader]:
    """The bytes of an item below a root; `whole` is what it should be part of, for people."""
    place = root / parcel.path
    if not place.is_file():
        yield Absent(parcel.path, whole)
        return
    with place.open("rb") as content:
        yield content


class MirrorContents(Contents):
    """An account whose bytes lie below the same root."""

    def walk(self, selection: Selection) -> Iterator[tuple[Parcel, Reader]]:
        """Every item that is meant, with its bytes; reading a missing file raises IntegrityError."""
        for shelf in self.shelves(selection):
            for parcel in self.parcels(shelf, selection):
                with self.open(parcel) as content:
                    yield parcel, content

    def open(self, parcel: Parcel) -> AbstractContextManager[Reader]:
        """The bytes of one item."""
        return opened(self.root, parcel, "mirror")


def _described(root: Path) -> dict[str, Any]:
    try:
        described: dict[str, Any] = json.loads((root / "account.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{root} holds no account.json: it is not a mirror or snapshot of backupd.",
            hint="Run `backupd backup` first, or name another snapshot.",
            reason="no-contents",
        ) from error
    if described.get("format") not in FORMATS:
        raise UserError(
            f"This snapshot has format {described.get('format')!r}, which this version does not know.",
            hint="Use the version of backupd that wrote it, or a newer one; `restic restore` always works.",
            reason="newer-format",
        )
    return described


def _names(path: str, names: Mapping[str, str]) -> tuple[str, ...]:
    """The display names of a collection and those it lies in."""
    parts = path.split("/")
    above = ("/".join(parts[:end]) for end in range(2, len(parts) + 1))
    return tuple(names[each] for each in above if each in names)


def _lines(index: Path) -> Mapping[str, Any]:
    try:
        with index.open(encoding="utf-8", errors="surrogateescape") as lines:
            return {line["file"]: line for line in map(json.loads, lines)}
    except FileNotFoundError:
        return {}
