"""What a restore would do: counts, bytes, repairs and time, without touching the target."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from backupd.errors import IntegrityError, ItemError
from backupd.model import Service
from backupd.ports import PRESENT, REPAIRED, Parcel, Put, Reader, Target
from backupd.restore.contents import Selection
from backupd.restore.held import Checked, Held
from backupd.restore.ledger import Ledger
from backupd.restore.result import MOST_PROBLEMS, Problem, Tally


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
