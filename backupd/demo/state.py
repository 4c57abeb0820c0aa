"""The truth about the simulated tenant, and the edits that tests and stories make to it.

Every edit is safe from any thread and appends to the change log that delta queries read.
Users are named by User, id, address or the part of the address before the @; folders by
path (`Inbox/Clients`), well-known name or id; messages, events and contacts by object or id.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from backupd.demo.directory import ALL_ROLES, Application, Directory, Site, User
from backupd.demo.drive import (
    BytesContent,
    Drive,
    DriveItem,
    FileContent,
    StreamedContent,
    SyntheticContent,
)
from backupd.demo.ids import guid_of
from backupd.demo.mailbox import MailFolder, Message, StoredContent
from backupd.demo.mailbox_names import OUTSIDE, standard_folders
from backupd.demo.moments import now
from backupd.demo.outbox import Invitation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime

    from backupd.demo.addressbook import Contact, ContactFolder
    from backupd.demo.agenda import Calendar, Event, Occurrence
    from backupd.demo.calls import Json
    from backupd.demo.changes import Refusal, Stream
    from backupd.demo.mime_facts import Part

Who = User | str
Method = TypeVar("Method", bound=Callable[..., Any])


def _edit(method: Method) -> Method:
    """Hold the lock while a method runs."""

    @wraps(method)
    def locked(self: TenantState, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            return method(self, *args, **kwargs)

    return cast("Method", locked)


class TenantState:
    """Users, mailboxes, drives and sites, with the lock that the server shares."""

    def __init__(self, seed: int, domain: str) -> None:
        self.lock = threading.RLock()
        self.seed = seed
        self.domain = domain
        self.tenant_id = guid_of("tenant", seed)
        self.name = "Harbour Light Legal Aid"
        self.directory = Directory()
        secret = f"demo~{guid_of('secret', seed)}"
        self.app = Application(guid_of("app", seed), secret, set(ALL_ROLES))
        self.sku_status = "Enabled"
        self.outbox: list[Invitation] = []

    # People

    @_edit
    def user(self, who: Who) -> User:
        """Find a user; raises KeyError."""
        if isinstance(who, User):
            return who
        name = who if "@" in who else f"{who}@{self.domain}"
        try:
            return self.directory.find(name)
        except KeyError:
            return self.directory.find(who)

    @_edit
    def add_user(self, alias: str, name: str, **details: object) -> User:
        """Add a user with an empty mailbox and, unless it is a room or shared, an empty OneDrive."""
        uid = len(self.directory.users) + 1
        upn = f"{alias}@{self.domain}"
        user = User(uid, guid_of("user", self.seed, alias), upn, name)
        for key, value in details.items():
            setattr(user, key, value)
        for well_known, shown in standard_folders(user.language).items():
            user.mailbox.create_folder(shown, well_known=well_known)
        for well_known in OUTSIDE:
            user.mailbox.create_folder(well_known, 0, well_known=well_known, hidden=True)
        if user.purpose == "user":
            host = f"{self.domain.split('.')[0]}-my.sharepoint.com"
            user.drives.append(Drive(user.id, "OneDrive", "business", host))
        return self.directory.add(user)

    @_edit
    def update_user(self, who: Who, **changes: object) -> None:
        """Change properties of a user object, for instance `enabled=False`."""
        self.directory.update(self.user(who), **changes)

    @_edit
    def delete_user(self, who: Who) -> None:
        """Delete a user; for 30 days it can be found among the deleted items."""
        self.directory.delete(self.user(who))

    # Mail

    @_edit
    def folder(self, who: Who, folder: MailFolder | str) -> MailFolder:
        """Find a mail folder; raises KeyError."""
        if isinstance(folder, MailFolder):
            return folder
        return self.user(who).mailbox.folder(folder)

    @_edit
    def message(self, who: Who, message: Message | str) -> Message:
        """Find a message; raises KeyError."""
        if isinstance(message, Message):
            return message
        return self.user(who).mailbox.message(message)

    @_edit
    def deliver(self, who: Who, folder: MailFolder | str, mime: bytes, **props: object) -> Message:
        """A message arrives now; `props` are JSON properties such as `isRead`."""
        mailbox = self.user(who).mailbox
        content = StoredContent(mime)
        return mailbox.add(self.folder(who, folder), content, now(), **props)

    @_edit
    def attach(
        self, who: Who, folder: MailFolder | str, mime: bytes, extra: tuple[Part, ...]
    ) -> Message:
        """As `deliver`, with attachments that MIME cannot carry."""
        content = StoredContent(mime, extra)
        return self.user(who).mailbox.add(self.folder(who, folder), content, now())

    @_edit
    def flag(self, who: Who, message: Message | str, **props: object) -> None:
        """Change properties such as `isRead=True` or `categories=["Red"]`."""
        self.user(who).mailbox.flag(self.message(who, message), **props)

    @_edit
    def rewrite(self, who: Who, message: Message | str, mime: bytes) -> None:
        """Replace the bytes of a message, as saving a draft does."""
        self.user(who).mailbox.rewrite(self.message(who, message), StoredContent(mime))

    @_edit
    def spoil(self, who: Who, message: Message | str, how: str = "corrupt") -> None:
        """Make a message unreadable: `corrupt` (its `$value` is 500) or `page` (any page with it)."""
        if how not in {"corrupt", "page"}:
            raise ValueError(f"a message can be corrupt, or spoil its page; not {how!r}")
        self.message(who, message).fault = how

    @_edit
    def move_message(self, who: Who, message: Message | str, folder: MailFolder | str) -> Message:
        """Move a message; it gets another default id."""
        mailbox = self.user(who).mailbox
        return mailbox.move_message(self.message(who, message), self.folder(who, folder))

    @_edit
    def delete_message(self, who: Who, message: Message | str) -> None:
        """Remove a message for good."""
        self.user(who).mailbox.delete_message(self.message(who, message))

    @_edit
    def create_folder(
        self,
        who: Who,
        name: str,
        parent: MailFolder | str = "msgfolderroot",
        *,
        hidden: bool = False,
    ) -> MailFolder:
        """Make a mail folder."""
        mailbox = self.user(who).mailbox
        return mailbox.create_folder(name, self.folder(who, parent).uid, hidden=hidden)

    @_edit
    def rename_folder(self, who: Who, folder: MailFolder | str, name: str) -> None:
        """Rename a mail folder; its id stays."""
        self.user(who).mailbox.rename_folder(self.folder(who, folder), name)

    @_edit
    def move_folder(self, who: Who, folder: MailFolder | str, parent: MailFolder | str) -> None:
        """Move a mail folder; its id and its messages stay."""
        self.user(who).mailbox.move_folder(self.folder(who, folder), self.folder(who, parent))

    @_edit
    def delete_folder(self, who: Who, folder: MailFolder | str) -> None:
        """Remove a mail folder and everything below it."""
        self.user(who).mailbox.delete_folder(self.folder(who, folder))

    # Calendars and contacts

    @_edit
    def put_event(
        self,
        who: Who,
        calendar: Calendar | str | None,
        data: Json,
        event: Event | str | None = None,
    ) -> Event:
        """Make an event in a calendar (None for the default one), or change one."""
        agenda = self.user(who).agenda
        found = agenda.event(event) if isinstance(event, str) else event
        place = (
            agenda.calendar(calendar) if calendar is None or isinstance(calendar, str) else calendar
        )
        return agenda.put(place, data, found)

    @_edit
    def move_occurrence(
        self, who: Who, event: Event, original: datetime, **changes: object
    ) -> Occurrence:
        """Change one occurrence of a series; the master gets a new change key."""
        return self.user(who).agenda.move_occurrence(event, original, **changes)

    @_edit
    def cancel_occurrence(self, who: Who, event: Event, day: date) -> None:
        """Drop one occurrence of a series."""
        self.user(who).agenda.cancel_occurrence(event, day)

    @_edit
    def delete_event(self, who: Who, event: Event | str) -> None:
        """Remove an event or series."""
        agenda = self.user(who).agenda
        agenda.delete(agenda.event(event) if isinstance(event, str) else event)

    @_edit
    def put_contact(
        self,
        who: Who,
        data: Json,
        contact: Contact | str | None = None,
        *,
        folder: ContactFolder | str | None = None,
        photo: bytes = b"",
    ) -> Contact:
        """Make a contact, or change one."""
        book = self.user(who).contacts
        found = book.contact(contact) if isinstance(contact, str) else contact
        place = book.folder(folder) if folder is None or isinstance(folder, str) else folder
        return book.put(place, data, found, photo=photo)

    @_edit
    def delete_contact(self, who: Who, contact: Contact | str) -> None:
        """Remove a contact."""
        book = self.user(who).contacts
        book.delete(book.contact(contact) if isinstance(contact, str) else contact)

    # Files

    @_edit
    def drive(self, drive: Drive | str) -> Drive:
        """A drive by id, or the OneDrive of a user, or the first library of a site; raises KeyError."""
        if isinstance(drive, Drive):
            return drive
        for candidate in self.directory.drives():
            if drive == candidate.id:
                return candidate
        for site in self.directory.sites:
            if drive in {site.name, site.id}:
                return site.drives[0]
        return self.user(drive).drives[0]

    @_edit
    def item(self, drive: Drive | str, item: DriveItem | str) -> DriveItem:
        """An item by id or path; raises KeyError."""
        return item if isinstance(item, DriveItem) else self.drive(drive).item(item)

    @_edit
    def put_file(
        self,
        drive: Drive | str,
        path: str,
        content: bytes | FileContent | Callable[[], Iterator[bytes]],
        size: int = 0,
        **details: object,
    ) -> DriveItem:
        """Write a file: bytes, a content object, or a function that makes a stream of `size` bytes."""
        return self.drive(drive).put_file(path, _content(content, size), **details)

    @_edit
    def put_big_file(self, drive: Drive | str, path: str, size: int) -> DriveItem:
        """Write a file of any size that takes no memory and has a true quickXorHash."""
        return self.put_file(drive, path, SyntheticContent(size, path))

    @_edit
    def put_folder(self, drive: Drive | str, path: str) -> DriveItem:
        """The folder at `path`, made where missing."""
        return self.drive(drive).make_folders(path)

    @_edit
    def rename_item(self, drive: Drive | str, item: DriveItem | str, name: str) -> None:
        """Rename a file or folder."""
        self.drive(drive).rename(self.item(drive, item), name)

    @_edit
    def move_item(self, drive: Drive | str, item: DriveItem | str, parent: DriveItem | str) -> None:
        """Move a file or folder within its drive."""
        self.drive(drive).move(self.item(drive, item), self.item(drive, parent))

    @_edit
    def delete_item(self, drive: Drive | str, item: DriveItem | str) -> None:
        """Delete a file, or a folder with everything in it."""
        self.drive(drive).delete(self.item(drive, item))

    @_edit
    def add_site(self, name: str, path: str, libraries: tuple[str, ...] = ("Documents",)) -> Site:
        """Add a SharePoint site with document libraries."""
        host = f"{self.domain.split('.')[0]}.sharepoint.com"
        site_id = f"{host},{guid_of('site', path)},{guid_of('web', path)}"
        site = Site(site_id, name, host, path)
        site.drives = [Drive(site_id, library, "documentLibrary", host) for library in libraries]
        self.directory.sites.append(site)
        return site

    # Cursors

    @_edit
    def expire_cursors(
        self,
        who: Who | None = None,
        *,
        drive: Drive | str | None = None,
        stream: Stream | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        """Refuse every cursor handed out so far, next links included.

        Of a user's mailbox (or one `stream` of it), of a drive, or of the directory when neither
        is named. `refusal` says how: 410 by default.
        """
        if drive is not None:
            self.drive(drive).log.expire(stream, refusal)
        elif who is not None:
            self.user(who).log.expire(stream, refusal)
        else:
            self.directory.log.expire(stream, refusal)

    @_edit
    def baseline(self) -> None:
        """Forget the change history: what is there counts as having always been there."""
        for log in [self.directory.log, *(user.log for user in self.directory.users)]:
            log.baseline()
        for drive in self.directory.drives():
            drive.log.baseline()


def _content(
    content: bytes | FileContent | Callable[[], Iterator[bytes]], size: int
) -> FileContent:
    if isinstance(content, bytes):
        return BytesContent(content)
    if callable(content):
        return StreamedContent(size, content)
    return content
