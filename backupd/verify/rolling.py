"""What is looked at this time, so that everything is within a period, and how much of it has been."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass

LEAST = 64 << 20
"""Bytes that are looked at in any case: a small account is proven as a whole every time."""

BUCKETS = 256
"""Packs go into these by the first byte of their names, as restic counts its subsets."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Something that is looked at as a whole: a path, and what lies at and below it."""

    path: str
    items: int
    size: int
    single: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a rolling verification goes.

    Attributes:
        now: seconds since 1970.
        period: seconds within which everything shall have been looked at.
        interval: seconds between two verifications.
        everything: look at everything, now.
        beat: called all the while; what it raises ends the verification.
    """

    now: float
    period: float
    interval: float
    everything: bool = False
    beat: Callable[[], None] = lambda: None

    def portion(self, times: Mapping[str, float], total: int) -> float:
        """The share of `total` bytes that is due: by the time since the last look, never less than `LEAST`."""
        if self.everything or total <= LEAST:
            return 1.0
        last = max(times.values(), default=self.now)
        due = max(self.interval, self.now - last) / self.period
        return min(1.0, max(due, LEAST / total))


def looked(times: Mapping[str, float], path: str) -> float:
    """When a path was last looked at, by itself or with what it lies in; 0 for never."""
    parts = path.split("/")
    above = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    return max((times.get(each, 0.0) for each in above), default=0.0)


def due(units: Iterable[Unit], times: Mapping[str, float], pace: Pace) -> list[Unit]:
    """The units that were not looked at for the longest time, as many as are due now."""
    known = sorted(units, key=lambda each: (looked(times, each.path), each.path))
    quota = pace.portion(times, sum(each.size for each in known)) * sum(each.size for each in known)
    chosen: list[Unit] = []
    for unit in known:
        if chosen and quota <= 0:
            break
        chosen.append(unit)
        quota -= unit.size
    return chosen


def covered(units: Iterable[Unit], times: Mapping[str, float], pace: Pace) -> float:
    """The share of all bytes (of all units where there are none) that was looked at within the period."""
    weights = [
        (max(1, each.size), pace.now - looked(times, each.path) <= pace.period) for each in units
    ]
    total = sum(weight for weight, _ in weights)
    return sum(weight for weight, fresh in weights if fresh) / total if total else 1.0


def keep(times: MutableMapping[str, float], units: Iterable[Unit]) -> None:
    """Forget what is no unit any more; one that was split hands its time on."""
    now = {each.path: looked(times, each.path) for each in units}
    times.clear()
    times.update({path: when for path, when in now.items() if when})


def subset(times: Mapping[str, float], pace: Pace, total: int) -> tuple[int, int]:
    """Which subset of the packs is due: (n, t) for restic's `n/t`."""
    parts = min(BUCKETS, max(1, int(1 / pace.portion(times, total))))
    age = {n: sum(times.get(f"{b:02x}", 0.0) for b in in_subset(n, parts)) / len(in_subset(n, parts)) for n in range(1, parts + 1)}  # fmt: skip
    return min(age, key=lambda n: (age[n], n)), parts


def in_subset(number: int, parts: int) -> range:
    """The first bytes of the packs in a subset."""
    return range(number - 1, BUCKETS, parts)
