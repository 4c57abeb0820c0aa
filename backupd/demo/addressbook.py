"""Contacts of a mailbox."""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.demo.changes import Change, ChangeLog, Stream
from backupd.demo.ids import IdSpace, Kind
from backupd.demo.moments import EPOCH, now, stamp

if TYPE_CHECKING:
    from datetime import datetime

    from backupd.demo.calls import Json

CONTACT_FOLDERS: Stream = ("contact-folders", 0)
DEFAULT_FOLDER = 1


@dataclass
class ContactFolder:
    """One contact folder; the default one is not listed among the others."""

    uid: int
    name: str
    parent: int


@dataclass
class Contact:
    """One contact: `data` is Graph's JSON without ids and keys."""

    uid: int
    folder: int
    data: Json
    photo: bytes = b""
    version: int = 0
    modified: datetime = EPOCH
    extended: dict[str, str] = field(default_factory=dict)


def contacts_in(folder: int) -> Stream:
    """The stream of changes of one contact folder."""
    return ("contacts", folder)


class AddressBook:
    """The contact folders of one owner."""

    def __init__(self, ids: IdSpace, log: ChangeLog) -> None:
        self.ids = ids
        self.log = log
        self.folders: dict[int, ContactFolder] = {}
        self.contacts: dict[int, Contact] = {}
        self._numbers = itertools.count(DEFAULT_FOLDER)
        self.create_folder("Contacts", 0)

    def create_folder(self, name: str, parent: int = DEFAULT_FOLDER) -> ContactFolder:
        """Make a contact folder."""
        folder = ContactFolder(next(self._numbers), name, parent)
        self.folders[folder.uid] = folder
        self.log.note(CONTACT_FOLDERS, Change(folder.uid))
        return folder

    def folder(self, name: str | int | None = None) -> ContactFolder:
        """Find by number, id or display name; the default one for None; raises KeyError."""
        if name is None or isinstance(name, int):
            return self.folders[name or DEFAULT_FOLDER]
        for folder in self.folders.values():
            if folder.name == name:
                return folder
        try:
            return self.folders[self.ids.parse(name).uid]
        except ValueError:
            raise KeyError(name) from None

    def contact(self, name: str | int) -> Contact:
        """Find by number or id; raises KeyError."""
        if isinstance(name, int):
            return self.contacts[name]
        try:
            found = self.ids.parse(name)
        except ValueError:
            raise KeyError(name) from None
        if found.kind is not Kind.CONTACT:
            raise KeyError(name)
        return self.contacts[found.uid]

    def in_folder(self, folder: ContactFolder) -> list[Contact]:
        """The contacts of one folder, oldest first."""
        return [contact for contact in self.contacts.values() if contact.folder == folder.uid]

    def put(
        self,
        folder: ContactFolder,
        data: Json,
        contact: Contact | None = None,
        *,
        photo: bytes = b"",
    ) -> Contact:
        """Make a contact, or replace properties (and the photo, when one is given) of one."""
        if contact is None:
            contact = Contact(next(self._numbers), folder.uid, deepcopy(data))
            self.contacts[contact.uid] = contact
        else:
            contact.data |= deepcopy(data)
            contact.modified = now()
        contact.photo = photo or contact.photo
        contact.version += 1
        self.log.note(contacts_in(contact.folder), Change(contact.uid))
        return contact

    def delete(self, contact: Contact) -> None:
        """Remove a contact."""
        del self.contacts[contact.uid]
        self.log.note(contacts_in(contact.folder), Change(contact.uid, gone=True))

    def folder_id(self, uid: int) -> str:
        """The id of a folder."""
        return self.ids.rest(Kind.CONTACT_FOLDER, uid)


def contact_json(book: AddressBook, contact: Contact, *, immutable: bool = False) -> Json:
    """A contact as Graph shows it."""
    key = book.ids.change_key(contact.uid, contact.version)
    name = book.ids.immutable if immutable else book.ids.rest
    return {
        "@odata.etag": f'W/"{key}"',
        "id": name(Kind.CONTACT, contact.uid),
        "createdDateTime": stamp(EPOCH),
        "lastModifiedDateTime": stamp(contact.modified),
        "changeKey": key,
        "parentFolderId": book.folder_id(contact.folder),
    } | contact.data
