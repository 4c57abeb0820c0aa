"""Where items should lie, as streams in the order of restic's trees, and two such streams compared.

A tree lists the names of a folder by their bytes, and goes into a folder where its name stands. Both
sides come in that order, so that a million items are compared in the memory of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from backupd.catalog import Catalog
from backupd.errors import IntegrityError
from backupd.mirror.tree import INDEX_ROOT
from backupd.model import Service
from backupd.report.merkle import Tree, leaf

MAIL_LIKE = ("mail/", "calendar/", "contacts/")
"""Where index files lie beside the items."""


@dataclass(frozen=True, slots=True)
class Place:
    """An item as it is recorded: its path in the mirror, and what must lie there."""

    path: str
    size: int
    sha256: str
    key: str
    collection: str


class Located(Protocol):
    """Anything with a path."""

    @property
    def path(self) -> str:
        """With `/`, from the top of the mirror."""
        ...


L = TypeVar("L", bound=Located)


def order(path: str) -> bytes:
    """A key that sorts paths as restic's trees do."""
    return path.encode("utf-8", "surrogatepass").replace(b"/", b"\1")


def in_catalog(catalog: Catalog) -> Iterator[Place]:
    """Every item of the catalog."""
    for row in catalog.places():
        yield Place(*row)


def in_index(root: Path) -> Iterator[Place]:
    """Every item that the index files below `root` describe: the snapshot's own word."""
    collections = _collections(root)
    for service in sorted(Service):
        yield from _inside(root, service.value, collections)


def root_over(places: Iterable[Place], scratch: Path) -> str:
    """The Merkle root over items; see `backupd.report.merkle`."""
    with Tree(scratch) as tree:
        for each in places:
            tree.add(leaf(each.path, each.collection, each.key, each.sha256))
        return tree.root()


def is_ours(path: str) -> bool:
    """Whether a file of the mirror describes items instead of being one."""
    if path in {"account.json", "README.txt"} or path.startswith(f"{INDEX_ROOT}/"):
        return True
    return path.startswith(MAIL_LIKE) and path.endswith("/index.jsonl")


def joined(
    recorded: Iterable[Place], found: Iterable[L]
) -> Iterator[tuple[Place | None, L | None]]:
    """Pairs of what is recorded and what was found at the same path; one side is None without the other.

    What was found must be read before the next pair is asked for.
    """
    left, right = iter(recorded), iter(found)
    one, two = next(left, None), next(right, None)
    while one is not None or two is not None:
        before = one is not None and (two is None or order(one.path) < order(two.path))
        after = two is not None and (one is None or order(two.path) < order(one.path))
        yield (None if after else one), (None if before else two)
        one = one if after else next(left, None)
        two = two if before else next(right, None)


def _collections(root: Path) -> frozenset[str]:
    try:
        described = json.loads((root / "account.json").read_text(encoding="utf-8"))
        return frozenset(str(each["path"]) for each in described["collections"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise IntegrityError(
            "The snapshot holds no account.json that can be read: nothing in it says what it holds.",
            hint="Look at it with `backupd ls --snapshot`; `backupd repair` makes a new one from the mirror.",
            reason="undescribed",
        ) from error


def _inside(root: Path, folder: str, collections: frozenset[str]) -> Iterator[Place]:
    """The items of a folder and of those in it, by the bytes of their names."""
    described = root / _described_in(folder)
    lines = _lines(described / "index.jsonl")
    folders = set()
    if described.is_dir():
        folders = {each.name for each in described.iterdir() if each.is_dir()} - {".backupd"}
    for name in sorted({*lines, *folders}, key=order):
        path = f"{folder}/{name}"
        if name in lines and "sha256" in lines[name]:
            line = lines[name]
            collection = _collection_of(path, collections)
            yield Place(path, line["size"], line["sha256"], line["key"], collection)
        if name in folders:
            yield from _inside(root, path, collections)


def _described_in(folder: str) -> str:
    return INDEX_ROOT + folder.removeprefix("files") if folder.startswith("files") else folder


def _collection_of(path: str, collections: frozenset[str]) -> str:
    while path and path not in collections:
        path = path.rpartition("/")[0]
    return path


def _lines(index: Path) -> dict[str, Any]:
    """Raises ValueError for a line that is no JSON."""
    if not index.is_file():
        return {}
    with index.open(encoding="utf-8", errors="surrogateescape") as lines:
        return {str(line["file"]): line for line in map(json.loads, lines)}
