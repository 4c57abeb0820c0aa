"""The changes of one folder: by modification numbers where the server has them, else by comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from backupd.imap import lister
from backupd.imap.lister import Changed, Listed, Vanished
from backupd.imap.reader import uid_set, uids_of
from backupd.imap.session import Selected, Session
from backupd.model import Change, Gone, Item, Page
from sources.imap import facts
from sources.imap.cursor import Blocks, Cursor, block_range, look_at, read, recent
from sources.imap.folders import Folder
from sources.imap.lanes import Lane

T = TypeVar("T")

PAGE = 1000
MOST = 20_000
"""More changes than this are not gathered: the folder is listed from its beginning, page by page."""


class TooMany(Exception):
    """So much has changed that a full listing is the shorter way."""


class Listing:
    """Follows one folder. `lane` may be another one for each page; `reached` is afterwards the numbering and the first UID that was not seen.

    Args:
        fresh: what the folder said of itself when it was listed still holds: where that says that nothing happened,
            it is not even opened.
    """

    def __init__(self, lane: Lane, folder: Folder, collection: str, *, fresh: bool = False) -> None:
        self.lane, self._folder, self._collection, self._fresh = lane, folder, collection, fresh
        self._blocks = Blocks()
        self._listed: list[int] = []
        self.reached = (0, 0)

    def pages(self, text: str | None) -> Iterator[Page]:
        """The pages since a cursor. Raises lanes.Refused, TransientError."""
        past = read(text)
        if past is not None and text is not None and self._untouched(past):
            self.reached = (past.validity, past.next)
            yield Page((), text, last=True)
            return
        session, opened = self._opened()
        self._by, self._validity = lister.naming(session), opened.validity
        if past is None or past.validity != opened.validity or self._outdated(past, opened):
            yield from self._full(opened, None)
        elif past.top:
            yield from self._full(opened, past)
        else:
            try:
                found = self._since(past, opened)
            except TooMany:
                yield from self._full(opened, None)
            else:
                yield from self._changes(past, opened, *found)

    def _untouched(self, past: Cursor) -> bool:
        """Whether the numbers that the folder was listed with say that nothing happened."""
        state = self._folder.state
        if not self._fresh or state is None or past.top or not past.modseq:
            return False
        if not recent(past.look, self._folder.raw, time.time()):
            return False
        same = (state.validity, state.next, state.modseq) == (past.validity, past.next, past.modseq)
        return same and (past.uids is None or len(past.held()) == state.exists)

    def _look(self, modseq: int) -> str:
        """The look that the cursor keeps: none where a closed folder does not tell of every change."""
        return look_at(self._folder.raw, time.time()) if modseq else ""

    def _opened(self) -> tuple[Session, Selected]:
        """A fresh look at the folder, even where it is open already."""

        def work(session: Session) -> tuple[Session, Selected]:
            del session
            return self.lane.examine(self._folder.raw, anew=True)

        return self.lane.ask(work)

    def _outdated(self, past: Cursor, opened: Selected) -> bool:
        """A cursor of another server, or of another way to follow this one."""
        if opened.next and opened.next < past.next:
            return True
        if past.top:
            return False
        follows = self._tells_changes(opened) == bool(past.modseq)
        if past.modseq > opened.modseq or not follows:
            return True
        if self._tells_vanished(opened):
            return False
        return past.uids is None or (past.blocks is None and not past.modseq)

    def _tells_changes(self, opened: Selected) -> bool:
        return opened.modseq > 0

    def _tells_vanished(self, opened: Selected) -> bool:
        return opened.modseq > 0 and self.lane.session().can("QRESYNC")

    # -- everything ---------------------------------------------------------------------------

    def _full(self, opened: Selected, past: Cursor | None) -> Iterator[Page]:
        first = past.next if past else 1
        uids = self._ask(lambda session: lister.list_uids(session, opened.exists))
        top = past.top if past else opened.next or (uids[-1] + 1 if uids else 1)
        modseq = past.modseq if past else opened.modseq
        wanted = [uid for uid in uids if first <= uid < top]
        end = self._end(opened, top, modseq, whole=past is None)
        restart = past is None
        windows = [wanted[start : start + PAGE] for start in range(0, len(wanted), PAGE)] or [[]]
        for number, window in enumerate(windows, 1):
            changes = self._window(window)
            last = number == len(windows)
            under_way = Cursor(opened.validity, window[-1] + 1 if window else top, modseq, top)
            yield Page(changes, end() if last else under_way.text(), restart, last)
            restart = False
        self.reached = (opened.validity, top)

    def _end(self, opened: Selected, top: int, modseq: int, *, whole: bool) -> Callable[[], str]:
        """The cursor at the end of a listing, made when it is there.

        A listing that went on where a killed run stopped does not know all UIDs; its cursor lacks them, which asks
        for another listing where they are needed.
        """

        def made() -> str:
            look = self._look(modseq)
            if self._tells_vanished(opened):
                return Cursor(opened.validity, top, modseq, look=look).text()
            uids = uid_set(self._listed).decode() if whole else None
            blocks = None if modseq or not whole else self._blocks.written()
            return Cursor(opened.validity, top, modseq, 0, uids, blocks, look).text()

        return made

    def _window(self, window: Sequence[int]) -> tuple[Change, ...]:
        """Some messages; those that the server leaves out are asked for one by one."""
        if not window:
            return ()
        asked = set(window)
        found = self._ranged(window[0], window[-1])
        seen = {each.uid: each for each in found if each.uid in asked}
        missing = [uid for uid in window if uid not in seen]
        for uid in missing:
            seen |= {each.uid: each for each in self._ranged(uid, uid)}
        unlisted = [uid for uid in missing if uid not in seen]
        silent = self._ask(lambda session: lister.still_there(session, unlisted))
        for uid, listed in seen.items():
            self._blocks.add(uid, listed.flags)
        kept = [uid for uid in window if uid in seen or uid in silent]
        self._listed += kept
        return tuple(self._item(seen.get(uid), uid) for uid in kept)

    def _ranged(self, first: int, last: int) -> list[Listed]:
        return self._ask(lambda session: list(lister.list_range(session, first, last, self._by)))

    def _item(self, listed: Listed | None, uid: int) -> Item:
        id_ = facts.id_of(self._collection, self._validity, uid)
        told = dict(facts.of_listing(listed)) if listed else {}
        if not told.get("content"):
            told["message"] = id_
        return Item(id_, told)

    # -- what changed -------------------------------------------------------------------------

    def _since(self, past: Cursor, opened: Selected) -> tuple[list[Change], list[int], list[int]]:
        """Changes below the next UID of the cursor, new UIDs, and all UIDs where the server must be compared."""
        if self._tells_vanished(opened):
            new = (
                self._ask(lambda s: lister.list_uids_from(s, past.next))
                if _grown(past, opened)
                else []
            )
            return self._told(past, opened, vanished=True), new, []
        uids = self._ask(lambda s: lister.list_uids(s, opened.exists))
        gone = sorted(past.held() - set(uids))
        changes: list[Change] = [self._gone(uid) for uid in gone]
        changes += self._told(past, opened, vanished=False) if past.modseq else self._compared(past)
        return changes, [uid for uid in uids if uid >= past.next], uids

    def _told(self, past: Cursor, opened: Selected, *, vanished: bool) -> list[Change]:
        if opened.modseq == past.modseq:
            return []
        return self._ask(lambda session: self._gathered(session, past, vanished=vanished))

    def _gathered(self, session: Session, past: Cursor, *, vanished: bool) -> list[Change]:
        """Drained to its end even when it is too much: the connection must stay usable."""
        found: list[Change] = []
        full = False
        for each in lister.list_changes(session, past.next, past.modseq, vanished=vanished):
            if isinstance(each, Vanished):
                uids = uids_of(each.uids, MOST)
                full = full or not uids
                found += [self._gone(uid) for uid in uids if uid < past.next and not full]
            elif not full:
                found.append(self._flagged(each))
            full = full or len(found) > MOST
        if full:
            raise TooMany
        return found

    def _compared(self, past: Cursor) -> list[Change]:
        """Flags by comparison: hashes of all, then what lies in the blocks that differ."""

        def survey(session: Session) -> Blocks:
            blocks = Blocks()
            for each in lister.list_flags(session, "1:*"):
                if each.uid < past.next:
                    blocks.add(each.uid, each.flags)
            return blocks

        self._blocks = self._ask(survey)
        changed = self._blocks.changed(past.blocks or {})
        if len(changed) > MOST >> 8:
            raise TooMany
        found: list[Change] = []
        if changed:
            asked = ",".join(block_range(block) for block in changed)
            some = self._ask(lambda session: list(lister.list_flags(session, asked)))
            found += [self._flagged(each) for each in some if each.uid < past.next]
        return found

    def _changes(
        self, past: Cursor, opened: Selected, changes: list[Change], new: list[int], uids: list[int]
    ) -> Iterator[Page]:
        """Pages of what changed, then of what is new; a cursor in between repeats and loses nothing."""
        for start in range(0, len(changes), PAGE):
            yield Page(tuple(changes[start : start + PAGE]), past.text())
        top = max(opened.next, past.next, new[-1] + 1 if new else 0)
        for start in range(0, len(new), PAGE):
            yield Page(self._window(new[start : start + PAGE]), past.text())
        modseq = opened.modseq
        look = self._look(modseq)
        if self._tells_vanished(opened):
            end = Cursor(opened.validity, top, modseq, look=look)
        else:
            blocks = None if modseq else self._blocks.written()
            end = Cursor(opened.validity, top, modseq, 0, uid_set(uids).decode(), blocks, look)
        yield Page((), end.text(), last=True)
        self.reached = (opened.validity, top)

    def _flagged(self, changed: Changed) -> Item:
        id_ = facts.id_of(self._collection, self._validity, changed.uid)
        return Item(id_, facts.of_flags(changed.flags))

    def _gone(self, uid: int) -> Gone:
        return Gone(facts.id_of(self._collection, self._validity, uid))

    def _ask(self, work: Callable[[Session], T]) -> T:
        return self.lane.ask(work, self._folder.raw, self._validity)


def _grown(past: Cursor, opened: Selected) -> bool:
    return not opened.next or opened.next > past.next
