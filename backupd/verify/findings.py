"""What a verification found: the values that are recorded, told and signed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from backupd.errors import BackupdError, IntegrityError

MOST_NAMED = 200
"""Flaws that one verification names; all are counted."""


class Verdict(StrEnum):
    """How a verification ended: everything it looked at is as recorded, something is not, or nobody knows."""

    WHOLE = "whole"
    DAMAGED = "damaged"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that is not as it was recorded, or that kept a verification from its end.

    Attributes:
        kind: a stable word: `altered`, `missing`, `added`, `pack`, `vault-gone`, `clock` …
        where: a path of the mirror, a snapshot, or the vault's storage; hostile.
        what: one sentence.
        hint: what to type next.
        damage: whether something that is held differs; else it could only not be proven.
    """

    kind: str
    where: str
    what: str
    hint: str = ""
    damage: bool = True


@dataclass
class Verification:
    """One level for one account in one storage.

    Attributes:
        storage: a section's name; "" where the mirror, the source or a drill is meant.
        snapshot: the full id of the snapshot that was looked at, or "".
        began: seconds since 1970.
        items, size: how many things (items, or packs at level 2) and bytes were looked at.
        of_items, of_size: out of how many there are.
        share: what share of all has been looked at within the rolling period, this time included.
        flaws: at most `MOST_NAMED`; `flawed` counts them all.
        facts: what only this level has to say.
    """

    address: str
    source: str
    level: int
    storage: str = ""
    snapshot: str = ""
    began: float = field(default_factory=time.time)
    seconds: float = 0.0
    items: int = 0
    size: int = 0
    of_items: int = 0
    of_size: int = 0
    share: float = 0.0
    flaws: list[Flaw] = field(default_factory=list)
    flawed: int = 0
    damaged: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """Never whole with a flaw."""
        if self.damaged:
            return Verdict.DAMAGED
        return Verdict.UNPROVEN if self.flawed else Verdict.WHOLE

    def note(self, flaw: Flaw) -> None:
        """Take down a flaw."""
        self.flawed += 1
        self.damaged = self.damaged or flaw.damage
        if len(self.flaws) < MOST_NAMED:
            self.flaws.append(flaw)

    def broken_off(self, error: BackupdError) -> None:
        """Take down what kept it from its end."""
        damage = isinstance(error, IntegrityError)
        where = self.storage or self.source
        self.note(Flaw(error.reason, where, str(error), error.hint, damage))
        self.facts["error"] = error.exit_code

    @property
    def exit_code(self) -> int:
        """5 when something differs, else that of the error that ended it, else 1 with any flaw, else 0."""
        if self.damaged:
            return IntegrityError.exit_code
        return int(self.facts.get("error") or 1) if self.flawed else 0
