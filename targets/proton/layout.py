"""Where folders and categories go at Proton: below `Folders` and `Labels`, under names it takes."""

from __future__ import annotations

from collections.abc import Iterator

from backupd.errors import UserError
from backupd.imap.session import Session
from backupd.ports import Parcel, Shelf
from targets.imap.layout import INBOX, Path
from targets.imap.mailboxes import Mailboxes
from targets.imap.naming import faithful, mark

FOLDERS, LABELS = "Folders", "Labels"
RECOVERED = "Recovered Messages"
"""Where Bridge keeps, on its own disk only, what it could not import."""

USES = {
    "inbox": INBOX,
    "sentitems": "\\Sent",
    "drafts": "\\Drafts",
    "junkemail": "\\Junk",
    "archive": "\\Archive",
}
"""Deleted items are not among them: Proton may empty its Trash, and a restore must not lose them."""

LONGEST = 100
TWINS = 3


class Layout:
    """Special folders by their use, others below `Folders`, categories as labels."""

    def mailbox(self, shelf: Shelf) -> Path:
        """Below `Folders`; also for a special folder, should its place be taken."""
        return (FOLDERS, *shelf.names)

    def use(self, shelf: Shelf) -> str:
        """By what the source says, but for deleted items."""
        return USES.get(shelf.special or "", "")

    def labels(self, parcel: Parcel) -> tuple[Path, ...]:
        """One for each category."""
        categories = parcel.about.get("categories")
        found = categories if isinstance(categories, list | tuple) else ()
        named = (each.strip() for each in found if isinstance(each, str))
        return tuple(dict.fromkeys((LABELS, each) for each in named if each))


class Boxes(Mailboxes):
    """Creates parents first and looks for a name that Proton takes.

    It wants names unique among folders and labels, ignoring case, and may limit the depth. Neither
    can be told from its refusals, so the likelier ways are tried in order, the same in every run.
    """

    def _by_path(self, session: Session, path: Path) -> str:
        for name in self._candidates(session, path):
            if not self._free(name, path):
                continue
            if self._is_there(session, name) or self._create(session, name):
                return name
        raise UserError(
            f"Proton takes no folder for {'/'.join(path[1:])!r}, under whatever name.",
            hint="Perhaps the plan limits the number of folders and labels: look into Proton's settings, "
            "remove some or choose another plan, and run the same restore again.",
            reason="folder",
        )

    def _candidates(self, session: Session, path: Path) -> Iterator[str]:
        """The name itself, told from its twins, and at last beside its parent instead of inside."""
        leaf = _shortened(faithful(path[-1], "/"))
        parent = path[0] if len(path) == 2 else self.at(session, path[:-1])  # noqa: PLR2004
        yield f"{parent}/{leaf}"
        yield from (f"{parent}/{leaf} ({number})" for number in range(1, TWINS))
        yield f"{parent}/{leaf} ({mark(*path)})"
        if len(path) > 2:  # noqa: PLR2004 - something can be flattened
            yield f"{parent} - {leaf}"
            yield f"{parent} - {leaf} ({mark(*path)})"


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9].rstrip()} ({mark(name)})"
