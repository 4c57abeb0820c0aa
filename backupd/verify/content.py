"""Level 3: bytes out of a vault against the SHA-256 that was taken when they were fetched.

Over a rolling period everything is read, in as few streams as possible: a folder (or a month of mail)
that is small enough is one; files that lie directly in a larger one are read one by one.
"""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, cast

from backupd.errors import BackupdError, IntegrityError, VaultError
from backupd.home import Home
from backupd.mirror.files import BUFFER, hash_file
from backupd.vaults.vault import Vault
from backupd.verify import CONTENT, PACKS
from backupd.verify.findings import Flaw, Verification
from backupd.verify.packs import PATIENT
from backupd.verify.places import Place, in_index, is_ours, joined, order, root_over
from backupd.verify.record import Record
from backupd.verify.rolling import LEAST, Pace, Unit, covered, due, keep
from backupd.verify.vaults import Recorded, Subject, must_exist, recorded, subject

SINGLES = 32
"""Files directly in a large folder that are read one by one."""

PATIENCE = 3600.0
"""Seconds to wait for a snapshot or prune that is at the vault."""

STREAMS = 64
"""Streams that one verification starts at most, however little they hold: each is a restic of its own."""

HEAL = "`backupd repair` makes a new snapshot of what the mirror has."

Sizes = dict[str, tuple[int, int]]
"""Items and bytes by folder."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a stream; its bytes must be read before the next is asked for."""

    path: str
    content: IO[bytes]


def verify_content(
    home: Home, vault: Vault, record: Record, pace: Pace, scratch: Path
) -> Verification:
    """Read what is due out of the newest snapshot; what goes wrong is in the answer."""
    found = Verification(home.address, home.folder.parent.name, CONTENT, vault.storage)
    began = time.monotonic()
    try:
        with home.reading() as catalog:
            chosen = subject(home, catalog, vault, record, found)
            if chosen is not None and _readable(vault, record, found):
                with recorded(chosen, catalog, scratch) as places:
                    _read(home, chosen, places, record, pace, found)
                    _described(chosen, places, scratch, found)
    except BackupdError as error:
        found.broken_off(error)
    found.seconds = time.monotonic() - began
    return found


def _readable(vault: Vault, record: Record, found: Verification) -> bool:
    """Whether reading comes to its end: an old restic waits a quarter of an hour for each missing pack."""
    packs = record.last.get(f"{PACKS}/{vault.storage}")
    if packs is None or not packs.damaged or vault.repository.restic.version >= PATIENT:
        return True
    what = f"Packs in {vault.storage} are damaged or missing (level 2): items were not read before that is repaired."
    found.note(Flaw("packs", vault.storage, what, HEAL, damage=False))
    return False


def _read(
    home: Home, chosen: Subject, places: Recorded, record: Record, pace: Pace, found: Verification
) -> None:
    times = record.times(f"content/{chosen.vault.storage}")
    sizes = _sizes(places())
    total = sum(size for _, size in sizes.values())
    units = divided(sizes, max(LEAST, int(total * pace.portion(times, total))), places())
    now = due(units, times, pace)[: None if pace.everything else STREAMS]
    work = _Work(chosen, {each.path: each for each in now}, pace.beat)
    work.compare(places())
    if work.flawed:
        work = _again(home, chosen, work, places())
    work.tell(found)
    found.of_items, found.of_size = sum(items for items, _ in sizes.values()), total
    keep(times, units)
    times.update({each.path: pace.now for each in now if each.path not in work.flawed})
    found.share = covered(units, times, pace)
    found.facts.update(by=places.by, streams=len(now))


def _again(home: Home, chosen: Subject, first: _Work, places: Iterator[Place]) -> _Work:
    """What looked wrong, once more while the vault stands still: a prune may have moved it under us."""
    units = {path: unit for path, unit in first.units.items() if path in first.flawed}
    second = _Work(chosen, units or first.units, first.beat)
    with home.at_vault(chosen.vault.storage, patience=PATIENCE):
        second.compare(places)
    second.read = first.read | second.read
    return second


def _described(chosen: Subject, places: Recorded, scratch: Path, found: Verification) -> None:
    """Whether the snapshot's own index says what the catalog does: it must be enough without any catalog."""
    if places.by != "catalog":
        return
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    label = f"snapshot {chosen.snapshot.short_id} in {chosen.vault.storage}"
    try:
        with TemporaryDirectory(dir=scratch, prefix="verify-") as folder:
            chosen.vault.extract(chosen.snapshot, Path(folder), ["index.jsonl", "account.json"])
            same = root_over(in_index(Path(folder)), scratch) == root_over(places(), scratch)
    except (VaultError, IntegrityError, ValueError) as error:
        must_exist(chosen.vault)
        found.note(Flaw("unreadable", "index.jsonl", f"What {label} says of itself cannot be read: {error}", HEAL))  # fmt: skip
        return
    if not same:
        what = f"The index files in {label} say something else than the catalog."
        found.note(Flaw("index", "index.jsonl", what, HEAL))


class _Work:
    """Units that are streamed one after the other, in the order of the tree.

    Attributes:
        read: items and bytes that came out, by unit.
        flawed: units with a flaw.
    """

    def __init__(self, chosen: Subject, units: dict[str, Unit], beat: Callable[[], None]) -> None:
        self.units, self.beat = units, beat
        self.read: Sizes = {}
        self.flawed: set[str] = set()
        self._chosen = chosen
        self._flaws = Verification(chosen.vault.address, "", CONTENT)

    def tell(self, found: Verification) -> None:
        """Hand over what was found."""
        for flaw in self._flaws.flaws:
            found.note(flaw)
        found.flawed += self._flaws.flawed - len(self._flaws.flaws)
        found.items = sum(items for items, _ in self.read.values())
        found.size = sum(size for _, size in self.read.values())

    def compare(self, places: Iterator[Place]) -> None:
        """Every item of them against what is recorded. Raises VaultError when the storage is gone."""
        wanted = (each for each in places if self._unit(each.path))
        for place, member in joined(wanted, self._members()):
            self.beat()
            if member is None and place is not None:
                what = f"{place.path} does not come out of {self._label}."
                self._note(Flaw("missing", place.path, what, HEAL))
            elif place is not None and member is not None:
                self._judge(place, member)
            elif member is not None and not is_ours(member.path):
                what = f"{member.path} comes out of {self._label}, and nothing that was recorded speaks of it."
                self._note(Flaw("added", member.path, what))

    def _judge(self, place: Place, member: Member) -> None:
        try:
            sha256 = hash_file(member.content)
        except (tarfile.TarError, EOFError, VaultError):
            self._note(Flaw("unreadable", place.path, f"{place.path} cannot be read to its end out of {self._label}.", HEAL))  # fmt: skip
            return
        unit = self._unit(place.path)
        items, size = self.read.get(unit, (0, 0))
        self.read[unit] = (items + 1, size + place.size)
        if sha256 != place.sha256:
            what = f"{place.path} comes out of {self._label} with other bytes than were fetched."
            self._note(Flaw("altered", place.path, what, HEAL))

    def _members(self) -> Iterator[Member]:
        for path in sorted(self.units, key=order):
            try:
                yield from self._single(path) if self.units[path].single else self._stream(path)
            except (VaultError, tarfile.TarError, EOFError) as error:
                must_exist(self._chosen.vault)
                what = f"{path} cannot be read to its end out of {self._label}: {error}"
                self._note(Flaw("unreadable", path, what, HEAL))

    def _stream(self, path: str) -> Iterator[Member]:
        with (
            self._chosen.vault.tar(self._chosen.snapshot, f"/{path}") as out,
            tarfile.open(fileobj=out, mode="r|", bufsize=BUFFER) as tar,
        ):
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                cast("Any", tar).members = []  # else it remembers every one
                name = member.name.strip("/")
                if content is not None and not is_ours(name):
                    yield Member(name, content)
            while out.read(BUFFER):  # the end of the archive is padded
                pass

    def _single(self, path: str) -> Iterator[Member]:
        with self._chosen.vault.content(self._chosen.snapshot, path) as content:
            yield Member(path, content)

    def _unit(self, path: str) -> str:
        parts = path.split("/")
        above = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return next((each for each in above if each in self.units), "")

    def _note(self, flaw: Flaw) -> None:
        self.flawed.add(self._unit(flaw.where))
        self._flaws.note(flaw)

    @property
    def _label(self) -> str:
        return f"snapshot {self._chosen.snapshot.short_id} in {self._chosen.vault.storage}"


def divided(sizes: Sizes, limit: int, places: Iterator[Place]) -> list[Unit]:
    """What is read in one stream each: the largest folders of at most `limit` bytes.

    Files directly in a larger folder that has folders in it are each a unit of their own, unless
    they are many: then that folder is one, however large.
    """
    whole, children = _summed(sizes)
    units: list[Unit] = []
    split: set[str] = set()
    waiting = sorted(path for path in whole if "/" not in path)
    while waiting:
        path = waiting.pop()
        items, size = whole[path]
        if size <= limit or path not in children or sizes.get(path, (0, 0))[0] > SINGLES:
            units.append(Unit(path, items, size))
            continue
        waiting.extend(children[path])
        split.update({path} if path in sizes else ())
    loose = (each for each in places if each.path.rpartition("/")[0] in split) if split else ()
    return units + [Unit(each.path, 1, each.size, single=True) for each in loose]


def _summed(sizes: Sizes) -> tuple[Sizes, dict[str, set[str]]]:
    """Items and bytes at and below every folder, and which folders lie in it."""
    whole: Sizes = {}
    children: dict[str, set[str]] = {}
    for path, (items, size) in sizes.items():
        inner, here = "", path
        while here:
            had = whole.get(here, (0, 0))
            whole[here] = (had[0] + items, had[1] + size)
            if inner:
                children.setdefault(here, set()).add(inner)
            inner, here = here, here.rpartition("/")[0]
    return whole, children


def _sizes(places: Iterator[Place]) -> Sizes:
    """Items and bytes directly in every folder."""
    sizes: Sizes = {}
    for place in places:
        folder = place.path.rpartition("/")[0]
        items, size = sizes.get(folder, (0, 0))
        sizes[folder] = (items + 1, size + place.size)
    return sizes
