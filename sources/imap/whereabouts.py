"""Where messages are now: still where they were, somewhere else, or gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from backupd.errors import TransientError
from backupd.imap import lister
from backupd.imap.session import Session
from backupd.model import Item
from sources.imap.facts import place_of, version
from sources.imap.folders import Folder, Folders
from sources.imap.lanes import Lane, Refused

Reached = Mapping[str, tuple[int, int]]
"""For each folder its numbering and the first UID that was not listed."""


class Whereabouts:
    """Looks for messages in one mailbox."""

    def __init__(self, lane: Lane, folders: Folders, reached: Reached) -> None:
        self._lane, self._folders, self._reached = lane, folders, reached

    def locate(self, held: Mapping[str, Item]) -> Mapping[str, str | None]:
        """Key → collection id, None for what is nowhere; what nobody can tell is left out."""
        by_folder: dict[str, dict[str, Item]] = defaultdict(dict)
        for key, item in held.items():
            by_folder[place_of(item.id)[0]][key] = item
        where: dict[str, str | None] = {}
        left: dict[str, Item] = {}
        for collection, items in by_folder.items():
            there = self._still_in(collection, items)
            if there is None:
                continue
            where |= dict.fromkeys(there, collection)
            left |= {key: item for key, item in items.items() if key not in there}
        if left:
            where |= self._elsewhere(left)
        return where

    def _still_in(self, collection: str, items: Mapping[str, Item]) -> set[str] | None:
        """The keys that lie where they did; None when the folder cannot be asked."""
        folder = self._folders.known.get(collection)
        if folder is None:
            return None if self._folders.doubtful else set()
        uids = {place_of(item.id)[2]: key for key, item in items.items()}

        def look(session: Session) -> set[int]:
            opened = self._lane.examine(folder.raw, anew=True)[1]
            valid = {
                uid for uid, key in uids.items() if place_of(items[key].id)[1] == opened.validity
            }
            return lister.still_there(session, sorted(valid))

        try:
            return {uids[uid] for uid in self._lane.ask(look)}
        except (Refused, TransientError):
            return None

    def _elsewhere(self, left: Mapping[str, Item]) -> Mapping[str, str | None]:
        """Messages that came after a folder was listed may be those that left another one."""
        wanted: dict[str, list[str]] = defaultdict(list)
        for key, item in left.items():
            wanted[version(item.facts)].append(key)
        found: dict[str, str | None] = {}
        unsure = self._folders.doubtful
        for collection, folder in self._folders.known.items():
            arrived = self._arrived(collection, folder)
            if arrived is None:
                unsure = True
                continue
            found |= {key: collection for content in arrived for key in wanted.get(content, ())}
        return found if unsure else {**dict.fromkeys(left), **found}

    def _arrived(self, collection: str, folder: Folder) -> set[str] | None:
        """The contents that a folder holds beyond what was listed; None when it cannot be asked.

        A folder that nobody listed yet is looked through where contents have names of their own. Elsewhere that
        would mean every header: there it is what came since the folders were listed.
        """

        def look(session: Session) -> set[str]:
            by = lister.naming(session)
            state = folder.state if by == lister.HEADER else None
            unlisted = (state.validity, state.next) if state else (0, 1)
            validity, first = self._reached.get(collection, unlisted)
            opened = self._lane.examine(folder.raw, anew=True)[1]
            start = first if opened.validity == validity else 1
            if not opened.exists or (opened.next and opened.next <= start):
                return set()
            return {content for _, content in lister.list_content(session, start, by)}

        try:
            return self._lane.ask(look)
        except (Refused, TransientError):
            return None
