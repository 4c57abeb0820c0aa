"""A mailbox's mail: the truth that the routes answer from, and the edits that change it."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from backupd.demo import mime_facts
from backupd.demo.changes import Change, ChangeLog, Stream
from backupd.demo.ids import IdSpace, Kind
from backupd.demo.moments import now, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from backupd.demo.calls import Json

FOLDERS: Stream = ("folders", 0)
FIRST_FOLDER = 1
"""The number of `msgfolderroot`."""


class Content(Protocol):
    """The unchanging part of a message; made on request, so that a million of them fit into memory."""

    def mime(self) -> bytes:
        """RFC 5322 with CRLF."""
        ...

    def facts(self) -> Json:
        """The properties that the bytes determine."""
        ...

    def parts(self) -> list[mime_facts.Part]:
        """The attachments."""
        ...


class StoredContent:
    """Content that is held as bytes."""

    def __init__(self, mime: bytes, extra: tuple[mime_facts.Part, ...] = ()) -> None:
        self._mime = mime
        self._extra = extra
        self._facts: Json | None = None

    def mime(self) -> bytes:
        """RFC 5322 as it was delivered."""
        return self._mime

    def facts(self) -> Json:
        """The properties, derived once."""
        if self._facts is None:
            self._facts = mime_facts.describe(self.mime())
            self._facts["hasAttachments"] |= any(not part.inline for part in self._extra)
        return self._facts

    def parts(self) -> list[mime_facts.Part]:
        """The attachments in the bytes, then those that MIME cannot carry (cloud links)."""
        return [*mime_facts.parts(self.mime()), *self._extra]


@dataclass(slots=True)
class Message:
    """One message. `props` wins over what its content says; `fault` names why `$value` fails."""

    uid: int
    folder: int
    content: Content
    received: datetime
    props: Json = field(default_factory=dict)
    incarnation: int = 0
    version: int = 0
    modified: datetime | None = None
    fault: str = ""


@dataclass
class MailFolder:
    """One folder. A search folder holds nothing: it shows what its `sources` hold."""

    uid: int
    name: str
    parent: int
    well_known: str = ""
    hidden: bool = False
    sources: tuple[int, ...] = ()
    incarnation: int = 0
    messages: dict[int, Message] = field(default_factory=dict)

    _order: list[int] | None = None

    @property
    def is_search(self) -> bool:
        """Whether this is a view."""
        return bool(self.sources)

    def put(self, message: Message) -> None:
        """Lay a message into the folder."""
        self.messages[message.uid] = message
        self._order = None

    def drop(self, uid: int) -> None:
        """Take a message out."""
        del self.messages[uid]
        self._order = None

    def after(self, uid: int, limit: int) -> list[Message]:
        """The next `limit` messages with greater numbers."""
        if self._order is None:
            self._order = sorted(self.messages)
        start = bisect_right(self._order, uid)
        return [self.messages[at] for at in self._order[start : start + limit]]


def messages_in(folder: int) -> Stream:
    """The stream of changes of one folder."""
    return ("messages", folder)


class Mailbox:
    """Folders and messages of one owner; `ids` and `log` are shared with calendars and contacts."""

    def __init__(self, ids: IdSpace, log: ChangeLog) -> None:
        self.ids = ids
        self.log = log
        self.folders: dict[int, MailFolder] = {}
        self.messages: dict[int, Message] = {}
        self._numbers = itertools.count(FIRST_FOLDER)
        self.over_quota = False
        self.create_folder("Top of Information Store", 0, well_known="msgfolderroot")

    # Looking

    def folder_id(self, uid: int, *, immutable: bool = False) -> str:
        """The id of a folder: constant, so that Exchange has no other immutable form of it."""
        del immutable
        return self.ids.rest(Kind.FOLDER, uid)

    def message_id(self, message: Message, *, immutable: bool = False) -> str:
        """The id of a message as it is now."""
        if immutable:
            return self.ids.immutable(Kind.MESSAGE, message.uid)
        return self.ids.rest(Kind.MESSAGE, message.uid, message.incarnation)

    def folder(self, name: str | int) -> MailFolder:
        """Find by number, id, well-known name, or path such as `Inbox/Clients`; raises KeyError."""
        if isinstance(name, int):
            return self.folders[name]
        for folder in self.folders.values():
            if folder.well_known and folder.well_known == name.lower():
                return folder
        try:
            found = self.ids.parse(name)
        except ValueError:
            return self._by_path(name)
        if found.kind is not Kind.FOLDER:
            raise KeyError(name)
        return self.folders[found.uid]

    def message(self, name: str | int) -> Message:
        """Find by number or by current id; raises KeyError, also for the id before a move."""
        if isinstance(name, int):
            return self.messages[name]
        try:
            found = self.ids.parse(name)
        except ValueError:
            raise KeyError(name) from None
        message = self.messages[found.uid]
        if found.kind is not Kind.MESSAGE or found.incarnation not in {None, message.incarnation}:
            raise KeyError(name)
        return message

    def children(self, parent: int, *, hidden: bool = False) -> list[MailFolder]:
        """The folders right below `parent`, hidden ones only when asked for."""
        below = [folder for folder in self.folders.values() if folder.parent == parent]
        return [folder for folder in below if hidden or not folder.hidden]

    def shown(self, folder: MailFolder) -> Mapping[int, Message]:
        """The messages that a folder shows."""
        if not folder.is_search:
            return folder.messages
        return {
            m.uid: m for source in folder.sources for m in self.folders[source].messages.values()
        }

    def path(self, folder: MailFolder) -> str:
        """The path below the root, joined by slashes; for tests and logs only."""
        names = [step.name for step in self._up(folder) if step.uid != FIRST_FOLDER]
        return "/".join(reversed(names))

    def _up(self, folder: MailFolder) -> Iterator[MailFolder]:
        at: MailFolder | None = folder
        while at is not None:
            yield at
            at = self.folders.get(at.parent)

    def _by_path(self, path: str) -> MailFolder:
        for folder in self.folders.values():
            if self.path(folder).casefold() == path.casefold():
                return folder
        raise KeyError(path)

    # Folders

    def create_folder(
        self,
        name: str,
        parent: int = FIRST_FOLDER,
        *,
        well_known: str = "",
        hidden: bool = False,
        sources: tuple[int, ...] = (),
    ) -> MailFolder:
        """Make a folder; with `sources`, a search folder."""
        uid = next(self._numbers)
        folder = MailFolder(uid, name, parent, well_known, hidden, sources)
        self.folders[uid] = folder
        self.log.note(FOLDERS, Change(uid))
        return folder

    def rename_folder(self, folder: MailFolder, name: str) -> None:
        """Give a folder another display name."""
        folder.name = name
        self.log.note(FOLDERS, Change(folder.uid, fields=frozenset({"displayName"})))

    def move_folder(self, folder: MailFolder, parent: MailFolder) -> None:
        """Hang a folder elsewhere; its messages give no changes of their own."""
        folder.parent = parent.uid
        self.log.note(FOLDERS, Change(folder.uid, fields=frozenset({"parentFolderId"})))

    def delete_folder(self, folder: MailFolder) -> None:
        """Remove a folder with everything below it, for good."""
        for child in self.children(folder.uid, hidden=True):
            self.delete_folder(child)
        for message in list(folder.messages.values()):
            self.delete_message(message)
        del self.folders[folder.uid]
        self.log.note(FOLDERS, Change(folder.uid, gone=True))

    # Messages

    def add(
        self, folder: MailFolder, content: Content, received: datetime, **props: object
    ) -> Message:
        """Put a message into a folder as it was at the beginning, or as it arrives."""
        message = Message(next(self._numbers), folder.uid, content, received, dict(props))
        self.messages[message.uid] = message
        folder.put(message)
        self.log.note(messages_in(folder.uid), Change(message.uid))
        return message

    def flag(self, message: Message, **props: object) -> None:
        """Change properties such as `isRead`, `flag` or `categories`."""
        message.props = message.props | props
        self._touch(message)
        change = Change(message.uid, message.incarnation, fields=frozenset(props))
        self.log.note(messages_in(message.folder), change)

    def rewrite(self, message: Message, content: Content) -> None:
        """Replace the bytes, as saving a draft again does."""
        message.content = content
        self._touch(message)
        self.log.note(messages_in(message.folder), Change(message.uid, message.incarnation))

    def move_message(self, message: Message, folder: MailFolder) -> Message:
        """Move: gone there, new here, under a new default id."""
        self._take_out(message)
        message.folder = folder.uid
        message.incarnation += 1
        self._touch(message)
        folder.put(message)
        arrival = Change(message.uid, message.incarnation, arrived=True)
        self.log.note(messages_in(folder.uid), arrival)
        return message

    def delete_message(self, message: Message) -> None:
        """Remove for good."""
        self._take_out(message)
        del self.messages[message.uid]

    def _take_out(self, message: Message) -> None:
        self.folders[message.folder].drop(message.uid)
        gone = Change(message.uid, message.incarnation, gone=True)
        self.log.note(messages_in(message.folder), gone)

    def _touch(self, message: Message) -> None:
        message.version += 1
        message.modified = now()


def message_json(mailbox: Mailbox, message: Message, *, immutable: bool = False) -> Json:
    """The properties of a message without body and headers, which cost more."""
    received, modified = stamp(message.received), stamp(message.modified or message.received)
    key = mailbox.ids.change_key(message.uid, message.version)
    row: Json = {
        "@odata.etag": f'W/"{key}"',
        "id": mailbox.message_id(message, immutable=immutable),
        "createdDateTime": received,
        "lastModifiedDateTime": modified,
        "changeKey": key,
        "categories": [],
        "receivedDateTime": received,
        "parentFolderId": mailbox.folder_id(message.folder, immutable=immutable),
        "conversationId": mailbox.ids.rest(Kind.MESSAGE, message.uid, 0),
        "isDeliveryReceiptRequested": None,
        "isRead": False,
        "isDraft": False,
        "inferenceClassification": "focused",
        "flag": {"flagStatus": "notFlagged"},
    }
    return row | message.content.facts() | message.props
