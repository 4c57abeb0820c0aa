"""Contacts are created and changed, their folders and pictures too."""

from __future__ import annotations

from http import HTTPStatus

from backupd.demo.addressbook import Contact, ContactFolder, contact_json
from backupd.demo.calls import Answer, Call, Handler, Json, Refused, bad_request
from backupd.demo.content_contacts import EMPTY
from backupd.demo.odata import entity
from backupd.demo.routes_people import contact_of, folder_json, folder_of
from backupd.demo.writing import created, extended, may_write, text, unchanged, writable

_PERMISSION = "Contacts.ReadWrite"
_MOST = {"emailAddresses": 3, "businessPhones": 2, "homePhones": 2}
_PICTURE = 4 * 1024 * 1024


def make_folder(call: Call) -> Answer:
    """A folder below another one, or below the default one."""
    body = writable(call, _PERMISSION)
    book, parent = call.user().contacts, folder_of(call)
    name = text(body, "displayName")
    if any(f.name.casefold() == name.casefold() for f in _below(call, parent)):
        message = "A folder with the specified name already exists."
        raise Refused(HTTPStatus.CONFLICT, "ErrorFolderExists", message)
    return created(call, folder_json(book, book.create_folder(name, parent.uid)))


def _below(call: Call, parent: ContactFolder) -> list[ContactFolder]:
    return [f for f in call.user().contacts.folders.values() if f.parent == parent.uid]


def make_contact(call: Call) -> Answer:
    """A contact in a folder, the default one if none is named."""
    body = writable(call, _PERMISSION)
    marks = extended(body)
    book = call.user().contacts
    contact = book.put(folder_of(call), EMPTY | _checked(body))
    contact.extended = marks
    return created(call, contact_json(book, _completed(contact)))


def change_contact(call: Call) -> Answer:
    """Some properties of a contact."""
    body = writable(call, _PERMISSION)
    book, contact = call.user().contacts, contact_of(call)
    unchanged(call, contact_json(book, contact)["@odata.etag"])
    contact.extended |= extended(body)
    book.put(book.folder(contact.folder), _checked(body), contact)
    return entity(call, contact_json(book, contact))


def put_photo(call: Call) -> Answer:
    """The picture of a contact."""
    may_write(call, _PERMISSION)
    if not call.headers.get("Content-Type", "").startswith("image/") or not call.body:
        raise bad_request("The content type must be an image.", "ErrorInvalidImage")
    if len(call.body) > _PICTURE:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", "Too large.")
    book, contact = call.user().contacts, contact_of(call)
    book.put(book.folder(contact.folder), {}, contact, photo=call.body)
    return Answer(b"")


def _checked(body: Json) -> Json:
    """The properties of a contact; refuses what it does not have, or has no room for."""
    for name, value in body.items():
        usual = EMPTY.get(name, ...)
        if usual is ... or (isinstance(usual, list) and not isinstance(value, list)):
            raise bad_request(f"The property '{name}' is not valid here.", "RequestBodyRead")
        if len(value or "") > _MOST.get(name, 1 << 20):
            raise bad_request(f"Too many values for '{name}'.", "ErrorPropertyValidationFailure")
    return body


def _completed(contact: Contact) -> Contact:
    """Outlook makes a display name and a name to file under where none is given."""
    data = contact.data
    whole = " ".join(filter(None, (data["givenName"], data["surname"])))
    data["displayName"] = data["displayName"] or whole
    data["fileAs"] = data["fileAs"] or ", ".join(filter(None, (data["surname"], data["givenName"])))
    return contact


_FOLDER = "users/{user}/contactFolders/{folder}"

ROUTES: dict[str, Handler] = {
    "POST users/{user}/contactFolders": make_folder,
    f"POST {_FOLDER}/childFolders": make_folder,
}
for _where in ("users/{user}", _FOLDER):
    ROUTES |= {
        f"POST {_where}/contacts": make_contact,
        f"PATCH {_where}/contacts/{{contact}}": change_contact,
        f"PUT {_where}/contacts/{{contact}}/photo/$value": put_photo,
    }
