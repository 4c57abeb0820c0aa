"""Drives: OneDrive of a person, document libraries of a site."""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from backupd.demo import quickxor
from backupd.demo.changes import Change, ChangeLog, Stream
from backupd.demo.ids import drive_id, drive_item_id, guid_of
from backupd.demo.moments import EPOCH, now, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from backupd.demo.calls import Json

ITEMS: Stream = ("items", 0)
ROOT = 1
BLOCK = quickxor.PERIOD * 596
"""Size of a block of synthetic content: a whole number of hash periods, close to 1 MiB."""
_CHUNK = 256 * 1024


class FileContent(Protocol):
    """The bytes of a file and what the service says of them."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def quick_xor(self) -> str:
        """The quickXorHash in base64; "" when the service knows none."""
        ...

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`, in pieces."""
        ...


class BytesContent:
    """Content held in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self._hash: str | None = None

    @property
    def quick_xor(self) -> str:
        """Empty files have no hash, as at Microsoft."""
        if self._hash is None:
            self._hash = quickxor.quick_xor(self.data) if self.data else ""
        return self._hash

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Slices of the data."""
        for at in range(start, stop, _CHUNK):
            yield self.data[at : min(at + _CHUNK, stop)]


class SyntheticContent:
    """Any number of bytes, made while they are read. Every block begins with its own number."""

    def __init__(self, size: int, seed: object = 0) -> None:
        self.size = size
        self._block = hashlib.shake_128(f"file/{seed}".encode()).digest(BLOCK)
        self._hash: str | None = None

    @property
    def quick_xor(self) -> str:
        """Computed from one block, since the hash is linear."""
        if self._hash is None:
            whole, rest = divmod(self.size, BLOCK)
            folded = quickxor.fold(self._block[8:].rjust(BLOCK, b"\0")) if whole % 2 else 0
            folded ^= _xor_below(whole) ^ quickxor.fold(self._numbered(whole)[:rest])
            self._hash = quickxor.digest(folded, self.size) if self.size else ""
        return self._hash

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Blocks, the first and last cut to fit."""
        while start < stop:
            number, offset = divmod(start, BLOCK)
            piece = self._numbered(number)[offset : offset + stop - start]
            yield piece
            start += len(piece)

    def _numbered(self, number: int) -> bytes:
        return number.to_bytes(8, "little") + self._block[8:]


class StreamedContent:
    """Content from a function that makes a fresh stream each time it is called."""

    def __init__(self, size: int, pieces: Callable[[], Iterator[bytes]]) -> None:
        self.size = size
        self.quick_xor = ""
        self._pieces = pieces

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The part of the stream that was asked for."""
        at = 0
        for piece in self._pieces():
            wanted = piece[max(start - at, 0) : max(stop - at, 0)]
            if wanted:
                yield wanted
            at += len(piece)
            if at >= stop:
                return


@dataclass
class DriveItem:
    """A folder (no content), a file, or something that is neither (`facets`: package, remoteItem).

    Attributes:
        delivered: what a download hands out where it differs from what is promised.
        malware: the service refuses to hand it out.
    """

    uid: int
    name: str
    parent: int
    content: FileContent | None = None
    facets: Json = field(default_factory=dict)
    delivered: FileContent | None = None
    malware: bool = False
    created: datetime = EPOCH
    modified: datetime = EPOCH
    version: int = 1
    versions: list[FileContent] = field(default_factory=list)

    @property
    def is_folder(self) -> bool:
        """Whether other items can lie in it."""
        return self.content is None and not self.facets


class Drive:
    """One drive and its change log."""

    def __init__(self, owner: str, name: str, kind: str = "business", host: str = "") -> None:
        self.id = drive_id(f"{owner}/{name}")
        self.owner = owner
        self.name = name
        self.kind = kind
        self.host = host
        self.log = ChangeLog()
        self.items: dict[int, DriveItem] = {ROOT: DriveItem(ROOT, "root", 0)}
        self._numbers = itertools.count(ROOT + 1)
        self._by_id = {self.item_id(ROOT): ROOT}
        self._below: dict[int, dict[str, DriveItem]] = {}
        self.locked = False
        self.quota = 1 << 40

    def item_id(self, uid: int) -> str:
        """The id of an item; it stays when the item moves."""
        return drive_item_id(self.id, uid)

    def item(self, name: str | int) -> DriveItem:
        """Find by number, id, `root`, or path such as `Cases/2026/brief.docx`; raises KeyError."""
        if isinstance(name, int):
            return self.items[name]
        if name in self._by_id:
            return self.items[self._by_id[name]]
        at = self.items[ROOT]
        for step in [part for part in name.split("/") if part and name != "root"]:
            at = self._child(at, step)
        return at

    def children(self, parent: int) -> list[DriveItem]:
        """What lies right below a folder."""
        return list(self._below.get(parent, {}).values())

    def after(self, uid: int, limit: int) -> list[DriveItem]:
        """The next `limit` items with greater numbers; parents before children unless moved."""
        numbers = list(self.items)  # in order: items are only ever added with the next number
        start = bisect_right(numbers, uid)
        return [self.items[number] for number in numbers[start : start + limit]]

    def put_file(self, path: str, content: FileContent, **details: object) -> DriveItem:
        """Write a file, its folders included; a new version when it is there already."""
        folder_path, _, name = path.rpartition("/")
        folder = self.make_folders(folder_path)
        try:
            return self._overwrite(self._child(folder, name), content)
        except KeyError:
            return self.add(name, folder, content=content, **details)

    def make_folders(self, path: str) -> DriveItem:
        """The folder at `path`, made where missing."""
        at = self.items[ROOT]
        for step in [part for part in path.split("/") if part]:
            try:
                at = self._child(at, step)
            except KeyError:
                at = self.add(step, at)
        return at

    def add(self, name: str, parent: DriveItem, **details: object) -> DriveItem:
        """Add an item under any name that its folder lacks; `details` are fields of DriveItem."""
        item = DriveItem(next(self._numbers), name, parent.uid)
        for key, value in details.items():
            setattr(item, key, value)
        self._hang(item)
        self.items[item.uid] = item
        self._by_id[self.item_id(item.uid)] = item.uid
        self.log.note(ITEMS, Change(item.uid))
        return item

    def rename(self, item: DriveItem, name: str) -> None:
        """Rename; what lies below a folder is not reported."""
        del self._below[item.parent][item.name]
        item.name = name
        self._hang(item)
        self._touch(item)

    def move(self, item: DriveItem, parent: DriveItem) -> None:
        """Move; what lies below a folder is not reported."""
        del self._below[item.parent][item.name]
        item.parent = parent.uid
        self._hang(item)
        self._touch(item)

    def delete(self, item: DriveItem) -> None:
        """Delete an item and everything below it; each is reported."""
        for child in self.children(item.uid):
            self.delete(child)
        del self.items[item.uid]
        del self._below[item.parent][item.name]
        del self._by_id[self.item_id(item.uid)]
        self.log.note(ITEMS, Change(item.uid, gone=True))

    def size(self, item: DriveItem) -> int:
        """Bytes of a file, or of everything below a folder."""
        if item.content is not None:
            return item.content.size
        return sum(self.size(child) for child in self.children(item.uid))

    def path(self, item: DriveItem) -> str:
        """The path below the root."""
        names = []
        while item.uid != ROOT:
            names.append(item.name)
            item = self.items[item.parent]
        return "/".join(reversed(names))

    def _child(self, parent: DriveItem, name: str) -> DriveItem:
        return self._below.get(parent.uid, {})[name]

    def _hang(self, item: DriveItem) -> None:
        siblings = self._below.setdefault(item.parent, {})
        if item.name in siblings:
            raise ValueError(f"{item.name!r} is there already")
        siblings[item.name] = item

    def _overwrite(self, item: DriveItem, content: FileContent) -> DriveItem:
        if item.content is not None:
            item.versions.insert(0, item.content)
        item.content = content
        item.delivered = None
        self._touch(item)
        return item

    def _touch(self, item: DriveItem) -> None:
        item.version += 1
        item.modified = now()
        self.log.note(ITEMS, Change(item.uid))


def item_json(drive: Drive, item: DriveItem, *, with_path: bool = False) -> Json:
    """An item as Graph shows it; the parent's path only outside delta answers."""
    guid = guid_of(drive.id, item.uid).upper()
    row: Json = {
        "id": drive.item_id(item.uid),
        "name": item.name,
        "size": drive.size(item) if item.is_folder or item.content is not None else 0,
        "eTag": f'"{{{guid}}},{item.version}"',
        "cTag": f'"c:{{{guid}}},{item.version}"',
        "createdDateTime": stamp(item.created),
        "lastModifiedDateTime": stamp(item.modified),
        "webUrl": f"https://{drive.host}/{guid}",
        "fileSystemInfo": {
            "createdDateTime": stamp(item.created),
            "lastModifiedDateTime": stamp(item.modified),
        },
        "parentReference": _parent(drive, item, with_path=with_path),
    }
    return row | _facets(drive, item) | item.facets


def deleted_json(drive: Drive, uid: int) -> Json:
    """What is left of a deleted item: no name, no cTag."""
    return {
        "id": drive.item_id(uid),
        "deleted": {"state": "deleted"},
        "parentReference": {"driveId": drive.id, "driveType": drive.kind},
    }


def _parent(drive: Drive, item: DriveItem, *, with_path: bool) -> Json:
    parent: Json = {"driveId": drive.id, "driveType": drive.kind}
    if item.uid == ROOT:
        return parent
    parent["id"] = drive.item_id(item.parent)
    if with_path:
        above = drive.path(drive.items[item.parent])
        parent["path"] = f"/drives/{drive.id}/root:" + (f"/{above}" if above else "")
    return parent


def _facets(drive: Drive, item: DriveItem) -> Json:
    if item.uid == ROOT:
        return {"root": {}, "folder": {"childCount": len(drive.children(ROOT))}}
    if item.content is None:
        return {"folder": {"childCount": len(drive.children(item.uid))}} if item.is_folder else {}
    facets: Json = {"file": {"mimeType": "application/octet-stream"}}
    if item.content.quick_xor:
        facets["file"]["hashes"] = {"quickXorHash": item.content.quick_xor}
    if item.malware:
        facets["malware"] = {"description": "Trojan:Test/Example.A"}
    return facets


def _xor_below(limit: int) -> int:
    """0 ^ 1 ^ … ^ (limit - 1)."""
    if limit == 0:
        return 0
    last = limit - 1
    return (last, 1, last + 1, 0)[last % 4]
