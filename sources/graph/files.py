"""Files: the drives of a person or a site, their changes, and what identifies a file's content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from backupd.model import (
    Account,
    AccountKind,
    Change,
    Collection,
    Folder,
    Gap,
    Gone,
    Item,
    Page,
    Service,
)
from backupd.ports import Failed, Fetched, Landing
from sources.graph.addresses import quoted
from sources.graph.batch import Part, ask_all
from sources.graph.client import Call, Client, Json
from sources.graph.download import Downloader
from sources.graph.exchange import fetch_each
from sources.graph.failures import Broken, Class, Scope
from sources.graph.fields import mapping
from sources.graph.filefacts import file_facts
from sources.graph.listing import (
    Cursor,
    Listing,
    every_at,
    string,
    values,
    walk,
)

DRIVE = ("id", "name", "driveType", "webUrl")

FIELDS = (
    "id",
    "name",
    "size",
    "file",
    "folder",
    "root",
    "package",
    "remoteItem",
    "malware",
    "deleted",
    "parentReference",
    "fileSystemInfo",
    "createdDateTime",
    "lastModifiedDateTime",
    "createdBy",
    "lastModifiedBy",
    "cTag",
    "eTag",
    "@microsoft.graph.downloadUrl",
)
"""Without `deleted` in it a deletion looks like an update; the last one saves a request a file."""

PER_PAGE = 500
"""Graph's default is 200; 500 works on drives of every kind."""

FULL_UNITS = 2
"""Resource units of a listing without a token; with one it costs 1."""


class Files:
    """The drives of one tenant."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lane = client.lanes.drives

    def collections(self, account: Account) -> Sequence[Collection | Gap]:
        """Every drive: of a person usually one, of a site one per document library."""
        return [
            Collection(
                service=Service.FILES,
                id=string(each, "id"),
                parent=None,
                name=string(each, "name"),
                facts={"driveType": string(each, "driveType"), "webUrl": string(each, "webUrl")},
            )
            for each in self._drives(account)
        ]

    def pages(
        self,
        account: Account,  # noqa: ARG002 - every workload has the same face
        collection: Collection,
        cursor: str | None,
    ) -> Iterator[Page]:
        """The changes of one drive; a refused cursor begins a full listing."""
        call = self._call(Scope.COLLECTION, f"the files in {collection.name}")
        listing = Listing(
            call, lambda: self._beginning(collection), _changes, first_units=FULL_UNITS
        )
        return walk(self._client, listing, cursor)

    def fetch(
        self,
        account: Account,  # noqa: ARG002 - every workload has the same face
        collection: Collection,
        items: Iterable[Item],
        landing: Landing,
    ) -> Iterator[Fetched | Failed]:
        """The bytes of each file, checked against the size and hash that the drive knows."""
        downloader = Downloader(self._client, collection.id)
        return fetch_each(self._client, items, landing, downloader.fetch, downloader.probe)

    def locate(self, account: Account, keys: Sequence[str]) -> Mapping[str, str | None]:
        """In which drive of the account files are; None when every drive answers "not found"."""
        where: dict[str, str | None] = {}
        unknown: set[str] = set()
        for drive in [string(each, "id") for each in self._drives(account)]:
            left = [key for key in keys if where.get(key) is None]
            for key, kind in self._present(drive, left):
                if kind is None:
                    where[key] = drive
                elif kind is Class.GONE:
                    where.setdefault(key, None)
                else:
                    unknown.add(key)
        return {key: drive for key, drive in where.items() if drive or key not in unknown}

    def _present(self, drive: str, keys: Sequence[str]) -> Iterator[tuple[str, Class | None]]:
        parts = [Part(f"/drives/{quoted(drive)}/items/{quoted(key)}?$select=id") for key in keys]
        call = self._call(Scope.ITEM, "the whereabouts of files")
        replies = self._client.loop.call(ask_all(self._client, parts, call))
        for key, reply in zip(keys, replies, strict=True):
            yield key, reply.refusal.meaning(Scope.ITEM).kind if reply.refusal else None

    def _drives(self, account: Account) -> Iterator[Json]:
        owner = "sites" if account.kind is AccountKind.SITE else "users"
        call = self._call(Scope.DRIVES, f"the drives of {account.address}", units=FULL_UNITS)
        link = f"{self._client.base}/{owner}/{quoted(account.id)}/drives?$select={','.join(DRIVE)}"
        return every_at(self._client, link, call)

    def _beginning(self, collection: Collection) -> Cursor:
        """The first link, and the id of the root: later pages name it only as a parent."""
        drive = self._client.sdk.root.drives.by_drive_id(collection.id)
        call = self._call(Scope.COLLECTION, f"the drive {collection.name}")
        root = self._client.ask(drive.root, call, select=["id"])
        delta = drive.items.by_drive_item_id("root").delta
        link = self._client.sdk.url(delta, select=list(FIELDS), top=PER_PAGE)
        if not (root_id := string(root, "id")):
            raise Broken(call.what, "a root without an id")
        return Cursor(link, root=root_id)

    def _call(self, scope: Scope, what: str, units: float = 1) -> Call:
        return Call(self._lane, scope, what, units=units)


def _changes(page: Json, here: Cursor) -> list[Change]:
    """What a page says, folders first; of an id that occurs twice the last word counts."""
    latest: dict[str, Json] = {}
    for each in values(page):
        if id_ := string(each, "id"):
            latest[id_] = each
    changes = [change for each in latest.values() if (change := _change(each, here.root))]
    return sorted(changes, key=lambda change: not isinstance(change, Folder))


def _change(item: Json, root: str) -> Change | None:
    id_, name = string(item, "id"), string(item, "name")
    if id_ == root or item.get("root") is not None:
        return None
    if item.get("deleted") is not None:
        return Gone(id_)
    if gap := _gap(item, id_, name):
        return gap
    parent = string(mapping(item, "parentReference"), "id")
    inside = parent if parent and parent != root else None
    if item.get("folder") is not None:
        return Folder(id_, inside, name)
    address = string(item, "@microsoft.graph.downloadUrl")
    return Item(id_, file_facts(item), inside, name, {"url": address} if address else {})


def _gap(item: Json, id_: str, name: str) -> Gap | None:
    """What has no bytes that we could take."""
    if item.get("remoteItem") is not None:
        return Gap(id_, "shortcut", name, "It leads into another drive and is backed up there.")
    if item.get("malware") is not None:
        return Gap(id_, "malware", name, "Microsoft holds it for malware and does not hand it out.")
    if item.get("package") is not None:
        if string(mapping(item, "package"), "type").lower() == "onenote":
            return Gap(id_, "onenote", name, "OneNote notebooks are not handed out as files.")
        return Gap(id_, "package", name, "It is a package, which is not handed out as a file.")
    if item.get("folder") is None and item.get("file") is None:
        return Gap(id_, "unknown", name, "It is neither a file nor a folder.")
    return None
