"""Level 1 on this machine: the mirror against the catalog.

Every folder is compared both ways: names and sizes, the index file byte for byte, and of a rolling
share the SHA-256 of the items. Syncs go on meanwhile: what looks wrong is looked at once more
with the account's lock held, so that a run under way is never taken for damage.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from backupd.catalog import Catalog
from backupd.catalog.rows import FolderRow
from backupd.errors import BackupdError, IntegrityError, TransientError
from backupd.home import Home
from backupd.mirror.files import Mirror
from backupd.mirror.index import collection_entry, index_lines
from backupd.mirror.tree import INDEX_ROOT, index_path
from backupd.model import Service
from backupd.sync.recovery import recover
from backupd.verify import LISTING
from backupd.verify.findings import Flaw, Verification
from backupd.verify.record import Record
from backupd.verify.rolling import Pace, Unit, covered, due, keep
from backupd.verify.vaults import AHEAD, CLOCK

PATIENCE = 300.0
"""Seconds to wait for a run that is at the account."""

REPAIR = "`backupd repair` puts it right from a vault."
DISK = "Is the disk failing? `dmesg` says so; the vaults hold everything up to their last snapshot."
STRAY = "Nobody but backupd should write here: look at it, then move it away."
LASTING = ("service", "path", "name", "id", "items", "bytes", "sha256")
TOP = {"account.json", "README.txt"}


def verify_mirror(home: Home, record: Record, pace: Pace) -> Verification:
    """Compare the mirror of an account with its catalog; what goes wrong is in the answer."""
    found = Verification(home.address, home.folder.parent.name, LISTING)
    began = time.monotonic()
    latest = max((each.began for each in record.last.values()), default=0.0)
    if latest > pace.now + AHEAD:
        what = "The last verification was made at a time that is still to come by this machine's clock."
        found.note(Flaw("clock", found.source, what, CLOCK, damage=False))
    try:
        _compare(home, record.times("mirror"), pace, found)
    except BackupdError as error:
        found.broken_off(error)
    found.seconds = time.monotonic() - began
    return found


def _compare(home: Home, times: dict[str, float], pace: Pace, found: Verification) -> None:
    with home.reading() as catalog:
        if not catalog.sound():
            raise IntegrityError(
                f"{catalog.path} is damaged.",
                hint="`backupd repair` writes it anew from the mirror.",
                reason="catalog",
            )
        units = [Unit(*each) for each in catalog.sizes()]
        look = Look(home, catalog, {each.path for each in due(units, times, pace)}, pace.beat)
        suspects = [each for each in look.units() if look.flaws(*each)]
        suspicious = suspects or any(look.strays()) or look.lost() or look.described()
        found.of_items, found.of_size = catalog.totals()
    if suspicious:
        _look_again(home, look.chosen, suspects, found)
    found.items, found.size = look.hashed, look.hashed_size
    keep(times, units)
    times.update(dict.fromkeys(look.chosen, pace.now))
    found.share = covered(units, times, pace)


def _look_again(
    home: Home, chosen: set[str], suspects: list[tuple[int, str]], found: Verification
) -> None:
    """Now with nobody else at the account."""
    try:
        with home.writing(patience=PATIENCE) as catalog:
            recover(catalog, home.mirror())
            look = Look(home, catalog, chosen)
            for folder, shard in suspects:
                for flaw in look.flaws(folder, shard):
                    found.note(flaw)
            for flaw in (*look.strays(), *look.lost(), *look.described()):
                found.note(flaw)
    except TransientError as error:
        found.broken_off(error)


class Look:
    """One look at a mirror; everything it says may be overtaken by a sync, unless the lock is held."""

    def __init__(
        self,
        home: Home,
        catalog: Catalog,
        chosen: set[str],
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.chosen, self._beat = chosen, beat
        self.hashed = self.hashed_size = 0
        self._home, self._catalog = home, catalog
        self._mirror = Mirror(home.mirror_path, home.folder / "drafts")

    def units(self) -> Iterator[tuple[int, str]]:
        """Every folder that items lie in, and month."""
        return self._catalog.shards()

    def flaws(self, folder_id: int, shard: str) -> list[Flaw]:
        """What is wrong in one folder."""
        try:
            folder = self._catalog.folder(folder_id)
            place = f"{folder.path}/{shard}" if shard else folder.path
            there = _files(self._mirror.absolute(place))
            flaws = [*self._items(folder, shard, place, there), *self.index(folder, shard)]
        except IntegrityError as error:
            return [Flaw("catalog", f"folder {folder_id}", str(error), error.hint)]
        except OSError as error:
            path = error.filename or f"folder {folder_id}"
            return [Flaw("unreadable", path, f"{path} cannot be read: {error.strerror}.", DISK)]
        if folder.service is not Service.FILES:
            there.pop("index.jsonl", None)
        return flaws + [_stray(f"{place}/{name}") for name in sorted(there)]

    def _items(
        self, folder: FolderRow, shard: str, place: str, there: dict[str, int]
    ) -> Iterator[Flaw]:
        """Every item in turn; what is accounted for is taken out of `there`."""
        deep = place in self.chosen
        for row in self._catalog.items(folder=folder.id, shard=shard):
            path = f"{folder.path}/{row.name}"
            self._beat()
            size = there.pop(row.name.rpartition("/")[2], None)
            if size is None:
                yield Flaw("missing", path, f"{path} is missing from the mirror.", REPAIR)
            elif size != row.size:
                what = f"{path} has {size} bytes; {row.size} were fetched."
                yield Flaw("altered", path, what, REPAIR)
            elif deep:
                self.hashed, self.hashed_size = self.hashed + 1, self.hashed_size + size
                yield from self._content(path, row.sha256)

    def _content(self, path: str, sha256: str) -> Iterator[Flaw]:
        if self._mirror.sha256(path) != sha256:
            what = f"{path} does not hold the bytes that were fetched."
            yield Flaw("altered", path, what, REPAIR)

    def index(self, folder: FolderRow, shard: str) -> Iterator[Flaw]:
        """Whether the index file of a folder (and month) says what the catalog does."""
        path = index_path(folder, shard)
        try:
            with self._mirror.absolute(path).open("rb") as held:
                lines = index_lines(self._catalog, folder, shard)
                same = all(_alike(line, next(held, b"")) for line in lines) and not held.read(1)
        except FileNotFoundError:
            yield Flaw("index-missing", path, f"{path} is missing from the mirror.", REPAIR)
            return
        if not same:
            what = f"{path} and the catalog say different things: one of them was altered."
            yield Flaw("index", path, what, REPAIR)

    def strays(self) -> Iterator[Flaw]:
        """Files in folders of which the catalog names no item."""
        root = self._home.mirror_path
        for place, folders, files in os.walk(root):
            folders.sort()
            inside = Path(place).relative_to(root).as_posix()
            if inside == ".":
                strange = sorted(set(files) - TOP)
            elif inside == INDEX_ROOT or inside.startswith(f"{INDEX_ROOT}/"):
                strange = sorted(set(files) - {"index.jsonl"})
            else:
                strange = [] if not files or self._known(inside) else sorted(files)
            yield from (_stray(name if inside == "." else f"{inside}/{name}") for name in strange)

    def _known(self, place: str) -> bool:
        """Whether `flaws` has looked at a folder."""
        folder = self._catalog.folder_at(place)
        if folder is not None and folder.service is not Service.MAIL:
            return self._catalog.has_shard(folder, "")
        above, _, month = place.rpartition("/")
        folder = self._catalog.folder_at(above)
        return folder is not None and self._catalog.has_shard(folder, month)

    def lost(self) -> list[Flaw]:
        """Items whose folder the catalog does not know."""
        total = self._catalog.totals()[0]
        placed = sum(items for _, items, _ in self._catalog.sizes())
        if placed == total:
            return []
        what = f"The catalog holds {total - placed} items in folders that it does not know."
        return [Flaw("catalog", self._catalog.path.name, what, REPAIR)]

    def described(self) -> list[Flaw]:
        """Whether `account.json` says of every collection what the catalog does, where it is up to date."""
        revision = str(self._catalog.revision)
        made = self._catalog.snapshot_revisions()
        if revision not in made:
            return []  # it is written anew before the next snapshot
        try:
            text = (self._home.mirror_path / "account.json").read_text(encoding="utf-8")
            told = {each["path"]: each for each in json.loads(text)["collections"]}
        except (OSError, ValueError, TypeError, KeyError):
            return [Flaw("index-missing", "account.json", "account.json cannot be read.", REPAIR)]
        rows = [
            collection_entry(self._catalog, row) for row in self._catalog.collections(gone=True)
        ]
        same = len(told) == len(rows) and all(_same(each, told.get(each["path"])) for each in rows)
        what = "account.json and the catalog say different things: one of them was altered."
        return [] if same else [Flaw("index", "account.json", what, REPAIR)]


def _alike(line: str, held: bytes) -> bool:
    """Whether a line says the same, also when another version wrote its words in another order."""
    if line.encode("utf-8", "surrogatepass") + b"\n" == held:
        return True
    try:
        return bool(json.loads(line) == json.loads(held))
    except ValueError:
        return False


def _same(entry: dict[str, Any], told: dict[str, Any] | None) -> bool:
    """Whether what cannot change without a new snapshot is the same."""
    return told is not None and all(entry[word] == told.get(word) for word in LASTING)


def _files(place: Path) -> dict[str, int]:
    """The names in a folder that are no folders, with their sizes; -1 for what is no plain file."""
    try:
        with os.scandir(place) as found:
            return {
                each.name: _size(each) for each in found if not each.is_dir(follow_symlinks=False)
            }
    except FileNotFoundError:
        return {}


def _size(entry: os.DirEntry[str]) -> int:
    return entry.stat().st_size if entry.is_file(follow_symlinks=False) else -1


def _stray(path: str) -> Flaw:
    return Flaw(
        "added", path, f"{path} lies in the mirror and the catalog does not know it.", STRAY
    )
