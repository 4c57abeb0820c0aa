"""What an item says, whoever wrote it down: servers fold, sort, stamp and decorate items anew.

A meaning is a word for the ledger: one hash over all, and behind it a few letters for each property,
so that a later comparison can name those that differ without having the item.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

_SHORT = 6
_OURS = ("X-BACKUPD-", "X-ALT-DESC", "X-MICROSOFT-", "X-AB", "X-PHONETIC-", "X-FILE-AS")
_DECORATION = "X-"
"""Under this name all X- properties count together."""
_ASIDE = frozenset({_DECORATION, "CATEGORIES"})
"""Told when it was not kept, but no change of the item: some servers split a category at its comma."""


class Said(NamedTuple):
    """One statement: a property, where in the item it stands, and its value in one spelling."""

    name: str
    where: str
    value: str


def word(statements: Iterable[Said]) -> str:
    """The meaning of statements, in whatever order."""
    found: dict[str, list[str]] = {}
    for each in statements:
        name = each.name
        if name.startswith("X-"):
            if not name.startswith(_OURS):
                continue
            name, each = _DECORATION, each._replace(value=f"{name}:{each.value}")  # noqa: PLW2901
        found.setdefault(name, []).append(f"{each.where}\n{each.value}")
    marks = {name: _hash("\0".join(sorted(values))) for name, values in sorted(found.items())}
    whole = _hash("\n".join(f"{name}={mark}" for name, mark in marks.items() if name not in _ASIDE))
    return f"{whole} {' '.join(f'{name}={mark[:_SHORT]}' for name, mark in marks.items())}"


def same(one: str, other: str) -> bool:
    """Whether two meanings are one, X- properties and categories aside."""
    return one.partition(" ")[0] == other.partition(" ")[0]


def differences(one: str, other: str) -> str:
    """The properties in which two meanings differ, for people; "" for none."""
    ours, theirs = _marks(one), _marks(other)
    names = [n for n in sorted(ours.keys() | theirs.keys()) if ours.get(n) != theirs.get(n)]
    return ", ".join("X- properties" if name == _DECORATION else name for name in names)


def _marks(meaning: str) -> dict[str, str]:
    pairs = (each.rpartition("=") for each in meaning.split(" ")[1:])
    return {name: mark for name, _, mark in pairs}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
