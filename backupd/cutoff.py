"""What a run of failures means: the state machine of a cut-off. Pure: evidence in, verdict out.

A single answer never proves that an account was switched off. Evidence is gathered from syncs and
from independent probes; two grave answers make a suspicion, agreement over time a confirmation,
two good answers in a row a recovery. What is innocent (throttling, an outage, an expired secret, a
wrong clock) degrades and never freezes.
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


@dataclass(frozen=True, slots=True)
class Evidence:
    """One answer.

    Attributes:
        when: seconds since 1970.
        rung: who was asked: `sync`, `token`, `openid`, `organization`, `user`, `mailbox`, `drive`,
            `peer`, `imap`, `skus`, `mx`, …
        code: the provider's own word (an AADSTS number, an error code), or "".
        said: one sentence for people; never a secret.
    """

    when: float
    rung: str
    cause: Cause
    code: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """What is thought of one scope, a whole source or one account of it.

    Attributes:
        scope: `SOURCE` or `SOURCE/ADDRESS`.
        since: when it came into this state.
        first: when the present row of grave answers began, or 0.
        grave, good, weak: answers in a row of each kind.
        cause: of the latest bad answer.
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
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def frozen(self) -> bool:
        """Whether nothing of it may be removed."""
        return self.state in FROZEN and not self.released


def judge(case: Case, evidence: Evidence) -> Case:
    """The case after one more answer."""
    if evidence.cause is Cause.NONE:
        return _good(case, evidence)
    if evidence.cause in GRAVE:
        return _grave(case, evidence)
    return _weak(case, evidence)


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
    case = replace(case, good=case.good + 1, grave=0, weak=0, first=0.0)
    if case.state in FROZEN:
        enough = case.good >= RECOVER_AFTER
        return _into(case, State.RECOVERED, evidence) if enough else case
    return case if case.state is State.HEALTHY else _into(case, State.HEALTHY, evidence)


def _grave(case: Case, evidence: Evidence) -> Case:
    first = case.first or evidence.when
    case = replace(case, grave=case.grave + 1, good=0, first=first, cause=evidence.cause)
    if case.state is State.CONFIRMED:
        return case
    if case.state is State.SUSPECTED:
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


def _into(case: Case, state: State, evidence: Evidence) -> Case:
    released = case.released if state in FROZEN else ""
    return replace(case, state=state, since=evidence.when, released=released)
