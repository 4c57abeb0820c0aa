"""What the errors of a sync say of its account, as answers that can be judged."""

from __future__ import annotations

from collections.abc import Iterable

from backupd.cutoff.verdict import GRAVE, Cause, Evidence, cause_of
from backupd.errors import AuthError, BackupdError, CutOff, GuardTripped, TransientError

OURS = frozenset({"busy", "closed"})
"""Reasons of a TransientError that lie with us: a lock, a connection that we closed ourselves."""


def answers_of(errors: Iterable[BackupdError], when: float) -> list[Evidence]:
    """What a sync says of its account, the gravest answer first; nothing when it says nothing.

    A full disk, a lock or a broken vault are our own affair.
    """
    errors = list(errors)
    if not errors:
        return [Evidence(when, "sync", Cause.NONE)]
    telling = [error for error in errors if _tells(error)]
    found = [
        Evidence(when, "sync", cause_of(error), error.code or _word(error), str(error))
        for error in telling
    ]
    return sorted(found, key=gravity)


def _tells(error: BackupdError) -> bool:
    if isinstance(error, TransientError):
        return error.reason not in OURS
    return isinstance(error, AuthError | CutOff | GuardTripped)


def gravity(evidence: Evidence) -> int:
    """A refusal weighs more than what has vanished: it may be why."""
    if evidence.cause is Cause.DELETIONS:
        return 1
    return 0 if evidence.cause in GRAVE else 2


def _word(error: BackupdError) -> str:
    return "" if error.reason in set(Cause) else error.reason
