"""What a restore came to: every item accounted for, by collection and as a whole."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from backupd.errors import BackupdError, IntegrityError, ItemError, UserError
from backupd.model import Service
from backupd.ports import DAMAGED, QUARANTINED, Finding
from backupd.restore.ledger import DONE

MOST_PROBLEMS = 1000
"""Problems and repairs kept for people; all are counted, and the items file lists every one."""

READ_ALL = 10_000_000_000
"""Bytes up to which everything is read back; of more, a sample of about this size."""


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


def continued(error: BackupdError) -> str:
    """What to do after a run that an error ended."""
    full = isinstance(error, UserError) and error.reason == "quota"
    first = "Make room there" if full else "See to that"
    return f"{first}, then run the same command again: it goes on from here and puts nothing twice."
