"""What the bell hears: its own events, and those of the service translated into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from backupd.app import Run
from backupd.cutoff.verdict import Case
from backupd.errors import BackupdError
from backupd.ports import Finding

PATIENT = frozenset({"busy", "stopping"})
"""Reasons of errors that are nobody's trouble: another run is at it, or the service was told to stop."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A case came into another state."""

    before: Case
    after: Case


@dataclass(frozen=True, slots=True)
class Ran:
    """A run over any number of accounts ended, well or not."""

    run: Run


@dataclass(frozen=True, slots=True)
class Found:
    """A check found something: warnings and errors are told."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Cycle:
    """A whole cycle ended: the dead man's switch is told, and the age of all copies looked at."""

    good: bool


Event = Changed | Ran | Found | Cycle


class Told(Protocol):
    """What the service tells: its own kind of event."""

    @property
    def kind(self) -> str:
        """A word."""
        ...

    @property
    def source(self) -> str:
        """Of which source, or ""."""
        ...

    @property
    def address(self) -> str:
        """Of which account, or ""."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """The rest."""
        ...


def event_of(told: Told) -> Event | None:
    """What the service tells, as the bell hears it; None for what is nobody's matter.

    An account that vanished is told by its case, once the incidents have judged it.
    """
    facts = told.facts
    if told.kind == "state-changed":
        return Changed(facts["before"], facts["after"])
    if told.kind == "run-ended" and facts.get("outcome") and facts.get("verb") != "fast":
        return Ran(Run([facts["outcome"]]))
    if told.kind == "found":
        return Found(facts["findings"])
    if told.kind == "source-failed":
        return Ran(Run(source_errors={told.source: facts["error"]}))
    return None


def results_of(run: Run) -> Iterable[tuple[str, BackupdError | None]]:
    """What was tried, as `VERB SCOPE`, and its error. What waits for another run is no failure."""
    for name, error in run.source_errors.items():
        yield f"sync {name}", error
    for outcome in run.outcomes:
        scope = f"{outcome.source}/{outcome.address}"
        if outcome.source not in run.source_errors:
            yield f"sync {outcome.source}", None
        if outcome.error and outcome.error.reason not in PATIENT:
            yield f"sync {scope}", outcome.error
        for verb, part in (("sync", outcome.sync), ("snapshot", outcome.snapshot)):
            if part is not None and not outcome.error:
                yield f"{verb} {scope}", next(iter(part.errors.values()), None)
