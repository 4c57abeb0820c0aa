"""What the plots of a report show: how much was read, how long drills took, sizes and how they grew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.errors import UserError
from backupd.report.chain import read
from backupd.report.readiness import Readiness
from backupd.verify import DRILL, USUAL
from backupd.verify.record import Standing

PLOTTED = 40
"""Accounts that a plot shows."""

POINTS = 60
"""Reports that the growth is drawn from, spread over all that there are."""


@dataclass(frozen=True)
class Drill:
    """A drill in the plot."""

    address: str
    items: int
    size: int
    seconds: float


@dataclass(frozen=True)
class Share:
    """A line of the plot of what was read: of all accounts, weighed by their bytes."""

    words: str
    share: float
    level: str


def drills(found: Readiness) -> Iterator[Drill]:
    """The last drill of every account that had one."""
    for status in found.accounts:
        for proof in status.proofs:
            if proof.level == DRILL and proof.last:
                last = proof.last
                yield Drill(status.address, last.items, last.size, last.seconds)


def coverage(found: Readiness) -> Iterator[Share]:
    """How much each level has read of each storage."""
    groups: dict[str, list[Standing]] = {}
    for status in found.accounts:
        for proof in status.proofs:
            if proof.level in USUAL:
                groups.setdefault(proof.words, []).append(proof)
    for words, group in groups.items():
        weights = [(max(1, each.last.of_size if each.last else 1), each) for each in group]
        read = sum(weight * (each.last.share if each.last else 0) for weight, each in weights)
        bad = any(each.verdict != "whole" for each in group)
        yield Share(words, read / sum(weight for weight, _ in weights), "bad" if bad else "good")


def sizes(found: Readiness) -> list[tuple[str, int, int]]:
    """The largest accounts: address, bytes, and thousandths of the largest."""
    shown = sorted(found.accounts, key=lambda each: each.size, reverse=True)[:PLOTTED]
    most = max((each.size for each in shown), default=0) or 1
    return [(each.address, each.size, max(4, 1000 * each.size // most)) for each in shown]


@dataclass(frozen=True)
class Growth:
    """Bytes of all accounts over the reports: a line in a field of 1000 by 100, and its two ends."""

    points: str
    first: tuple[str, int]
    last: tuple[str, int]


def growth(reports: Sequence[Path], found: Readiness) -> Growth | None:
    """How what is held grew; None while there is no second report of the same accounts."""
    wanted = {f"{each.source}/{each.address}" for each in found.accounts}
    step = max(1, len(reports) // POINTS)
    chosen = [*reports[::step], *reports[-1:]]
    known = [each for each in (_total(path, wanted) for path in dict.fromkeys(chosen)) if each]
    if len(known) < 2 or known[0][0] == known[-1][0]:  # noqa: PLR2004 - a line has two ends
        return None
    most = max(size for _, _, size in known) or 1
    began, span = known[0][0], known[-1][0] - known[0][0]
    points = " ".join(f"{1000 * (when - began) / span:.0f},{100 - 95 * size / most:.0f}" for when, _, size in known)  # fmt: skip
    return Growth(points, known[0][1:], known[-1][1:])


def _total(path: Path, wanted: set[str]) -> tuple[float, str, int] | None:
    """When a report was made, and the bytes of the accounts; None for one of other accounts."""
    try:
        document: dict[str, Any] = read(path)[1]
        sizes = {f"{each['source']}/{each['address']}": int(each["size"]) for each in document["accounts"]}  # fmt: skip
        if not wanted <= set(sizes):
            return None
        total = sum(size for scope, size in sizes.items() if scope in wanted)
        return float(document["when"]), str(document["made"])[:10], total
    except (UserError, ValueError, TypeError, KeyError):
        return None
