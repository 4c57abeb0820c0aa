"""Where a file goes at a target: its true names, as far as servers take them.

A name is kept as it is wherever that is safe. What servers refuse or change behind our back stands
as %XX (the UTF-8 bytes), so that it stays readable, can be undone and no two names become one. All
of it is worked out from the item alone: a second run without a ledger computes the same path.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from backupd.mirror import names
from backupd.ports import REPAIRED, RESTORED, Claim, Parcel, Proof, Put, Shelf

LIMIT = 250
"""Bytes of one name: file systems take 255, Nextcloud's database 250."""

KEPT = "\u00a0\u00ad\u200c\u200d\u202f\u3000"
"""Unprintable to Python, yet ordinary writing: odd blanks, and the joiners of Persian and emoji."""

_KEPT = re.compile(
    "(?!^)(?:" + "|".join(names.escape(f"a{each}a")[1:-1] for each in KEPT) + ")(?!$)"
)
_PLAIN_PERCENT = re.compile("%25(?![0-9A-Fa-f]{2})")
"""An escaped percent sign that nobody could take for an escape if it stood alone."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What one kind of target cannot take beyond what no target can.

    Attributes:
        forbidden: characters that are escaped wherever they stand.
        refused: whole names; their last dot is escaped.
    """

    forbidden: str = ""
    refused: re.Pattern[str] | None = None


ANY = Rules()


@dataclass(frozen=True, slots=True)
class Place:
    """A path at the target, relative to its root, and what is to be said about it (`Put.why`)."""

    path: str
    why: str = ""

    @property
    def folder(self) -> str:
        """The path without the last name."""
        return self.path.rpartition("/")[0]

    @property
    def leaf(self) -> str:
        """The last name."""
        return self.path.rpartition("/")[2]

    def stored(self, digest: str) -> Put:
        """How a put ends that brought an item here."""
        return Put(REPAIRED if self.why else RESTORED, self.path, self.why, digest)


def place(parcel: Parcel, rules: Rules = ANY) -> Place:
    """Where a file belongs: its drive, its folders, its name."""
    locals_ = parcel.path.split("/")
    true = (*parcel.collection, *(parcel.inner or (names.unescape(locals_[-1]),)))
    stored = _components(true, locals_[-len(true) :], rules)
    if tuple(stored) == true:
        return Place("/".join(stored))
    only_the_leaf = tuple(stored[:-1]) == true[:-1]
    return Place("/".join(stored), f"stored as {stored[-1] if only_the_leaf else '/'.join(stored)}")


def collection(shelf: Shelf, rules: Rules = ANY) -> str:
    """The path of a drive itself."""
    return "/".join(_components(shelf.names, shelf.path.split("/")[-len(shelf.names) :], rules))


def beside(there: Place, parcel: Parcel) -> Place:
    """Where a file goes whose place holds another one: its own content gives the mark.

    Equal content has an equal place, which is how the next run finds it without a ledger.
    """
    mark = names.short_key(parcel.sha256)[:8]
    leaf = names.shorten(there.leaf, LIMIT, mark=mark, always=True)
    path = f"{there.folder}/{leaf}" if there.folder else leaf
    return Place(path, f"stored as {leaf}: another file had its name")


def component(name: str, rules: Rules = ANY) -> str:
    """One name as a target takes it; different names stay different (save in their normal form)."""
    return names.shorten(_escaped(name, rules), LIMIT, mark=names.short_key(name)[:8])


def proof(claim: Claim, size: int | None, digest: str | None, what: str = "") -> Proof:
    """What a size and, for a deep claim, a SHA-256 say; -1 is a size that nobody knows."""
    if size is None:
        return Proof(claim, "missing", "is not there")
    if size not in {claim.parcel.size, -1}:
        return Proof(claim, "changed", f"{size} bytes instead of {claim.parcel.size}")
    if claim.deep and digest != (claim.put.digest or claim.parcel.sha256):
        return Proof(claim, "changed", "the content differs")
    return Proof(claim, "same", what)


def _components(true: Sequence[str], local: Sequence[str], rules: Rules) -> list[str]:
    if len(local) != len(true):
        return [component(each, rules) for each in true]
    return [_component(name, where, rules) for name, where in zip(true, local, strict=True)]


def _component(name: str, local: str, rules: Rules) -> str:
    """Names that a folding file system takes for one have been told apart in the snapshot already."""
    if local in {name, names.component(name)}:
        return component(name, rules)
    return names.shorten(_escaped(name, rules), LIMIT, mark=names.short_key(local)[:8], always=True)


def _escaped(name: str, rules: Rules) -> str:
    text = names.escape(unicodedata.normalize("NFC", name), ours=False)
    text = _KEPT.sub(lambda found: names.unescape(found[0]), text)
    text = _PLAIN_PERCENT.sub("%", text)
    for each in set(text) & set(rules.forbidden):
        text = text.replace(each, _percent(each))
    if rules.refused and rules.refused.fullmatch(text):
        head, _, tail = text.rpartition(".")
        text = f"{head}%2E{tail}"
    return text


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())
