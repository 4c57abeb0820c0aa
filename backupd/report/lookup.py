"""Looking things up in what is held, at once: a million items within a second.

Reads catalogs without the layer that writes them, which takes longer to load than the answer does, and out of one index
that holds name and title of every item. SQLite sieves, exactly one way: nothing that matches is lost; what
passes is compared here, by names as `names.fold` makes them equal.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from backupd.errors import IntegrityError, UserError
from backupd.mirror import names

WILD = frozenset("*?[")
"""What makes a pattern of plain words."""

TITLED = 4
"""The first schema of a catalog with the column `title`."""

BECOME_ASCII = (
    "\xdf\u0130\u0149\u017f\u037e\u1e9a\u1e9e\u1fef\u212a\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06"
)
"""Letters outside ASCII that fold into it, such as ß: SQLite does not know them for what they match."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An item: `path` in the mirror, what a person calls it, bytes."""

    path: str
    title: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Wanted:
    """A pattern: a glob over paths and titles, or plain words that may stand anywhere in one."""

    pattern: str

    @cached_property
    def folded(self) -> str:
        """As names are compared."""
        return names.fold(self.pattern)

    @cached_property
    def literal(self) -> str:
        """The longest piece that must stand in what matches; "" when there is none."""
        if WILD.isdisjoint(self.folded):
            return self.folded
        return max(re.split(r"\[.*|[*?]", self.folded), key=len)

    @cached_property
    def ascii(self) -> str:
        """The longest piece of that which SQLite can compare without regard to case."""
        return max(re.split(r"[^ -~]", self.literal), key=len)

    @property
    def told(self) -> str:
        """The condition on a title: an ASCII one can never match letters outside ASCII."""
        if self.literal and not self.ascii:
            return "{title} GLOB '*[^ -~]*'"
        return "{title} LIKE :like ESCAPE '\\'"

    @property
    def sieve(self) -> dict[str, str]:
        """The values of the conditions."""
        return {"literal": self.literal, "like": f"%{_escaped(self.ascii)}%"}

    def fits(self, *texts: str) -> bool:
        """Whether any of the texts matches."""
        folded = (names.fold(text) for text in texts)
        if WILD.isdisjoint(self.folded):
            return any(self.folded in text for text in folded)
        return any(fnmatch.fnmatchcase(text, self.folded) for text in folded)


def find(catalogs: Sequence[Path], pattern: str) -> Iterator[list[Hit]]:
    """What matches in each catalog, in their order; several are read at the same time.

    Raises IntegrityError for a catalog that cannot be read.
    """
    wanted = Wanted(pattern)
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        yield from workers.map(lambda path: list(matching(path, wanted)), catalogs)


def matching(catalog: Path, wanted: Wanted) -> Iterator[Hit]:
    """What matches in one catalog, folder by folder."""
    with _opened(catalog) as (database, title):
        query = _SIEVE.format(title=title, told=wanted.told.format(title=title))
        for folder, path in database.execute("SELECT id, path FROM folderrow ORDER BY path"):
            chosen = {"folder": folder, "start": names.fold(path) + "/"} | wanted.sieve
            for (row,) in database.execute(query, chosen).fetchall():
                hit = _hit(database, path, title, row)
                if wanted.fits(hit.path, hit.title):
                    yield hit


def listing(catalog: Path, path: str) -> tuple[list[str], list[Hit]]:
    """The folders right below a mirror path, and the items that lie at it, by name."""
    with _opened(catalog) as (database, title):
        folders = database.execute("SELECT id, path FROM folderrow").fetchall()
        depth = path.count("/") + 1 if path else 0
        inside = [each for _, each in folders if not path or each.startswith(path + "/")]
        below = sorted({"/".join(each.split("/")[: depth + 1]) for each in inside})
        here = [row for row, each in folders if each == path]
        query = _ITEMS.format(title=title)
        return below, [Hit(f"{path}/{name}", str(called or ""), size, sha256) for row in here for name, called, size, sha256 in database.execute(query, (row,))]  # fmt: skip


def _hit(database: sqlite3.Connection, path: str, title: str, row: int) -> Hit:
    found = database.execute(_ONE.format(title=title), (row,)).fetchone()
    name, called, size, sha256 = found or ("", "", 0, "")
    return Hit(f"{path}/{name}", str(called or ""), size, sha256)


@contextmanager
def _opened(catalog: Path) -> Iterator[tuple[sqlite3.Connection, str]]:
    """A catalog as it stands at one moment, and how its schema says a title."""
    try:
        with closing(sqlite3.connect(f"{catalog.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as database:  # fmt: skip
            database.text_factory = _text
            database.execute("BEGIN")
            schema = database.execute("PRAGMA user_version").fetchone()[0]
            yield database, "title" if schema >= TITLED else OLD_TITLE
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname == "SQLITE_CANTOPEN":
            raise UserError(
                f"Cannot open {catalog}.", hint="Look as the user that runs backupd."
            ) from error
        raise IntegrityError(
            f"{catalog} cannot be read: {error}.",
            hint="Move it aside: the next run builds it anew; snapshots are not affected.",
        ) from error


def _text(raw: bytes) -> str:
    """Subjects may hold half a character."""
    return raw.decode("utf-8", "replace")


def _escaped(word: str) -> str:
    return re.sub(r"([%_\\])", r"\\\1", word)


OLD_TITLE = "coalesce(json_extract(about, '$.subject'), json_extract(about, '$.name'), '')"

_SIEVE = f"""
SELECT id FROM itemrow WHERE folder = :folder AND (
    instr(:start || fold, :literal)
    OR {{told}}
    OR {{title}} GLOB '*[{BECOME_ASCII}]*')
ORDER BY fold
"""  # noqa: S608 - constants

_ITEMS = "SELECT name, {title}, size, sha256 FROM itemrow WHERE folder = ? ORDER BY name"

_ONE = "SELECT name, {title}, size, sha256 FROM itemrow WHERE id = ?"
