"""The verb restore: vault or mirror → target, and the proof that everything arrived.

Every item that the snapshot names ends as restored, repaired, present, quarantined, damaged or
unsupported; what the target holds afterwards is read back and compared. A run that is killed is
gone on with by the next: the ledger says what is there already, and where it cannot know, the
target is asked.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import BackupdError, ItemError
from backupd.mirror.files import BUFFER
from backupd.model import Service
from backupd.ports import (
    DAMAGED,
    PRESENT,
    QUARANTINED,
    REPAIRED,
    Claim,
    Parcel,
    Proof,
    Put,
    Reader,
    Shelf,
    Target,
)
from backupd.restore.contents import Selection
from backupd.restore.held import Checked, Held
from backupd.restore.ledger import DONE, Entry, Ledger
from backupd.restore.result import READ_ALL, RestoreResult, Tally

STREAM_FROM = 50
"""Quarantined items from which on they are fetched by one stream, not one by one."""

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
