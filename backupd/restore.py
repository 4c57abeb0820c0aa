"""The verb restore: vault or mirror → target, and the proof that everything arrived.

Every item that the snapshot names ends as restored, repaired, present, quarantined, damaged or
unsupported; what the target holds afterwards is read back and compared. A run that is killed is
gone on with by the next: the ledger says what is there already, and where it cannot know, the
target is asked.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from backupd.contents import Selection
from backupd.errors import BackupdError, IntegrityError, ItemError, UserError
from backupd.ledger import DONE, Entry, Ledger
from backupd.mirror import BUFFER
from backupd.model import Service
from backupd.ports import (
    DAMAGED,
    PRESENT,
    QUARANTINED,
    REPAIRED,
    Claim,
    Finding,
    Parcel,
    Proof,
    Put,
    Reader,
    Shelf,
    Target,
)

MOST_PROBLEMS = 1000
"""Problems and repairs kept for people; all are counted, and the items file lists every one."""

READ_ALL = 10_000_000_000
"""Bytes up to which everything is read back; of more, a sample of about this size."""

STREAM_FROM = 50
"""Quarantined items from which on they are fetched by one stream, not one by one."""


class Held(Protocol):
    """What can be restored: see `contents.MirrorContents` and `contents.VaultContents`."""

    @property
    def address(self) -> str:
        """The account's address."""
        ...

    def shelves(self, selection: Selection) -> list[Shelf]:
        """The collections that are meant, the most urgent first."""
        ...

    def shelf_of(self, path: str) -> Shelf | None:
        """The collection an item lies in."""
        ...

    def parcels(self, shelf: Shelf, selection: Selection) -> Iterator[Parcel]:
        """The items of a collection that are meant, without their bytes."""
        ...

    def walk(self, selection: Selection) -> Iterator[tuple[Parcel, Reader]]:
        """Every item that is meant, with its bytes."""
        ...

    def open(self, parcel: Parcel) -> AbstractContextManager[Reader]:
        """The bytes of one item."""
        ...


@dataclass(frozen=True, slots=True)
class Problem:
    """An item that is not at the target as it was: its `state`, and why."""

    path: str
    state: str
    why: str


@dataclass
class Tally:
    """What became of one collection.

    Attributes:
        states: items by how they ended; `missing` ones the snapshot names but did not hand out.
        proofs: items read back, by what was found: `same`, `changed`, `missing`.
        gone: items of an earlier run that are no longer at the target.
    """

    service: Service
    name: str
    expected: int = 0
    size: int = 0
    states: Counter[str] = field(default_factory=Counter)
    proofs: Counter[str] = field(default_factory=Counter)
    gone: int = 0


@dataclass
class RestoreResult:
    """What a restore did.

    Attributes:
        expected: items that the snapshot names, by service.
        states: how many ended as what.
        proven: how many are known to be at the target as they were put.
        unsupported: items of services that the target does not take.
        gone: items of an earlier restore that somebody removed from the target since.
        seconds: of the whole run; `proof_seconds` of reading back alone.
    """

    address: str
    target: str = ""
    account: str = ""
    began: float = field(default_factory=time.time)
    expected: Counter[Service] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    services: Counter[Service] = field(default_factory=Counter)
    unsupported: Counter[Service] = field(default_factory=Counter)
    collections: list[Tally] = field(default_factory=list)
    proven: int = 0
    sampled: bool = False
    size: int = 0
    gone: int = 0
    problems: list[Problem] = field(default_factory=list)
    repairs: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    quarantine: str = ""
    report: str = ""
    seconds: float = 0.0
    proof_seconds: float = 0.0
    error: BackupdError | None = None

    @property
    def missing(self) -> int:
        """Items the snapshot names and storage never handed out."""
        return self.states["missing"]

    @property
    def unproven(self) -> int:
        """Items that are said to be at the target and were not read back as such."""
        return sum(self.states[state] for state in DONE) - self.proven

    @property
    def exit_code(self) -> int:
        """The error that ended it; 5 when bytes are not what they were; 3 for items left out; else 0."""
        if self.error:
            return self.error.exit_code
        if self.states[DAMAGED] or self.missing or self.unproven:
            return IntegrityError.exit_code
        left_out = self.states[QUARANTINED] or self.unsupported or self.gone
        return ItemError.exit_code if left_out else 0

    def problem(self, path: str, state: str, why: str) -> None:
        """Note something that a person should see."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(path, state, why))


class Checked:
    """A reader whose end raises IntegrityError when the bytes are not those that were fetched."""

    def __init__(self, parcel: Parcel, inner: Reader) -> None:
        self._parcel = parcel
        self._inner = inner
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""
        data = self._inner.read(size)
        self._hash.update(data)
        if (not data or size < 0) and self._hash.hexdigest() != self._parcel.sha256:
            raise IntegrityError(
                f"{self._parcel.path}: the bytes in storage are not those that were fetched."
            )
        return data


Listener = Callable[[Parcel, RestoreResult], None]


@dataclass
class Restore:
    """One run of a restore; `run` does it.

    Attributes:
        quarantine: where what the target does not take is laid down as files.
        again: put back what an earlier run had put and somebody removed from the target since.
            Without it only a collection that has become empty there is filled again.
        listener: told of every item.
    """

    held: Held
    target: Target
    ledger: Ledger
    selection: Selection
    quarantine: Path
    again: bool = False
    listener: Listener | None = None

    def run(self) -> RestoreResult:
        """Put, prove, and account for every item; what ends the run early is in `error`."""
        began = time.monotonic()
        self.result = RestoreResult(self.held.address, self.target.name)
        try:
            self._put_and_prove()
        except BackupdError as error:
            self.result.error = error
        finally:
            self.ledger.commit()
        self.result.steps = list(self.target.steps())
        self.result.seconds = time.monotonic() - began
        return self.result

    def _put_and_prove(self) -> None:
        shelves = self._supported()
        self._settled = {each.path: self.ledger.settled(each.path) for each in shelves}
        self._again: set[tuple[Service, str]] = set()
        for shelf in shelves:
            self._look_back(shelf)
            self._make(shelf)
        self._put_all()
        for shelf in shelves:
            if self._settled[shelf.path] or self.selection.whole:
                self.ledger.mark(shelf.path, settled=True)
        began = time.monotonic()
        self._prove_all(shelves)
        self.result.proof_seconds = time.monotonic() - began
        self._lay_down()

    def _supported(self) -> list[Shelf]:
        """The collections that the target takes; the others are counted as unsupported."""
        self._tallies: dict[str, Tally] = {}
        chosen = []
        for shelf in self.held.shelves(self.selection):
            if shelf.service not in self.target.services:
                self.result.unsupported[shelf.service] += shelf.items
                continue
            tally = Tally(shelf.service, "/".join(shelf.names), shelf.items, shelf.size)
            self._tallies[shelf.path] = tally
            self.result.collections.append(tally)
            chosen.append(shelf)
        self.result.unsupported = +self.result.unsupported
        return chosen

    def _make(self, shelf: Shelf) -> None:
        """A collection that cannot be made costs its own items only: each will be refused with a reason."""
        try:
            self.target.make_collection(shelf)
        except ItemError as error:
            self.result.problem(shelf.path, QUARANTINED, str(error))

    # -- what earlier runs did ------------------------------------------------------------------

    def _look_back(self, shelf: Shelf) -> None:
        """Whether what an earlier run put is still there. An emptied collection is filled again."""
        if not self.ledger.holds_any(shelf.path):
            return
        there, gone = 0, []
        for proof in self.target.read_back(shelf, self._earlier(shelf)):
            if proof.state != "missing":
                there += 1
            elif self._was_seen(proof.claim.parcel):
                gone.append(proof.claim.parcel)
            else:
                self._put_again(shelf, [proof.claim.parcel])
        if self.again or not there:
            self._put_again(shelf, gone)
            return
        self._tallies[shelf.path].gone = len(gone)
        self.result.gone += len(gone)
        for parcel in gone:
            self.result.problem(
                parcel.path, "gone", "an earlier restore put it; it was removed since"
            )

    def _was_seen(self, parcel: Parcel) -> bool:
        """Whether it was ever read back: else it may never have arrived, and nobody removed it."""
        entry = self.ledger.entry(parcel)
        return entry is not None and entry.proof == "same"

    def _put_again(self, shelf: Shelf, parcels: list[Parcel]) -> None:
        if parcels:
            self._again.update((each.service, each.key) for each in parcels)
            self._settled[shelf.path] = False

    def _earlier(self, shelf: Shelf) -> Iterator[Claim]:
        for parcel in self.held.parcels(shelf, self.selection):
            entry = self.ledger.entry(parcel)
            if entry and entry.done and entry.shelf == shelf.path:
                yield Claim(parcel, entry.put, deep=False)

    # -- put ------------------------------------------------------------------------------------

    def _put_all(self) -> None:
        chosen = Selection(
            self.selection.services & self.target.services,
            self.selection.folder,
            self.selection.since,
        )
        for path, group in itertools.groupby(self.held.walk(chosen), self._shelf_path):
            shelf = self.held.shelf_of(f"{path}/.")
            if shelf is None:  # pragma: no cover - walk hands out items of collections only
                continue
            look = not self._settled[path]
            for parcel, put in self.target.put(shelf, self._fresh(shelf, group), look=look):
                self.ledger.record(parcel, path, put)
                self._count(parcel, put)

    def _shelf_path(self, pair: tuple[Parcel, Reader]) -> str:
        shelf = self.held.shelf_of(pair[0].path)
        return shelf.path if shelf else ""

    def _fresh(
        self, shelf: Shelf, group: Iterator[tuple[Parcel, Reader]]
    ) -> Iterator[tuple[Parcel, Reader]]:
        """The items that the ledger does not have; before the first, the ledger admits that it will lag."""
        told = False
        for parcel, content in group:
            entry = self.ledger.entry(parcel)
            if entry and self._is_there(entry, parcel):
                self._count(parcel, Put(PRESENT))
                continue
            if not told:
                self.ledger.mark(shelf.path, settled=False)
                told = True
            yield parcel, Checked(parcel, content)

    def _is_there(self, entry: Entry, parcel: Parcel) -> bool:
        same = entry.done and entry.sha256 == parcel.sha256
        return same and (parcel.service, parcel.key) not in self._again

    def _count(self, parcel: Parcel, put: Put) -> None:
        shelf = self.held.shelf_of(parcel.path)
        tally = self._tallies[shelf.path if shelf else ""]
        tally.states[put.state] += 1
        self.result.states[put.state] += 1
        self.result.services[parcel.service] += 1
        if put.state in DONE:
            self.result.size += parcel.size
        if put.state == REPAIRED:
            self.result.repairs.update(put.why.split("; "))
        if put.state in {QUARANTINED, DAMAGED}:
            self.result.problem(parcel.path, put.state, put.why)
        if self.listener:
            self.listener(parcel, self.result)

    # -- proof ----------------------------------------------------------------------------------

    def _prove_all(self, shelves: list[Shelf]) -> None:
        total = self.result.size
        share = min(1.0, READ_ALL / total) if total else 1.0
        self.result.sampled = share < 1
        for shelf in shelves:
            self._tallies[shelf.path].expected = 0  # counted anew: not all of it may be meant
            for proof in self.target.read_back(shelf, self._claims(shelf, share)):
                self.ledger.proven(proof)
                self._judge(shelf, proof)

    def _claims(self, shelf: Shelf, share: float) -> Iterator[Claim]:
        """What is not proven yet. What no run met, though the snapshot names it, is missing."""
        tally = self._tallies[shelf.path]
        for parcel in self.held.parcels(shelf, self.selection):
            tally.expected += 1
            self.result.expected[shelf.service] += 1
            entry = self.ledger.entry(parcel)
            if entry is None or entry.sha256 != parcel.sha256:
                tally.states["missing"] += 1
                self.result.states["missing"] += 1
                self.result.problem(parcel.path, "missing", "storage did not hand it out")
            elif entry.done and entry.proof == "same":
                tally.proofs["same"] += 1
                self.result.proven += 1
            elif entry.done:
                yield Claim(parcel, entry.put, _sampled(parcel, share))

    def _judge(self, shelf: Shelf, proof: Proof) -> None:
        self._tallies[shelf.path].proofs[proof.state] += 1
        path = proof.claim.parcel.path
        if proof.state == "same":
            self.result.proven += 1
            if proof.what:
                self.result.repairs[f"not kept by the target: {proof.what}"] += 1
            return
        why = "the target says that it has it, and does not show it"
        if proof.state == "changed":
            why = f"the target holds it otherwise than it was given: {proof.what}"
        self.result.problem(path, proof.state, why)

    # -- quarantine -----------------------------------------------------------------------------

    def _lay_down(self) -> None:
        """Write what the target did not take as files, each with its reason beside it."""
        if not self.result.states[QUARANTINED]:
            return
        self.result.quarantine = str(self.quarantine)
        if self.result.states[QUARANTINED] >= STREAM_FROM:
            for parcel, content in self.held.walk(self.selection):
                if why := self._refused(parcel):
                    _write(self.quarantine, parcel, content, why)
            return
        for shelf in self.held.shelves(self.selection):
            for parcel in self.held.parcels(shelf, self.selection):
                if why := self._refused(parcel):
                    with self.held.open(parcel) as content:
                        _write(self.quarantine, parcel, content, why)

    def _refused(self, parcel: Parcel) -> str:
        entry = self.ledger.entry(parcel)
        refused = entry is not None and entry.put.state == QUARANTINED
        return entry.put.why if entry and refused else ""


def _sampled(parcel: Parcel, share: float) -> bool:
    """Whether an item is in the sample: decided by its hash, so that each run chooses the same."""
    return int(parcel.sha256[:8], 16) < share * 2**32


def _write(quarantine: Path, parcel: Parcel, content: Reader, why: str) -> None:
    place = quarantine / parcel.path
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with place.open("wb") as file:
        shutil.copyfileobj(content, file, BUFFER)
    reason = place.with_name(f"{place.name[:60]}-{parcel.sha256[:8]}.why.txt")
    reason.write_text(why + "\n", encoding="utf-8", errors="backslashreplace")


@dataclass
class Plan:
    """What a restore would do.

    Attributes:
        repairs: how many items would be changed, by how.
        seconds: a careful estimate of putting, without reading back.
    """

    address: str
    collections: list[Tally] = field(default_factory=list)
    unsupported: Counter[Service] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    items: int = 0
    size: int = 0
    present: int = 0
    seconds: float = 0.0


def plan(held: Held, target: Target, ledger: Ledger | None, selection: Selection) -> Plan:
    """Look at every item as the restore would, without touching the target."""
    planned = Plan(held.address, steps=list(target.steps()))
    tallies: dict[str, Tally] = {}
    for shelf in held.shelves(selection):
        if shelf.service in target.services:
            tallies[shelf.path] = Tally(shelf.service, "/".join(shelf.names))
        elif shelf.items:
            planned.unsupported[shelf.service] += shelf.items
    planned.collections = list(tallies.values())
    for parcel, content in held.walk(selection):
        shelf_there = held.shelf_of(parcel.path)
        if shelf_there and shelf_there.path in tallies:
            put = _foreseen(parcel, content, target, ledger)
            _plan_one(planned, tallies[shelf_there.path], parcel, put)
    planned.seconds = planned.items / target.pace.items + planned.size / target.pace.bytes
    return planned


def _foreseen(parcel: Parcel, content: Reader, target: Target, ledger: Ledger | None) -> Put:
    entry = ledger.entry(parcel) if ledger else None
    if entry and entry.done and entry.sha256 == parcel.sha256:
        return Put(PRESENT)
    try:
        return target.examine(parcel, Checked(parcel, content))
    except (ItemError, IntegrityError) as error:
        return Put.failed(error)


def _plan_one(planned: Plan, tally: Tally, parcel: Parcel, put: Put) -> None:
    tally.expected += 1
    tally.size += parcel.size
    tally.states[put.state] += 1
    if put.state == PRESENT:
        planned.present += 1
        return
    planned.items += 1
    planned.size += parcel.size
    if put.state == REPAIRED:
        planned.repairs.update(put.why.split("; "))
    elif put.state != "restored" and len(planned.problems) < MOST_PROBLEMS:
        planned.problems.append(Problem(parcel.path, put.state, put.why))


def continued(error: BackupdError) -> str:
    """What to do after a run that an error ended."""
    full = isinstance(error, UserError) and error.reason == "quota"
    first = "Make room there" if full else "See to that"
    return f"{first}, then run the same command again: it goes on from here and puts nothing twice."
