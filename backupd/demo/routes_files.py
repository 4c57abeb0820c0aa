"""Drives, their items, and the sites that own some of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo.calls import Answer, Call, Handler, Json, Refused, not_found
from backupd.demo.directory import Site, User
from backupd.demo.drive import ITEMS, ROOT, Drive, DriveItem, FileContent, deleted_json, item_json
from backupd.demo.ids import guid_of
from backupd.demo.moments import EPOCH, stamp
from backupd.demo.odata import Feed, collection, delta, entity

if TYPE_CHECKING:
    from backupd.demo.changes import Change

_PAGE = 200
_DOWNLOAD_URL = "@microsoft.graph.downloadUrl"


def drive_of(call: Call) -> Drive:
    """The drive of the path: named, or the first of a user or site."""
    if "drive" in call.params:
        return call.state.directory.drive(call.params["drive"])
    owner = _owner(call)
    if not owner.drives:
        raise not_found("ResourceNotFound", "User's mysite not found.")
    return owner.drives[0]


def _owner(call: Call) -> User | Site:
    if "user" in call.params:
        return call.user()
    return call.state.directory.site(call.params["site"])


def item_of(call: Call) -> tuple[Drive, DriveItem]:
    """The item of the path; refuses as OneDrive does."""
    drive = drive_of(call)
    try:
        return drive, drive.item(call.params.get("item", ROOT))
    except KeyError:
        raise not_found("itemNotFound", "Item not found") from None


def drive_json(call: Call, drive: Drive) -> Json:
    """A drive as Graph shows it."""
    owner = call.state.directory.drive_owner(drive)
    who: Json = {"user": {"id": owner.id, "displayName": owner.name}}
    if isinstance(owner, Site):
        who = {"group": {"displayName": owner.name}}
    used = drive.size(drive.items[ROOT])
    left = max(0, drive.quota - used)
    return {
        "id": drive.id,
        "driveType": drive.kind,
        "name": drive.name,
        "createdDateTime": stamp(EPOCH),
        "lastModifiedDateTime": stamp(EPOCH),
        "webUrl": f"https://{drive.host}/{drive.name}",
        "owner": who,
        "quota": {"used": used, "total": drive.quota, "remaining": left, "state": "normal"},
    }


def list_drives(call: Call) -> Answer:
    """The drives of a user or site."""
    owner = _owner(call)
    if isinstance(owner, User) and not owner.drives and owner.purpose == "user":
        raise not_found("ResourceNotFound", "User's mysite not found.")
    return collection(call, [drive_json(call, drive) for drive in owner.drives], default=_PAGE)


def get_drive(call: Call) -> Answer:
    """One drive."""
    return entity(call, drive_json(call, drive_of(call)))


def get_item(call: Call) -> Answer:
    """One item, with its path and a download address."""
    drive, item = item_of(call)
    return entity(call, _with_address(call, drive, item, item_json(drive, item, with_path=True)))


def list_children(call: Call) -> Answer:
    """What lies right below a folder."""
    drive, folder = item_of(call)
    rows = [item_json(drive, item, with_path=True) for item in drive.children(folder.uid)]
    return collection(call, rows, default=_PAGE)


def get_content(call: Call) -> Answer:
    """302 to a download address on another host."""
    drive, item = item_of(call)
    if item.malware:
        message = "Malware detected"
        headers = {"X-Virus-Infected": "Trojan:Test/Example.A"}
        raise Refused(HTTPStatus.FORBIDDEN, "malwareDetected", message, headers=headers)
    if item.content is None:
        raise Refused(
            HTTPStatus.BAD_REQUEST, "invalidRequest", "You cannot get content for a folder"
        )
    if call.headers.get("If-None-Match", "") in _tags(drive, item):
        return Answer(b"", HTTPStatus.NOT_MODIFIED)
    address = _address(call, drive, item, item.delivered or item.content)
    return Answer(b"", HTTPStatus.FOUND, {"Location": address})


def _tags(drive: Drive, item: DriveItem) -> set[str]:
    row = item_json(drive, item)
    return {row["eTag"], row["cTag"]}


def _address(call: Call, drive: Drive, item: DriveItem, content: FileContent) -> str:
    return call.tickets(content, drive.item_id(item.uid))


def _with_address(call: Call, drive: Drive, item: DriveItem, row: Json) -> Json:
    if item.content is None or item.malware:
        return row
    return row | {_DOWNLOAD_URL: _address(call, drive, item, item.delivered or item.content)}


def drive_delta(call: Call) -> Answer:
    """Everything in a drive, parents first, and what changes."""
    drive = drive_of(call)

    def shown(item: DriveItem) -> Json:
        row = item_json(drive, item)
        wanted = call.query.get("$select", "")
        return (
            row if wanted and "downloadUrl" not in wanted else _with_address(call, drive, item, row)
        )

    def rows(change: Change) -> list[Json]:
        if change.gone:
            return [deleted_json(drive, change.subject)]
        item = drive.items.get(change.subject)
        return [shown(item)] if item is not None else []

    def listing(after: int, limit: int) -> list[tuple[int, Json]]:
        return [(item.uid, shown(item)) for item in drive.after(after, limit)]

    path = f"drives/{drive.id}/root/delta"
    feed = Feed(f"driveItem:{drive.id}", drive.log, ITEMS, listing, rows, path, _PAGE, drive=True)
    return delta(call, feed)


def folder_delta(call: Call) -> Answer:
    """Delta of a folder: only of the root, as in OneDrive for Business."""
    _, item = item_of(call)
    if item.uid != ROOT:
        raise Refused(
            HTTPStatus.BAD_REQUEST, "invalidRequest", "Delta is supported on the root only"
        )
    return drive_delta(call)


def list_versions(call: Call) -> Answer:
    """The versions of a file, newest first."""
    _, item = item_of(call)
    contents = [*([item.content] if item.content else []), *item.versions]
    last = len(contents)
    rows = [
        {
            "id": f"{last - at}.0",
            "lastModifiedDateTime": stamp(item.modified),
            "size": content.size,
        }
        for at, content in enumerate(contents)
    ]
    return collection(call, rows, default=_PAGE)


def get_version(call: Call) -> Answer:
    """One version."""
    _, item = item_of(call)
    row = {"id": call.params["version"], "lastModifiedDateTime": stamp(item.modified)}
    return entity(call, row)


def get_version_content(call: Call) -> Answer:
    """302 to the content of an older version; the current one must be had by `/content`."""
    drive, item = item_of(call)
    number = len(item.versions) + 1 - int(float(call.params["version"] or "0"))
    if number == 0:
        message = "You cannot get the content of the current version."
        raise Refused(HTTPStatus.BAD_REQUEST, "invalidRequest", message)
    if not 0 < number <= len(item.versions):
        raise not_found("itemNotFound", "Item not found")
    address = _address(call, drive, item, item.versions[number - 1])
    return Answer(b"", HTTPStatus.FOUND, {"Location": address})


def list_permissions(call: Call) -> Answer:
    """The permissions of an item: the owner's alone."""
    drive, _ = item_of(call)
    owner = call.state.directory.drive_owner(drive)
    identity = {"user": {"id": owner.id, "displayName": owner.name}}
    return collection(call, [{"id": "owner", "roles": ["owner"], "grantedToV2": identity}])


def list_sites(call: Call) -> Answer:
    """Sites that match `search`; `*` for all."""
    wanted = call.query.get("search", "").strip('"*').casefold()
    sites = [site for site in call.state.directory.sites if wanted in site.name.casefold()]
    return collection(call, [site.json() for site in sites], default=_PAGE)


def all_sites(call: Call) -> Answer:
    """Every site, for applications."""
    return collection(call, [site.json() for site in call.state.directory.sites], default=_PAGE)


def get_site(call: Call) -> Answer:
    """One site."""
    return entity(call, call.state.directory.site(call.params["site"]).json())


def subsites(call: Call) -> Answer:
    """The sites below a site: none here."""
    call.state.directory.site(call.params["site"])
    return collection(call, [], default=_PAGE)


def list_lists(call: Call) -> Answer:
    """The lists of a site: one for each document library."""
    site = call.state.directory.site(call.params["site"])
    rows = [
        {
            "id": guid_of(drive.id),
            "name": drive.name,
            "displayName": drive.name,
            "webUrl": f"https://{drive.host}/{drive.name}",
            "list": {"template": "documentLibrary", "hidden": False, "contentTypesEnabled": False},
        }
        for drive in site.drives
    ]
    return collection(call, rows, default=_PAGE)


_ITEM = "drives/{drive}/items/{item}"
_OWNERS = ("users/{user}/drive", "sites/{site}/drive", "drives/{drive}")

ROUTES: dict[str, Handler] = {
    "GET users/{user}/drives": list_drives,
    "GET sites/{site}/drives": list_drives,
    "GET sites": list_sites,
    "GET sites/getAllSites": all_sites,
    "GET sites/{site}": get_site,
    "GET sites/{site}/sites": subsites,
    "GET sites/{site}/lists": list_lists,
    f"GET {_ITEM}": get_item,
    f"GET {_ITEM}/delta": folder_delta,
    f"GET {_ITEM}/children": list_children,
    f"GET {_ITEM}/content": get_content,
    f"GET {_ITEM}/versions": list_versions,
    f"GET {_ITEM}/versions/{{version}}": get_version,
    f"GET {_ITEM}/versions/{{version}}/content": get_version_content,
    f"GET {_ITEM}/permissions": list_permissions,
}
for _owner_path in _OWNERS:
    ROUTES |= {
        f"GET {_owner_path}": get_drive,
        f"GET {_owner_path}/root": get_item,
        f"GET {_owner_path}/root/delta": drive_delta,
        f"GET {_owner_path}/root/children": list_children,
        f"GET {_owner_path}/root/content": get_content,
    }
