"""The Source that the verbs see: mailboxes of an IMAP server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backupd.cutoff.verdict import Evidence
from backupd.errors import ItemGone, TransientError
from backupd.imap.session import Session
from backupd.model import Account, Collection, Facts, Gap, Item, Page, Service
from backupd.ports import Failed, Fetched, Finding, Landing
from sources.imap import facts, probing
from sources.imap.bodies import Fetch
from sources.imap.checks import checks
from sources.imap.folders import Folder, Folders, list_folders
from sources.imap.lanes import Lane, Refused
from sources.imap.listing import Listing
from sources.imap.mailbox import Held, Mailboxes
from sources.imap.whereabouts import Whereabouts

if TYPE_CHECKING:
    from backupd.config import Imap
    from sources.graph.signin import Prompt

NOTHING = "-"
"""The cursor of a folder that holds only folders."""
PAUSE = 5.0
"""Seconds between two looks at the inbox of a server without IDLE."""


class ImapSource:
    """Mailboxes of an IMAP server, read-only: nothing is marked, moved or created. See `backupd.ports.Source`."""

    def __init__(
        self, section: Imap, *, prompt: Prompt | None = None, held: Held = lambda _: ()
    ) -> None:
        self.name = section.name
        self.recognises = frozenset({Service.MAIL})
        self._section = section
        self._mailboxes = Mailboxes(section, prompt, held)
        self._lock = threading.Lock()
        self._folders: dict[str, Folders] = {}
        self._fresh: set[tuple[str, str]] = set()
        self._inboxes: dict[str, tuple[int, int, int]] = {}
        self._reached: dict[str, dict[str, tuple[int, int]]] = {}

    def accounts(self) -> Iterator[Account]:
        """Every mailbox that the configuration names and selects."""
        yield from self._mailboxes.accounts()

    def collections(self, account: Account, service: Service) -> Sequence[Collection | Gap]:
        """Every folder that can be opened, and what folders lie in."""
        del service  # there is only mail
        with self._mailboxes.lane(account) as lane:
            return self._listed(account, lane).listed

    def pages(self, account: Account, collection: Collection, cursor: str | None) -> Iterator[Page]:
        """The changes since `cursor`."""
        if collection.id.startswith("p:"):
            yield Page((), NOTHING, restart=cursor is None, last=True)
            return
        pages, listing = iter(()), None  # type: Iterator[Page], Listing | None
        while True:  # between two pages the connection is free for fetching
            with self._mailboxes.lane(account) as lane, self._opening(account, lane, collection.id):
                if listing is None:
                    folder = self._folder(account, lane, collection.id)
                    fresh = self._once(account, collection)
                    listing = Listing(lane, folder, collection.id, fresh=fresh)
                    pages = listing.pages(cursor)
                listing.lane = lane
                page = next(pages, None)
            if page is None:
                break
            yield page
        with self._lock:
            self._reached.setdefault(account.id, {})[collection.id] = listing.reached

    def keys(self, account: Account, service: Service, ids: Sequence[str]) -> Mapping[str, str]:
        """Each id stands for itself; what moves is recognised by its content."""
        del account, service
        return {each: each for each in ids}

    def version(self, service: Service, facts_: Facts) -> str:
        """What names the content of a message."""
        del service
        return facts.version(facts_)

    def describe(self, service: Service, facts_: Facts) -> Facts:
        """The facts in the words that all providers share."""
        del service
        return facts.describe(facts_)

    def fetch(
        self, account: Account, collection: Collection, items: Iterable[Item], landing: Landing
    ) -> Iterator[Fetched | Failed]:
        """Each message into a draft, over several connections."""
        with self._mailboxes.lanes(account) as lanes, self._opening(account, lanes[0], collection.id):  # fmt: skip
            folder = self._folder(account, lanes[0], collection.id)
            opened = lanes[0].ask(lambda _: lanes[0].examine(folder.raw)[1])
            fetch = Fetch(lanes, folder.raw, opened.validity, landing)
            yield from fetch.run(items)
            if fetch.unwelcome:
                self._mailboxes.only_one(account)

    def locate(
        self, account: Account, service: Service, held: Mapping[str, Item]
    ) -> Mapping[str, str | None]:
        """Where messages are now."""
        del service
        with self._mailboxes.lane(account) as lane:
            with self._lock:
                reached = dict(self._reached.get(account.id, {}))
            return Whereabouts(lane, self._listed(account, lane), reached).locate(held)

    def check(self) -> Iterator[Finding]:
        """A login to every mailbox, and what the server can do."""
        yield from checks(self._section, self._mailboxes)

    def probe(self, account: Account | None) -> Iterator[Evidence]:
        """Whether the server answers; for an account, whether its inbox opens."""
        if account is None:
            yield from probing.server(self._section)
        else:
            yield from probing.mailbox(self._mailboxes, account)

    def warnings(self, accounts: Sequence[Account]) -> Iterator[Finding]:
        """An IMAP server announces nothing."""
        del accounts
        yield from ()

    def wait(self, account: Account, seconds: float) -> bool:
        """Until the inbox is not what it was at the last wait, at most so long; whether it is. See `backupd.ports.Listening`."""
        with self._mailboxes.lane(account) as lane:

            def work(session: Session) -> bool:
                state = _state(lane)
                with self._lock:
                    before = self._inboxes.setdefault(account.id, state)
                changed = state != before or _changes(lane, session, seconds)
                with self._lock:
                    self._inboxes[account.id] = _state(lane) if changed else state
                return changed

            return lane.ask(work)

    def close(self) -> None:
        """End all connections."""
        self._mailboxes.close()

    # -- folders ------------------------------------------------------------------------------

    def _listed(self, account: Account, lane: Lane) -> Folders:
        def work(session: Session) -> Folders:
            lane.leave()
            return list_folders(session)

        found = lane.ask(work)
        with self._lock:
            self._folders[account.id] = found
            self._fresh |= {(account.id, each) for each in found.known}
        return found

    def _once(self, account: Account, collection: Collection) -> bool:
        """What the folders said when they were listed is believed once: the next look asks again."""
        with self._lock:
            fresh = (account.id, collection.id) in self._fresh
            self._fresh.discard((account.id, collection.id))
        return fresh

    def _folder(self, account: Account, lane: Lane, collection: str) -> Folder:
        """How a collection is opened. Raises ItemGone, or TransientError when nobody can tell."""
        with self._lock:
            known = self._folders.get(account.id)
        if known is None or collection not in known.known:
            known = self._listed(account, lane)
        if collection in known.known:
            return known.known[collection]
        if known.doubtful:
            raise TransientError("A folder cannot be opened, and others are not listed.")
        raise ItemGone("The folder no longer exists.")

    @contextmanager
    def _opening(self, account: Account, lane: Lane, collection: str) -> Iterator[None]:
        """A folder that the server does not open may be gone; renamed, it is found the next time."""
        try:
            yield
        except Refused as refused:
            there = collection in self._listed(account, lane).known
            if there or self._folders[account.id].doubtful:
                raise TransientError(
                    f"{self._section.host} does not open a folder of {account.address}: {refused}",
                    hint="It may be in use, renamed just now, or forbidden to this user.",
                    reason="folder",
                ) from refused
            raise ItemGone("The folder no longer exists.") from refused


def _state(lane: Lane) -> tuple[int, int, int]:
    """What an inbox says when it is opened anew: numbers that change when it does."""
    now = lane.examine(b"INBOX", anew=True)[1]
    return now.exists, now.next, now.modseq


def _changes(lane: Lane, session: Session, seconds: float) -> bool:
    """Whether the inbox, which was just opened, changes within this time."""
    if session.can("IDLE") and seconds > 0:
        return session.idle(seconds)
    end, before = time.monotonic() + seconds, None
    while (left := end - time.monotonic()) > 0:
        before = before or _state(lane)
        time.sleep(min(PAUSE, left))
        if _state(lane) != before:
            return True
    return False
