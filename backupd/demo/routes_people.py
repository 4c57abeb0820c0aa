"""Contacts and their folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.demo.addressbook import (
    CONTACT_FOLDERS,
    DEFAULT_FOLDER,
    AddressBook,
    Contact,
    ContactFolder,
    contact_json,
    contacts_in,
)
from backupd.demo.calls import Answer, Call, Handler, Json, key, not_found
from backupd.demo.ids import Kind
from backupd.demo.odata import Feed, collection, delta, entity
from backupd.demo.writing import expanded

if TYPE_CHECKING:
    from backupd.demo.changes import Change

_MOST = 200  # pages of contacts never get longer, whatever is asked for
_TYPE = "#microsoft.graph.contact"


def folder_of(call: Call) -> ContactFolder:
    """The contact folder of the path, or the default one."""
    try:
        return call.user().contacts.folder(call.params.get("folder"))
    except KeyError:
        raise not_found() from None


def contact_of(call: Call) -> Contact:
    """The contact of the path."""
    try:
        return call.user().contacts.contact(call.params["contact"])
    except KeyError:
        raise not_found() from None


def folder_json(book: AddressBook, folder: ContactFolder) -> Json:
    """A contact folder as Graph shows it."""
    return {
        "id": book.folder_id(folder.uid),
        "displayName": folder.name,
        "parentFolderId": book.folder_id(folder.parent),
    }


def list_folders(call: Call) -> Answer:
    """The folders below one, or below the default one, which is itself not listed."""
    book = call.user().contacts
    parent = folder_of(call).uid if "folder" in call.params else DEFAULT_FOLDER
    found = [folder for folder in book.folders.values() if folder.parent == parent]
    return collection(call, [folder_json(book, folder) for folder in found])


def folders_delta(call: Call) -> Answer:
    """Every contact folder but the default one, flat, and what changes about them."""
    user = call.user()
    book = user.contacts

    def rows(change: Change) -> list[Json]:
        folder = book.folders.get(change.subject)
        return [folder_json(book, folder)] if folder is not None else []

    def listing(after: int, limit: int) -> list[tuple[int, Json]]:
        found = [f for f in book.folders.values() if f.uid > max(after, DEFAULT_FOLDER)]
        return [(folder.uid, folder_json(book, folder)) for folder in found[:limit]]

    path = f"users('{key(user.id)}')/contactFolders/delta"
    scope = f"contactFolder:{user.id}"
    return delta(call, Feed(scope, user.log, CONTACT_FOLDERS, listing, rows, path))


def get_folder(call: Call) -> Answer:
    """One contact folder."""
    return entity(call, folder_json(call.user().contacts, folder_of(call)))


def list_contacts(call: Call) -> Answer:
    """The contacts of a folder."""
    book = call.user().contacts
    found = book.in_folder(folder_of(call))
    rows = [contact_json(book, c, immutable=call.immutable) for c in found]
    return expanded(call, rows, [contact.extended for contact in found])


def contacts_delta(call: Call) -> Answer:
    """What changes in one contact folder."""
    user, folder = call.user(), folder_of(call)
    book = user.contacts

    def shown(contact: Contact) -> Json:
        return {"@odata.type": _TYPE} | contact_json(book, contact, immutable=call.immutable)

    def rows(change: Change) -> list[Json]:
        if change.gone:
            name = book.ids.immutable if call.immutable else book.ids.rest
            gone = name(Kind.CONTACT, change.subject)
            return [{"@odata.type": _TYPE, "id": gone, "@removed": {"reason": change.reason}}]
        contact = book.contacts.get(change.subject)
        return [shown(contact)] if contact is not None else []

    def listing(after: int, limit: int) -> list[tuple[int, Json]]:
        found = [c for c in book.in_folder(folder) if c.uid > after]
        return [(contact.uid, shown(contact)) for contact in found[:limit]]

    within = (
        f"/contactFolders('{key(book.folder_id(folder.uid))}')" if "folder" in call.params else ""
    )
    path = f"users('{key(user.id)}'){within}/contacts/delta"
    scope = f"contact:{user.id}/{folder.uid}"
    feed = Feed(scope, user.log, contacts_in(folder.uid), listing, rows, path, most=_MOST)
    return delta(call, feed)


def get_contact(call: Call) -> Answer:
    """One contact."""
    row = contact_json(call.user().contacts, contact_of(call), immutable=call.immutable)
    return entity(call, row)


def get_photo(call: Call) -> Answer:
    """The photo's bytes; 404 when there is none."""
    photo = contact_of(call).photo
    if not photo:
        raise not_found("ErrorItemNotFound")
    return Answer(photo, content_type="image/png")


def photo_facts(call: Call) -> Answer:
    """What kind of photo there is."""
    if not contact_of(call).photo:
        raise not_found("ErrorItemNotFound")
    return entity(
        call,
        {"@odata.mediaContentType": "image/png", "id": "default", "width": 48, "height": 48},
    )


ROUTES: dict[str, Handler] = {
    "GET users/{user}/contactFolders": list_folders,
    "GET users/{user}/contactFolders/delta": folders_delta,
    "GET users/{user}/contactFolders/{folder}": get_folder,
    "GET users/{user}/contactFolders/{folder}/childFolders": list_folders,
}
for _where in ("users/{user}", "users/{user}/contactFolders/{folder}"):
    ROUTES |= {
        f"GET {_where}/contacts": list_contacts,
        f"GET {_where}/contacts/delta": contacts_delta,
        f"GET {_where}/contacts/{{contact}}": get_contact,
        f"GET {_where}/contacts/{{contact}}/photo": photo_facts,
        f"GET {_where}/contacts/{{contact}}/photo/$value": get_photo,
    }
