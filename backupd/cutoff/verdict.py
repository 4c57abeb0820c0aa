"""What a run of failures means: the state machine of a cut-off. Pure: evidence in, verdict out.

A single answer never proves that an account was switched off. Evidence is gathered from syncs and
from independent probes; two grave answers make a suspicion, agreement over time a confirmation,
two good answers in a row a recovery. What is innocent (throttling, an outage, an expired secret, a
wrong clock) degrades and never freezes. What may be innocent becomes a suspicion when it lasts: a
permission that was withdrawn, and one service that answers with nothing but errors while all the
rest answers. A great deletion is suspected and never confirmed: it waits for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from backupd.errors import AuthError, BackupdError, CutOff, GuardTripped, TransientError


class Cause(StrEnum):
    """What a failure says of the account; the classes of the failure tables."""

    NONE = ""
    TRANSIENT = "transient"
    THROTTLED = "throttled"
    CREDENTIAL = "credential"
    CLIENT = "client"
    CONSENT = "consent"
    APP = "app"
    LICENCE = "licence"
    ACCOUNT = "account"
    TENANT = "tenant"
    DELETIONS = "deletions"
    DOMAIN = "domain"


GRAVE = frozenset({Cause.APP, Cause.LICENCE, Cause.ACCOUNT, Cause.TENANT, Cause.DELETIONS})
"""Causes that somebody else decided on."""


class State(StrEnum):
    """How a source or an account is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    SUSPECTED = "suspected"
    CONFIRMED = "confirmed"
    RECOVERED = "recovered"


FROZEN = frozenset({State.SUSPECTED, State.CONFIRMED})
"""States in which nothing may be removed, replaced by less, forgotten or pruned."""

SUSPECT_AFTER = 2
"""Grave answers in a row; the first one starts the probes, so the second is seconds away."""
CONFIRM_AFTER, CONFIRM_SECONDS = 5, 30 * 60
"""Grave answers in a row, and the time between the first of them and the last."""
RECOVER_AFTER = 2
"""Good answers in a row."""
OUTAGE_AFTER = 3
"""Transient failures in a row before they are worth a word."""
LASTING_AFTER = 5
"""Answers in a row, over the time that `Patience` names, that make what lasts a suspicion."""
LASTING_GAP = 3 * 3600.0
"""Seconds between two answers of a service in trouble beyond which nobody knows that it lasted."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may be innocent may last before it is suspected, in seconds.

    Attributes:
        consent: a permission that was withdrawn.
        blocked: errors of one service while everything else answers (SharePoint blocks an application so).
    """

    consent: float = 2 * 3600.0
    blocked: float = 24 * 3600.0


PATIENCE = Patience()

ALONE = "alone"
"""The rung of a service that was asked by itself and failed while everything below it answered."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One answer.

    Attributes:
        when: seconds since 1970.
        rung: who was asked: `sync`, `token`, `openid`, `organization`, `user`, `mailbox`, `drive`,
            `peer`, `second`, `imap`, `skus`, `alone`, `mx`, …
        code: the provider's own word (an AADSTS number, an error code), or "".
        said: one sentence for people; never a secret.
    """

    when: float
    rung: str
    cause: Cause
    code: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Lasting:
    """A row of answers that may be innocent: of which cause, how many, and when the first and last came."""

    cause: Cause = Cause.NONE
    count: int = 0
    first: float = 0.0
    last: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """What is thought of one scope, a whole source or one account of it.

    Attributes:
        scope: `SOURCE` or `SOURCE/ADDRESS`.
        since: when it came into this state.
        first: when the present row of grave answers began, or 0.
        grave, good, weak: answers in a row of each kind.
        cause: of the latest bad answer.
        lasting: the present row of answers that become a suspicion when they last.
        released: by whom and why a freeze was lifted by hand, or "".
    """

    scope: str
    state: State = State.HEALTHY
    since: float = 0.0
    first: float = 0.0
    grave: int = 0
    good: int = 0
    weak: int = 0
    cause: Cause = Cause.NONE
    released: str = ""
    lasting: Lasting = Lasting()
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def frozen(self) -> bool:
        """Whether nothing of it may be removed."""
        return self.state in FROZEN and not self.released


def judge(case: Case, evidence: Evidence, patience: Patience = PATIENCE) -> Case:
    """The case after one more answer."""
    if evidence.cause is Cause.NONE:
        return _good(case, evidence)
    if evidence.cause in GRAVE:
        return _grave(case, evidence)
    case = _weak(replace(case, lasting=_lasting(case.lasting, evidence)), evidence)
    if case.state in FROZEN or not _lasted(case.lasting, evidence, patience):
        return case
    blocked = case.lasting.cause is Cause.TRANSIENT
    case = replace(case, cause=Cause.APP if blocked else case.lasting.cause)
    return _into(case, State.SUSPECTED, evidence)


def cause_of(error: BackupdError) -> Cause:
    """What an error of a sync says of the account; errors of our own side say nothing grave."""
    if isinstance(error, GuardTripped):
        return Cause.DELETIONS
    if isinstance(error, AuthError | CutOff):
        known = error.reason in {each.value for each in Cause if each}
        return Cause(error.reason) if known else Cause.CREDENTIAL
    if isinstance(error, TransientError):
        return Cause.THROTTLED if error.reason == "throttled" else Cause.TRANSIENT
    return Cause.CLIENT


def _good(case: Case, evidence: Evidence) -> Case:
    case = replace(case, good=case.good + 1, grave=0, weak=0, first=0.0, lasting=Lasting())
    if case.state in FROZEN:
        enough = case.good >= RECOVER_AFTER
        return _into(case, State.RECOVERED, evidence) if enough else case
    return case if case.state is State.HEALTHY else _into(case, State.HEALTHY, evidence)


def _grave(case: Case, evidence: Evidence) -> Case:
    refused = evidence.cause is not Cause.DELETIONS
    if refused and case.cause is Cause.DELETIONS:
        case = replace(case, grave=0, first=0.0)  # what was deleted proves no refusal
    first = case.first or evidence.when
    cause = evidence.cause if refused or case.state not in FROZEN else case.cause
    case = replace(case, grave=case.grave + 1, good=0, first=first, cause=cause)
    if case.state is State.CONFIRMED:
        return case
    if case.state is State.SUSPECTED:
        if not refused or case.facts.get("second") == "good":
            return case
        agreed = case.grave >= CONFIRM_AFTER and evidence.when - first >= CONFIRM_SECONDS
        return _into(case, State.CONFIRMED, evidence) if agreed else case
    if case.grave >= SUSPECT_AFTER:
        return _into(case, State.SUSPECTED, evidence)
    return case if case.state is State.DEGRADED else _into(case, State.DEGRADED, evidence)


def _weak(case: Case, evidence: Evidence) -> Case:
    """Innocent or ours to repair: it never freezes, and it never thaws."""
    case = replace(case, weak=case.weak + 1, good=0)
    if evidence.cause is Cause.THROTTLED or case.state in FROZEN:
        return case
    case = replace(case, cause=evidence.cause)
    if evidence.cause is Cause.TRANSIENT and case.weak < OUTAGE_AFTER:
        return case
    return case if case.state is State.DEGRADED else _into(case, State.DEGRADED, evidence)


def _lasting(row: Lasting, evidence: Evidence) -> Lasting:
    """The row after one more weak answer: one that says nothing of it leaves it as it is."""
    counts = evidence.cause is Cause.CONSENT or evidence.rung == ALONE
    if not counts:
        return row
    broken = row.cause is not evidence.cause or (
        row.cause is Cause.TRANSIENT and evidence.when - row.last > LASTING_GAP
    )
    if broken:
        return Lasting(evidence.cause, 1, evidence.when, evidence.when)
    return replace(row, count=row.count + 1, last=evidence.when)


def _lasted(row: Lasting, evidence: Evidence, patience: Patience) -> bool:
    """Whether this answer makes a suspicion of the row."""
    long = patience.consent if row.cause is Cause.CONSENT else patience.blocked
    mine = row.cause is evidence.cause and row.last == evidence.when
    return mine and row.count >= LASTING_AFTER and row.last - row.first >= long


def _into(case: Case, state: State, evidence: Evidence) -> Case:
    released = case.released if state in FROZEN else ""
    return replace(case, state=state, since=evidence.when, released=released)
