"""The probe ladder: is it us, is it the tenant, is it the account? Pure over `ports.Probing`.

A sync tells that something is refused; the ladder finds out what, by asking from the bottom: our
own network and clock, the tenant, the account, and a second account of the same tenant. What it
finds is one verdict about one scope, with every answer it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from backupd.cutoff.verdict import GRAVE, Cause, Evidence
from backupd.model import Account
from backupd.ports import Probing

PEER = "peer"
"""The rung on which a second account was asked."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a ladder found.

    Attributes:
        about: the account it is about; None for the whole source.
        deciding: the one answer that counts.
        answers: every answer, in the order in which they were given.
    """

    about: Account | None
    deciding: Evidence
    answers: tuple[Evidence, ...] = field(default=())


def climb(
    source: Probing,
    account: Account | None,
    peer: Account | None,
    lowest: Sequence[Evidence],
) -> Verdict | None:
    """Ask on from the lowest rungs; None when the source had no answer to anything.

    It is the source's case when its own rungs are grave and a second account, if there is one to
    ask, does no better; else the account's. Where the lowest rungs say that the fault is ours or
    the network's, nothing above them is asked.

    Args:
        account: the one that was refused; None when accounts could not even be listed.
        peer: another account of the source.
        lowest: what `source.probe(None)` answered.
    """
    worst = _deciding(lowest)
    if account is None or (worst and worst.cause is not Cause.NONE and worst.cause not in GRAVE):
        return Verdict(None, worst, tuple(lowest)) if worst else None
    other = _peers(source, peer)
    if worst and worst.cause in GRAVE and not _lives(other):
        return Verdict(None, worst, (*lowest, *other))
    own = list(source.probe(account))
    about_it = _deciding(own)
    if about_it is None:
        return Verdict(None, worst, tuple(lowest)) if worst else None
    return Verdict(account, about_it, (*lowest, *own, *other))


def _peers(source: Probing, peer: Account | None) -> list[Evidence]:
    if peer is None:
        return []
    return [replace(each, rung=PEER) for each in source.probe(peer)]


def _lives(answers: Iterable[Evidence]) -> bool:
    """Whether a second account was asked and nothing about it is refused."""
    causes = {each.cause for each in answers}
    return causes == {Cause.NONE}


def _deciding(answers: Iterable[Evidence]) -> Evidence | None:
    """The first grave answer, else the first bad one, else the last good one."""
    ranked = sorted(answers, key=_gravity)
    good = [each for each in ranked if each.cause is Cause.NONE]
    return good[-1] if len(good) == len(ranked) and good else next(iter(ranked), None)


def _gravity(evidence: Evidence) -> int:
    if evidence.cause in GRAVE:
        return 0
    return 2 if evidence.cause is Cause.NONE else 1
