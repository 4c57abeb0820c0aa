"""Files into a drive: folders, small files in one request, larger ones by sessions."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo.calls import Answer, Call, Handler, Json, Refused, bad_request
from backupd.demo.drive import ROOT, BytesContent, Drive, DriveItem, FileContent, item_json
from backupd.demo.moments import now
from backupd.demo.odata import entity
from backupd.demo.routes_files import item_of
from backupd.demo.writing import created, may_write, text, unchanged

if TYPE_CHECKING:
    from backupd.demo.uploads import Uploads

_PERMISSIONS = ("Files.ReadWrite", "Sites.ReadWrite", "Sites.Manage", "Sites.FullControl")
_CONFLICT = "@microsoft.graph.conflictBehavior"
_FORBIDDEN = re.compile(r'["*:<>?/\\|\x00-\x1f]|^[ ]|[ .]$|^~\$|_vti_')
_RESERVED = re.compile(r"(?i)(\.lock|con|prn|aux|nul|com\d|lpt\d|desktop\.ini)")
_LONGEST = 400
_SIMPLE = 250 * 1024 * 1024


def _checked(drive: Drive, parent: DriveItem, name: str) -> str:
    """A name that OneDrive takes; refuses others as it does."""
    if _FORBIDDEN.search(name) or _RESERVED.fullmatch(name):
        raise bad_request("The provided name cannot contain these characters.", "invalidRequest")
    if len(f"{drive.path(parent)}/{name}") > _LONGEST:
        raise bad_request("The specified file or folder name is too long.", "pathIsTooLong")
    return name


def _there(drive: Drive, parent: DriveItem, name: str) -> DriveItem | None:
    """The sibling that has a name; case makes no difference."""
    folded = name.casefold()
    return next((x for x in drive.children(parent.uid) if x.name.casefold() == folded), None)


def _taken() -> Refused:
    message = "The specified item name already exists."
    return Refused(HTTPStatus.CONFLICT, "nameAlreadyExists", message)


def _store(drive: Drive, parent: DriveItem, name: str, content: FileContent, how: str) -> DriveItem:
    """Write a file as `how` (`fail`, `replace` or `rename`) says."""
    if drive.size(drive.items[ROOT]) + content.size > drive.quota:
        message = "The quota limit has been reached."
        raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, "quotaLimitReached", message)
    there = _there(drive, parent, name)
    if there is None:
        return drive.add(name, parent, content=content, created=now(), modified=now())
    if how == "fail" or there.is_folder:
        raise _taken()
    if how == "rename":
        stem, dot, suffix = name.rpartition(".")
        other = f"{stem or suffix} 1{dot}{suffix if stem else ''}"
        return _store(drive, parent, other, content, how)
    return drive.put_file(drive.path(there), content)


def make_folder(call: Call) -> Answer:
    """A folder below another one."""
    may_write(call, *_PERMISSIONS)
    drive, parent = item_of(call)
    body = call.json()
    name = _checked(drive, parent, text(body, "name"))
    there = _there(drive, parent, name)
    how = body.get(_CONFLICT, "fail")
    if there is not None and (how != "replace" or not there.is_folder):
        raise _taken()
    folder = there or drive.add(name, parent, created=now(), modified=now())
    return created(call, item_json(drive, folder, with_path=True))


def put_content(call: Call) -> Answer:
    """A file in one request, by its parent and name (`items/{id}:/{name}:/content`)."""
    may_write(call, *_PERMISSIONS)
    drive, parent, name = _addressed(call)
    if len(call.body) > _SIMPLE:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "invalidRequest", "Too large.")
    how = call.query.get(_CONFLICT, "replace")
    item = _store(drive, parent, name, BytesContent(call.body), how)
    return created(call, item_json(drive, item, with_path=True))


def open_session(call: Call, uploads: Uploads) -> Answer:
    """An address that takes a file in pieces."""
    may_write(call, *_PERMISSIONS)
    drive, parent, name = _addressed(call)
    wanted = call.json().get("item") or {}
    how = wanted.get(_CONFLICT, "replace")
    if how == "fail" and _there(drive, parent, name) is not None:
        raise _taken()

    def finish(data: bytes) -> Json:
        with call.state.lock:
            item = _store(drive, parent, name, BytesContent(data), how)
            _date(item, wanted)
            return item_json(drive, item, with_path=True)

    return Answer(uploads.open(finish))


def _addressed(call: Call) -> tuple[Drive, DriveItem, str]:
    """The folder and the name of `items/{id}:/{name}:/…`."""
    parent, name = call.params["item"], call.params["name"]
    if not parent.endswith(":") or not name.endswith(":"):
        raise bad_request("Resource not found for the segment.", "BadRequest")
    call.params["item"] = parent[:-1]
    drive, folder = item_of(call)
    return drive, folder, _checked(drive, folder, name[:-1])


def change_item(call: Call) -> Answer:
    """Dates and name of an item."""
    may_write(call, *_PERMISSIONS)
    drive, item = item_of(call)
    unchanged(call, item_json(drive, item)["eTag"])
    body = call.json()
    if "name" in body:
        name = _checked(drive, drive.items[item.parent], text(body, "name"))
        drive.rename(item, name)
    _date(item, body)
    return entity(call, item_json(drive, item, with_path=True))


def _date(item: DriveItem, body: Json) -> None:
    said = body.get("fileSystemInfo") or {}
    try:
        for word in ("created", "modified"):
            name = "createdDateTime" if word == "created" else "lastModifiedDateTime"
            if name in said:
                setattr(item, word, datetime.fromisoformat(said[name]))
    except ValueError:
        raise bad_request("A date is not valid.", "invalidRequest") from None


def routes(uploads: Uploads | None = None) -> dict[str, Handler]:
    """The routes; sessions need the place that serves them."""
    place = "drives/{drive}/items/{item}"

    def session(call: Call) -> Answer:
        if uploads is None:
            raise AssertionError(call.route)
        return open_session(call, uploads)

    handlers: dict[str, Callable[[Call], Answer]] = {
        f"POST {place}/children": make_folder,
        f"PATCH {place}": change_item,
        f"PUT {place}/{{name}}/content": put_content,
        f"POST {place}/{{name}}/createUploadSession": session,
    }
    return handlers
