"""The verb verify, level 4: what is held, against the live source.

The source's own counts of each folder beside the catalog's, and a sample of messages and files
fetched once more. Nothing is changed, here or there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from backupd.catalog import Catalog, loads
from backupd.catalog.rows import FolderRow, ItemRow
from backupd.errors import ItemGone
from backupd.home import Home
from backupd.mirror.files import FileDraft, Mirror
from backupd.model import Account, Collection, Item, Service
from backupd.ports import Failed, Fetched, Source
from backupd.verify.likeness import likeness

SAMPLED = (Service.MAIL, Service.FILES)
"""Services whose items can be had again byte for byte."""

SAMPLE = 50
"""Items of each such service that are fetched once more."""


@dataclass(frozen=True, slots=True)
class Count:
    """A folder whose numbers differ: what we hold (and wait for), what the source counts."""

    path: str
    held: int
    counted: int


@dataclass
class SourceCheck:
    """What level 4 found for one account.

    Attributes:
        folders: how many were counted; `counts` are those that differ.
        same, alike: sampled items with the very bytes, and letters whose server wrote them anew.
        gone: sampled items that the source no longer has; the next sync says why.
    """

    address: str
    source: str
    folders: int = 0
    counts: list[Count] = field(default_factory=list)
    same: int = 0
    alike: int = 0
    differing: int = 0
    gone: int = 0
    unreadable: int = 0
    named: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether the source confirms what is held."""
        return not (self.counts or self.differing)


def verify_source(source: Source, account: Account, home: Home) -> SourceCheck:
    """Compare an account with its live source. Raises as the source does."""
    with home.reading() as catalog, tempfile.TemporaryDirectory(dir=home.folder) as drafts:
        mirror = Mirror(home.mirror_path, Path(drafts))
        check = _Check(source, account, catalog, mirror)
        for service in sorted(account.services):
            check.service(service)
    return check.result


class _Check:
    """One account on its way through."""

    def __init__(self, source: Source, account: Account, catalog: Catalog, mirror: Mirror) -> None:
        self.result = SourceCheck(account.address, account.source)
        self._source, self._account = source, account
        self._catalog, self._mirror = catalog, mirror

    def service(self, service: Service) -> None:
        """Count every collection; of mail and files, fetch some items again."""
        listed = self._source.collections(self._account, service)
        there = {each.id: each for each in listed if isinstance(each, Collection)}
        rows = self._catalog.collections(service)
        both = [(row, there[row.source_id]) for row in rows if row.source_id in there]
        for row, collection in both:
            self._count(row, collection)
        if service in SAMPLED:
            self._sample(both)

    def _count(self, row: FolderRow, collection: Collection) -> None:
        if collection.count is None:
            return
        self.result.folders += 1
        held = self._catalog.held(row.id or 0) + len(self._catalog.retries(row.id))
        if held != collection.count:
            self.result.counts.append(Count(row.path, held, collection.count))

    def _sample(self, folders: list[tuple[FolderRow, Collection]]) -> None:
        """Every so-manieth item, one folder after the other."""
        total = sum(self._catalog.held(row.id or 0) for row, _ in folders)
        step, number = max(1, total // SAMPLE), 0
        for row, collection in folders:
            chosen: dict[str, tuple[Item, ItemRow]] = {}
            for item in self._items(row):
                if number % step == 0:
                    chosen[item.source_id] = (self._as_item(row, item), item)
                number += 1
            wanted = [item for item, _ in chosen.values()]
            for answer in self._source.fetch(self._account, collection, wanted, self._mirror.draft):
                self._judge(chosen[answer.item.id][1], answer)

    def _items(self, collection: FolderRow) -> Iterator[ItemRow]:
        """Of the collection and the folders inside it."""
        for folder in [collection, *self._catalog.below(collection.path)]:
            if collection.id in {folder.id, folder.collection}:
                yield from self._catalog.items(folder=folder.id)

    def _as_item(self, collection: FolderRow, row: ItemRow) -> Item:
        facts = loads(row.facts)
        if row.service is not Service.FILES:
            return Item(row.source_id, facts)
        folder = self._catalog.folder(row.folder)
        inside = folder.source_id if folder.id != collection.id else None
        return Item(row.source_id, facts, inside, row.name)

    def _judge(self, row: ItemRow, answer: Fetched | Failed) -> None:
        if isinstance(answer, Failed):
            gone = isinstance(answer.error, ItemGone)
            self.result.gone += gone
            self.result.unreadable += not gone
            return
        path = f"{self._catalog.folder(row.folder).path}/{row.name}"
        draft = cast("FileDraft", answer.draft)  # the landing is the mirror's
        draft.close()
        if draft.sha256 == row.sha256:
            self.result.same += 1
        elif row.service is Service.MAIL and self._alike(path, Path(draft.path)):
            self.result.alike += 1
        else:
            self.result.differing += 1
            self.result.named.append(path)
        draft.discard()

    def _alike(self, path: str, other: Path) -> bool:
        with self._mirror.absolute(path).open("rb") as ours, other.open("rb") as theirs:
            return likeness(ours) == likeness(theirs)
