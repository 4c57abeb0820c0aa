"""From collections to mailboxes of one account: found by use, by name, or created."""

from __future__ import annotations

from collections.abc import Iterator
from threading import RLock

from backupd.errors import UserError
from backupd.imap.session import Mailbox, Session
from backupd.ports import Shelf
from targets.imap.layout import INBOX, Layout, Path, known_names
from targets.imap.naming import ascii_only, faithful, mark, plain_punctuation


class Mailboxes:
    """Remembers which path is which mailbox; two paths never share one. Thread-safe."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = RLock()
        self._there: dict[str, Mailbox] | None = None
        self._made: dict[Path, str] = {}
        self._owners: dict[str, Path] = {}
        self._source_tells = False

    def of(self, session: Session, shelf: Shelf) -> str:
        """The mailbox of a collection; it is there afterwards. Raises UserError."""
        with self._lock:
            path = self._layout.mailbox(shelf) or ("Mail",)
            self._source_tells = self._source_tells or bool(shelf.special)
            if path not in self._made:
                use = self._layout.use(shelf)
                name = self._of_use(session, path, use) if use else ""
                self._own(path, name or self._by_path(session, path))
            return self._made[path]

    def at(self, session: Session, path: Path) -> str:
        """The mailbox of a path that belongs to no collection (a label). Raises UserError."""
        with self._lock:
            if path not in self._made:
                self._own(path, self._by_path(session, path))
            return self._made[path]

    def again(self, session: Session, name: str) -> None:
        """Create a mailbox that vanished."""
        with self._lock:
            session.create(name)
            session.subscribe(name)

    def _own(self, path: Path, name: str) -> None:
        self._made[path] = name
        self._owners[name] = path

    def _listing(self, session: Session) -> dict[str, Mailbox]:
        if self._there is None:
            self._there = {each.name: each for each in session.mailboxes()}
        return self._there

    def _free(self, name: str, path: Path) -> bool:
        return self._owners.get(name, path) == path

    def _of_use(self, session: Session, path: Path, use: str) -> str:
        """The mailbox of a special use, created when nothing looks like it; "" when another path has it."""
        if use == INBOX:
            return INBOX if self._free(INBOX, path) else ""
        found = self._by_attribute(session, use) or self._by_known_name(session, use)
        if found:
            return found if self._free(found, path) else ""
        name = session.prefix + known_names().get(use, (path[-1],))[0]
        return name if self._free(name, path) and self._create(session, name, use) else ""

    def _by_attribute(self, session: Session, use: str) -> str:
        wanted = {use.lower(), "\\spam" if use == "\\Junk" else use.lower()}  # XLIST says \Spam
        there = self._listing(session).values()
        return next(
            (each.name for each in there if each.attributes & wanted and each.selectable), ""
        )

    def _by_known_name(self, session: Session, use: str) -> str:
        names = {each.casefold() for each in known_names().get(use, ())}
        inside = (session.prefix, f"{INBOX}{session.delimiter}")
        for each in self._listing(session).values():
            for prefix in inside:
                bare = each.name.removeprefix(prefix)
                if each.name.startswith(prefix) and bare.casefold() in names and each.selectable:
                    return each.name
        return ""

    def _by_path(self, session: Session, path: Path) -> str:
        for name in self._candidates(session, path):
            if not self._may_have(session, name, path):
                continue
            if self._is_there(session, name) or self._create(session, name):
                return name
        raise UserError(
            f"The server takes no folder for {'/'.join(path)!r}, under whatever name.",
            hint="Create a folder by hand to see what it says; perhaps it limits their number or depth.",
            reason="folder",
        )

    def _may_have(self, session: Session, name: str, path: Path) -> bool:
        """Not the inbox, not another path's, and no special folder of the server that the source has under another name."""
        if name.upper() == INBOX:
            return False
        there = self._listing(session).get(name)
        special = there is not None and any(
            use.lower() in there.attributes for use in known_names()
        )
        return self._free(name, path) and not (special and self._source_tells)

    def _candidates(self, session: Session, path: Path) -> Iterator[str]:
        """Names to try, the most faithful first, the most modest last."""
        delimiter = session.delimiter
        base = self._parent(session, path[:-1])
        first, leaf = faithful(path[-1], delimiter), path[-1]
        yield base + first
        yield f"{base}{first} ({mark(*path)})"
        yield base + plain_punctuation(leaf, delimiter)
        yield base + ascii_only(leaf)
        yield f"{session.prefix}{ascii_only('_'.join(path))}"
        yield f"{session.prefix}Folder-{mark(*path)}"

    def _parent(self, session: Session, path: Path) -> str:
        """What stands before the last name: prefix, or the parent's mailbox with a delimiter."""
        if not path or not session.delimiter:
            return session.prefix
        known = self._made.get(path)
        if known is None:
            known = self._parent(session, path[:-1]) + faithful(path[-1], session.delimiter)
        return known + session.delimiter

    def _is_there(self, session: Session, name: str) -> bool:
        there = self._listing(session).get(name)
        return there is not None and there.selectable

    def _create(self, session: Session, name: str, use: str = "") -> bool:
        answer = session.create(name, use)
        if not answer.ok and not session.exists(name):
            return False
        session.subscribe(name)
        self._listing(session)[name] = Mailbox(name, session.delimiter, frozenset())
        return True
