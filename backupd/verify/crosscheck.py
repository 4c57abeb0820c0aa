"""The same mailbox seen in two ways: what one source holds and the other does not.

Graph leaves messages out of its listings now and then, IMAP servers of their folders; the two
fail differently. Both mirrors are at hand, so the comparison costs no request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from backupd.catalog import Catalog, loads
from backupd.catalog.rows import FolderRow, ItemRow
from backupd.home import Home
from backupd.model import Service
from backupd.verify.likeness import likeness

Label = tuple[str, ...]
"""A folder by its path, top first: the well-known word where there is one, else the name as compared."""

MOST_NAMED = 100
"""Differences that are named; all are counted."""

SAMPLE = 200
"""Letters whose content is compared."""


@dataclass
class FolderCheck:
    """One folder in both mirrors: how many each holds, and how many only one of them."""

    label: str
    counts: tuple[int, int]
    only_first: int = 0
    only_second: int = 0


@dataclass
class CrossCheck:
    """Two ways to one mailbox.

    Attributes:
        compared, differing: letters of the sample whose content was looked at, and was not the same.
        named: the differences, for people: `only in NAME: folder: subject`, at most `MOST_NAMED`.
    """

    address: str
    first: str
    second: str
    folders: list[FolderCheck] = field(default_factory=list)
    compared: int = 0
    differing: int = 0
    named: list[str] = field(default_factory=list)

    @property
    def agree(self) -> bool:
        """Whether neither sees anything that the other does not."""
        return not (self.differing or any(each.only_first or each.only_second for each in self.folders))  # fmt: skip

    def name(self, what: str) -> None:
        """Note a difference."""
        if len(self.named) < MOST_NAMED:
            self.named.append(what)


def crosscheck(first: Home, second: Home) -> CrossCheck:
    """Compare the mail of two homes of one mailbox, folder by folder."""
    result = CrossCheck(first.address, first.folder.parent.name, second.folder.parent.name)
    with first.reading() as one, second.reading() as two:
        here, there = _folders(one), _folders(two)
        step = max(1, sum(one.held(each.id or 0) for each in here.values()) // SAMPLE)
        for label in sorted({*here, *there}):
            _compare(result, label, (one, here.get(label)), (two, there.get(label)), (first, second), step)  # fmt: skip
    return result


def _folders(catalog: Catalog) -> dict[Label, FolderRow]:
    rows = catalog.collections(Service.MAIL)
    by_id = {row.id: row for row in rows}
    return {_label(row, by_id): row for row in rows}


def _label(row: FolderRow, by_id: dict[int | None, FolderRow]) -> Label:
    word = row.special or row.name.casefold()
    above = by_id.get(row.parent)
    return (*_label(above, by_id), word) if above and not row.special else (word,)


Side = tuple[Catalog, FolderRow | None]


def _compare(
    result: CrossCheck, label: Label, one: Side, two: Side, homes: tuple[Home, Home], step: int
) -> None:
    """Letters are matched by Message-ID (or what stands for it), each as often as it is held."""
    here, there = _letters(one), _letters(two)
    word = "/".join(label)
    told = FolderCheck(word, (here.total(), there.total()))
    told.only_first, told.only_second = (here - there).total(), (there - here).total()
    result.folders.append(told)
    if told.only_first or told.only_second:
        _name(result, word, one, here - there, result.first)
        _name(result, word, two, there - here, result.second)
    if one[1] and two[1]:
        _look(result, (one[0], one[1]), (two[0], two[1]), homes, step)


def _letters(side: Side) -> Counter[int]:
    catalog, row = side
    return Counter(hash(_key(item)) for item in _items(catalog, row)) if row else Counter()


def _items(catalog: Catalog, row: FolderRow) -> Iterator[ItemRow]:
    return catalog.items(folder=row.id)


def _key(item: ItemRow) -> str:
    about = loads(item.about)
    return str(about.get("message_id") or f"{about.get('subject')} {about.get('sent') or about.get('received')}")  # fmt: skip


def _name(result: CrossCheck, word: str, side: Side, wanted: Counter[int], who: str) -> None:
    catalog, row = side
    for item in _items(catalog, row) if row and wanted else ():
        if wanted[hash(_key(item))] > 0:
            wanted[hash(_key(item))] -= 1
            result.name(f"only in {who}: {word}: {loads(item.about).get('subject') or 'without subject'}")  # fmt: skip


def _look(
    result: CrossCheck,
    one: tuple[Catalog, FolderRow],
    two: tuple[Catalog, FolderRow],
    homes: tuple[Home, Home],
    step: int,
) -> None:
    """Every `step`-th letter that both hold, by its content."""
    chosen = {_key(item): item for number, item in enumerate(_items(*one)) if number % step == 0}
    for item in _items(*two) if chosen else ():
        match = chosen.pop(_key(item), None)
        if match is None:
            continue
        result.compared += 1
        if match.sha256 != item.sha256 and _said(homes[0], one[1], match) != _said(homes[1], two[1], item):  # fmt: skip
            result.differing += 1
            result.name(f"differs: {one[1].path}: {loads(item.about).get('subject') or 'without subject'}")  # fmt: skip


def _said(home: Home, row: FolderRow, item: ItemRow) -> str:
    with (home.mirror_path / row.path / item.name).open("rb") as file:
        return likeness(file)
