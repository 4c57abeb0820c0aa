"""The nouns: frozen values without I/O.

Account → Service → Collection → Item; a Page is a bounded slice of changes with the cursor
behind it. Times are aware datetimes in UTC, sizes are bytes, hashes are lower-case hex.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

Facts = Mapping[str, Any]
"""What the source says about an item: JSON values only. It is kept in the index beside the
item, so it must never hold a secret or anything that expires (see `Item.hints`)."""


def nothing() -> Facts:
    """No facts: an empty mapping that nobody can fill."""
    return MappingProxyType({})


class Service(StrEnum):
    """A kind of data that an account owns."""

    MAIL = "mail"
    CALENDAR = "calendar"
    CONTACTS = "contacts"
    FILES = "files"


class AccountKind(StrEnum):
    """Who owns the data: a person, a mailbox nobody logs in to, or a site."""

    USER = "user"
    SHARED = "shared"
    ROOM = "room"
    EQUIPMENT = "equipment"
    SITE = "site"


@dataclass(frozen=True, slots=True)
class Account:
    """The owner of data.

    Attributes:
        id: the source's own stable id.
        address: what people call it, in lower case: a mail address, or for a site its host and path.
        source: the name of the `[sources.NAME]` section it came from.
        services: what it can hold (a site holds only files).
    """

    id: str
    address: str
    name: str
    kind: AccountKind
    source: str
    services: frozenset[Service]


@dataclass(frozen=True, slots=True)
class Collection:
    """A folder, calendar, address book or drive.

    Attributes:
        id: the source's own id, stable while the collection is renamed or moved.
        parent: the id of the collection it lies in, or None at the top.
        name: its display name, exactly as the source says it; hostile until made safe.
        count: how many items the source says it holds (not counting sub-collections), or None.
        special: `inbox`, `sentitems`, `drafts`, … where the source knows, else None.
        facts: anything else worth keeping for a restore (colour, owner, time zone, hidden).
    """

    service: Service
    id: str
    parent: str | None
    name: str
    count: int | None = None
    special: str | None = None
    facts: Facts = field(default_factory=nothing)


@dataclass(frozen=True, slots=True)
class Item:
    """One message, event, contact or file as a listing describes it.

    Attributes:
        id: the source's id now. A moved message has a new one; its key (see `Source.keys`) stays.
        facts: what the listing said. It may be partial for an item already known ("sparse");
            the sync merges it over what is held.
        folder: for files, the id of the `Folder` it lies in; None for the collection's root,
            and always None for services without folders inside a collection.
        name: for files, the file's name as it is; None elsewhere.
        hints: help for fetching that must not be kept (a download address that expires).
    """

    id: str
    facts: Facts
    folder: str | None = None
    name: str | None = None
    hints: Facts = field(default_factory=nothing, compare=False)


@dataclass(frozen=True, slots=True)
class Gone:
    """The source says that an item (or, in a drive, a folder) is no longer in this collection.

    It may have moved to another one: nothing is removed before that is known.
    """

    id: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder inside a drive: new, renamed or moved. `parent` None is the drive's root."""

    id: str
    parent: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Something the source holds and we cannot take, reported instead of dropped.

    Attributes:
        id: the source's id of it.
        kind: a short stable word: `onenote`, `shortcut`, `malware`, `search-folder`, `archive-mailbox` …
        name: what a person would recognise it by.
        why: one sentence for that person.
    """

    id: str
    kind: str
    name: str
    why: str


Change = Item | Gone | Folder | Gap


@dataclass(frozen=True, slots=True)
class Page:
    """A bounded slice of changes (at most 1,000) and the cursor behind it.

    Attributes:
        cursor: opaque; handed back verbatim to go on after this page.
        restart: this page begins a full listing. What that listing does not mention by its
            `last` page is gone from the collection.
        last: nothing more for now.
    """

    changes: tuple[Change, ...]
    cursor: str
    restart: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One restic snapshot of one account.

    Attributes:
        id: the full id.
        time: when it was made, RFC 3339 as restic wrote it.
        tags: as restic holds them.
        tree: the id of its root tree; equal trees are equal content.
    """

    id: str
    time: str
    tags: frozenset[str]
    tree: str

    @property
    def short_id(self) -> str:
        """The eight digits people type."""
        return self.id[:8]
