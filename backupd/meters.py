"""What the sources of this process have asked for, and how often they were refused or slowed down.

One meter a source, whoever asks in its name; it begins at nothing with every process.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

DONE, CONNECTION = "ok", "connection"
"""Outcomes beside those that a provider's refusal is classed as."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a meter shows.

    Attributes:
        requests: by outcome, every attempt of its own: `ok`, `connection` (it broke), `throttled`,
            `transient`, `consent`, ….
        retries: attempts after the first.
        throttled: seconds for which the provider asked for a pause; pauses at the same time count once.
    """

    requests: Mapping[str, int]
    retries: int
    throttled: float


class Meter:
    """Counts; safe for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._retries = 0
        self._throttled = 0.0

    def count(self, outcome: str) -> None:
        """One attempt ended so."""
        with self._lock:
            self._requests[outcome] += 1

    def retry(self) -> None:
        """One attempt is not the first."""
        with self._lock:
            self._retries += 1

    def pause(self, seconds: float) -> None:
        """So much longer nobody may ask."""
        with self._lock:
            self._throttled += seconds

    def read(self) -> Reading:
        """The figures now."""
        with self._lock:
            return Reading(dict(self._requests), self._retries, self._throttled)


_METERS: dict[str, Meter] = {}
_MAKING = threading.Lock()


def meter_of(source: str) -> Meter:
    """The meter of a source, made when first asked for."""
    with _MAKING:
        return _METERS.setdefault(source, Meter())


def readings() -> dict[str, Reading]:
    """What every meter shows, by source."""
    with _MAKING:
        return {name: meter.read() for name, meter in sorted(_METERS.items())}
