"""What looks new and is not: found by content among what is held and no longer where it was.

For services whose ids do not last (see `Source.recognises`). Three things look alike there: a server that numbered a
folder anew, a message that moved, and a copy. Only of the first two has the old place been left, and a row is
adopted once; a copy is fetched like any new item.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection as Container
from collections.abc import Iterable, Mapping, Sequence

from backupd.catalog import Catalog
from backupd.catalog.rows import GONE, HELD, MISSING, FolderRow, ItemRow, id_of
from backupd.model import Account, Item
from backupd.ports import Source
from backupd.sync.removal import last_seen


class Adoption:
    """Finds the rows of items that have a new id."""

    def __init__(self, source: Source, account: Account, catalog: Catalog) -> None:
        self._source, self._account, self._catalog = source, account, catalog

    def rows(
        self,
        row: FolderRow,
        items: Sequence[Item],
        taken: Container[str],
        same_key: Mapping[str, ItemRow],
    ) -> dict[str, ItemRow]:
        """Item id → what is held of it, for those of `items` whose content has left its old place.

        Args:
            taken: ids of the collection that this page lists as they were.
            same_key: by item id, the row that has this id for its key: a folder may get back a name it had before, and
                then its messages are those of former times.
        """
        if not items:
            return {}
        named = {item.id: self._source.version(row.service, item.facts) for item in items}
        versions = {item: version for item, version in named.items() if version}
        alike = self._catalog.items_by_version(row.service, sorted(set(versions.values())))
        held = {each.key: each for each in (*same_key.values(), *alike)}
        left = {each.key: each for each in self._left(row, held.values(), taken)}
        found = {item: left.pop(each.key) for item, each in same_key.items() if each.key in left}
        free: dict[str, list[ItemRow]] = defaultdict(list)
        for each in left.values():
            free[each.version].append(each)
        for item, version in versions.items():
            if item not in found and free[version]:
                found[item] = free[version].pop(0)
        return found

    def _left(
        self, row: FolderRow, held: Iterable[ItemRow], taken: Container[str]
    ) -> list[ItemRow]:
        """Those that are not where they were; what is known without asking comes first."""
        left: list[ItemRow] = []
        elsewhere: dict[str, ItemRow] = {}
        for each in held:
            here = each.collection == id_of(row)
            if each.state in {MISSING, GONE} or (here and _unlisted(row, each, taken)):
                left.append(each)
            elif each.state == HELD and not here:
                elsewhere[each.key] = each
        if elsewhere:
            left += self._moved(row, elsewhere)
        return sorted(left, key=lambda each: each.collection != id_of(row))

    def _moved(self, row: FolderRow, held: dict[str, ItemRow]) -> list[ItemRow]:
        """Those that another collection holds no longer; what is unknown stays there."""
        asked = {key: last_seen(each) for key, each in held.items()}
        where = self._source.locate(self._account, row.service, asked)
        return [
            held[key]
            for key, place in where.items()
            if key in held and place != self._catalog.folder(held[key].collection).source_id
        ]


def _unlisted(row: FolderRow, held: ItemRow, taken: Container[str]) -> bool:
    """A full listing is under way and has not come to this id; those before it have been seen."""
    return not row.complete and held.round < row.round and held.source_id not in taken
