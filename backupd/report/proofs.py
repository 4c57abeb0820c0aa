"""What has been proven of all accounts together, and what has not: words, from what was recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backupd.report.status import AccountStatus, in_words
from backupd.verify import DRILL, LISTING, SOURCE
from backupd.verify.findings import Verdict
from backupd.verify.record import Standing

NAMED = 5
"""Damaged parts that a summary names; the report names all."""

DAMAGED, NEVER = Verdict.DAMAGED.value, "never"


def proven(accounts: Sequence[AccountStatus]) -> Iterator[str]:
    """The state of proof in some lines: damage first, then level by level."""
    damaged = [(each, proof) for each in accounts for proof in each.proofs if proof.verdict == DAMAGED]  # fmt: skip
    for status, proof in damaged[:NAMED]:
        yield f"DAMAGED: {status.address}: {proof.words}: {_first(proof)}"
    if len(damaged) > NAMED:
        yield f"… and {len(damaged) - NAMED} more: `backupd report` names them"
    groups: dict[str, list[Standing]] = {}
    for each in accounts:
        for proof in each.proofs:
            groups.setdefault(proof.words, []).append(proof)
    never = [words for words, group in groups.items() if all(each.age is None for each in group)]
    for words, group in groups.items():
        if words not in never:
            yield f"{words}: {_together(group)}"
    if never:
        yield f"NOT proven yet: {', '.join(never)}"


def unproven(accounts: Sequence[AccountStatus], late: float) -> Iterator[tuple[str, str]]:
    """Account and sentence: everything that a reader might take for proven and that is not.

    Args:
        late: the age in seconds from which on a proof is too old to rely on.
    """
    for status in accounts:
        for proof in status.proofs:
            why = _lacks(proof, late)
            if why:
                yield status.address, f"{proof.words}: {why}"
        for copy in status.copies:
            if not copy.current:
                yield status.address, f"{copy.storage}: what changed since the snapshot of {in_words(copy.age)} ago is in the mirror only"  # fmt: skip


def _together(group: Sequence[Standing]) -> str:
    whole = [each.whole for each in group if each.whole is not None and each.verdict != DAMAGED]
    parts = [f"{len(whole)} of {len(group)} accounts" if len(group) > 1 else ""]
    if not whole:
        return "not proven"
    parts.append(f"{'the oldest ' if len(group) > 1 else ''}{in_words(max(whole))} ago")
    last = [each.last for each in group if each.last is not None]
    if group[0].level == DRILL:
        slowest = max(last, key=lambda each: each.seconds)
        parts.append(f"{slowest.items} items were back in {in_words(round(slowest.seconds))}")
    elif group[0].level not in {LISTING, SOURCE} or not group[0].storage:
        share = sum(each.share for each in last) / max(1, len(last))
        parts.append(f"{share:.0%} read within the period" if share else "")
    return ", ".join(each for each in parts if each)


def _lacks(proof: Standing, late: float) -> str:
    if proof.verdict == NEVER:
        return "never looked at"
    if proof.verdict != Verdict.WHOLE:
        return f"{'DAMAGED' if proof.verdict == DAMAGED else 'not proven'}: {_first(proof)}"
    if proof.age is not None and proof.age > late and proof.level not in {SOURCE, DRILL}:
        return f"last proven {in_words(proof.age)} ago"
    rolling = proof.last is not None and proof.level not in {SOURCE, DRILL}
    if rolling and proof.last and proof.last.share < 1:
        return f"{1 - proof.last.share:.0%} not read within the period"
    return ""


def _first(proof: Standing) -> str:
    if proof.last is None or not proof.last.flaws:
        return "no reason was noted"
    more = f" (and {proof.last.flawed - 1} more)" if proof.last.flawed > 1 else ""
    return f"{proof.last.flaws[0].what}{more}"
