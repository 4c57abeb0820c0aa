"""Folders of an IMAP mailbox as collections: every one that can be opened, subscribed or not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from backupd.imap import lister
from backupd.imap.session import Mailbox, Session
from backupd.imap.wire import Answer, number
from backupd.model import Collection, Gap, Service

SPECIAL = {
    "\\sent": "sentitems",
    "\\drafts": "drafts",
    "\\trash": "deleteditems",
    "\\junk": "junkemail",
    "\\spam": "junkemail",
    "\\archive": "archive",
}
VIEWS = frozenset({"\\flagged", "\\important", "\\starred"})
"""Where there is a folder of everything, these show again what lies in it."""

_UNSAFE = re.compile(rb"[\x00\r\n]")
_OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}")
"""What an id may be, by RFC 8474; anything else is a mistake of the server's."""


@dataclass(frozen=True, slots=True)
class State:
    """What a folder said of itself without being opened: numbers that change when it does."""

    exists: int
    validity: int
    next: int
    modseq: int


@dataclass(frozen=True, slots=True)
class Folder:
    """How a folder is opened, and how it was when it was listed."""

    raw: bytes
    name: str
    state: State | None = None


@dataclass
class Folders:
    """The folders of a mailbox at one moment.

    Attributes:
        listed: what goes to the sync, parents first.
        known: by id, those that can be opened.
        doubtful: some could not be asked: an id that is not in `known` may exist all the same.
    """

    listed: list[Collection | Gap] = field(default_factory=list)
    known: dict[str, Folder] = field(default_factory=dict)
    doubtful: bool = False


def list_folders(session: Session) -> Folders:
    """Every folder. Raises TransientError."""
    return _Listing(session).run()


class _Listing:
    """One walk over the folders."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._found = Folders()
        self._ids: dict[tuple[str, ...], str] = {}
        self._said: Mapping[bytes, Mapping[str, object] | Answer] = {}

    def run(self) -> Folders:
        there = {each.raw: each for each in self._session.mailboxes()}
        everything = any("\\all" in each.attributes for each in there.values())
        gaps = {raw: self._beyond(each, everything=everything) for raw, each in there.items()}
        ours = [raw for raw, each in there.items() if each.selectable and not gaps[raw]]
        self._said = self._session.statuses(ours, _asked(self._session))
        for each in sorted(there.values(), key=self._path):
            if gap := gaps[each.raw]:
                self._found.listed.append(gap)
            else:
                self._add(each)
        return self._found

    def _path(self, mailbox: Mailbox) -> tuple[str, ...]:
        """Its names from the top, the prefix of everything aside."""
        prefix, delimiter = self._session.prefix, mailbox.delimiter
        if mailbox.name.upper() == "INBOX":
            return ("INBOX",)
        bare = mailbox.name.removeprefix(prefix) or mailbox.name
        return tuple(bare.split(delimiter)) if delimiter else (bare,)

    def _beyond(self, mailbox: Mailbox, *, everything: bool) -> Gap | None:
        """A folder that is not ours to take, or not in a way that can be opened."""
        if not mailbox.selectable:
            return None
        if _UNSAFE.search(mailbox.raw):
            return _gap(mailbox, "folder-name", "Its name holds a line break or a NUL byte.")
        if any(mailbox.name.startswith(prefix) for prefix in self._session.foreign):
            why = "It belongs to somebody else: save it as a mailbox of its owner."
            return _gap(mailbox, "shared-folder", why)
        if everything and mailbox.attributes & VIEWS:
            return _gap(mailbox, "search-folder", "It shows again what lies in other folders.")
        return None

    def _add(self, mailbox: Mailbox) -> None:
        path = self._path(mailbox)
        if not mailbox.selectable:
            self._above((*path, ""))
            return
        said = self._said[mailbox.raw]
        if isinstance(said, Answer) and said.no_such_mailbox:
            return  # deleted just now, or only the name of what folders lie in: they will tell
        if isinstance(said, Answer) or "UIDVALIDITY" not in said:
            self._found.doubtful = True
            why = "The server does not open it; it may be damaged or forbidden."
            self._found.listed.append(_gap(mailbox, "folder", why))
            return
        parent = self._above(path)
        id_, state = _id(mailbox, said), _state(said)
        if id_ in self._found.known:  # no id at all, if two folders have it
            id_ = _by_name(mailbox)
        self._ids[path] = id_
        self._found.known[id_] = Folder(mailbox.raw, mailbox.name, state)
        self._found.listed.append(
            Collection(Service.MAIL, id_, parent, path[-1] or mailbox.name, state.exists, _special(mailbox))
        )  # fmt: skip

    def _above(self, path: tuple[str, ...]) -> str | None:
        """The id of what a folder lies in, made up where the server has nothing to open there."""
        if len(path) == 1:
            return None
        above = path[:-1]
        if above not in self._ids:
            parent = self._above(above)
            self._ids[above] = "p:" + "\n".join(above)
            made = Collection(Service.MAIL, self._ids[above], parent, above[-1], 0)
            self._found.listed.append(made)
        return self._ids[above]


def _asked(session: Session) -> str:
    words = ["MESSAGES", "UIDNEXT", "UIDVALIDITY"]
    words += ["HIGHESTMODSEQ"] if session.can("CONDSTORE") or session.can("QRESYNC") else []
    by = lister.naming(session)
    words += {lister.EMAILID: ["MAILBOXID"], lister.GUID: ["X-GUID"]}.get(by, [])
    return " ".join(words)


def _state(said: Mapping[str, object]) -> State:
    words = ("MESSAGES", "UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ")
    return State(*(number(said.get(word)) for word in words))


def _id(mailbox: Mailbox, said: Mapping[str, object]) -> str:
    """What stays when a folder is renamed, where the server has such a thing; else its name."""
    for word, letter in (("MAILBOXID", "i"), ("X-GUID", "g")):
        value = said.get(word)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, bytes) and _OBJECT_ID.fullmatch(value):
            return f"{letter}:{value.decode()}"
    return _by_name(mailbox)


def _by_name(mailbox: Mailbox) -> str:
    return f"n:{mailbox.raw.decode('utf-8', 'surrogateescape').encode('utf-8', 'replace').decode()}"


def _special(mailbox: Mailbox) -> str | None:
    if mailbox.name.upper() == "INBOX":
        return "inbox"
    return next((word for use, word in SPECIAL.items() if use in mailbox.attributes), None)


def _gap(mailbox: Mailbox, kind: str, why: str) -> Gap:
    return Gap(f"n:{mailbox.name}", kind, mailbox.name, why)
