"""Faults that can be switched on while the tenant runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from backupd.demo.chance import Chance

KINDS = frozenset(
    {
        "throttle",
        "unavailable",
        "bad_gateway",
        "gateway_timeout",
        "error",
        "reset",
        "cut",
        "short",
        "cleanly_short",
        "slow",
        "wrong_bytes",
        "expired_token",
        "claims_challenge",
        "broken_json",
        "empty",
        "hang",
    }
)
"""What can go wrong:

throttle: 429 with `retry_after` (seconds; a negative number for none), as an HTTP date with `date=True`.
unavailable: 503 with an empty body. bad_gateway: 502 with HTML. gateway_timeout: 504 UnknownError.
error: `status`, `code` and `message` in Graph's shape.
reset: the connection is closed instead of an answer. cut: closed after half of the body.
short: Content-Length promises more than comes. cleanly_short: half of the body, and it looks whole.
slow: the body drips over `seconds`. hang: the answer waits `seconds`.
wrong_bytes: one byte of the body is another. broken_json: the body stops being JSON half-way.
empty: 200 with no body. expired_token: 401. claims_challenge: 401 with a CAE challenge.
"""


@dataclass
class Fault:
    """One thing that goes wrong, for the requests it matches.

    Attributes:
        kind: one of KINDS.
        route: a glob over the route template or the path: `users/*/messages/*/$value`, `dl/*`, `*`.
        user: the id or address of the user in the path, or `*`.
        method: the HTTP method, or `*`.
        times: how often it happens before it is over; 0 for ever.
        rate: in what share of matching requests it happens.
        skip: how many matching requests pass first.
    """

    kind: str
    route: str = "*"
    user: str = "*"
    method: str = "*"
    times: int = 0
    rate: float = 1.0
    skip: int = 0
    status: int = 500
    code: str = "UnknownError"
    message: str = ""
    retry_after: float = 1
    date: bool = False
    seconds: float = 1.0
    seen: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; known are {', '.join(sorted(KINDS))}")

    @property
    def spent(self) -> bool:
        """Whether it has happened as often as it should."""
        return bool(self.times) and self.struck >= self.times


@dataclass(frozen=True)
class Subject:
    """What a fault is matched against."""

    method: str
    route: str
    path: str
    users: frozenset[str]


class Faults:
    """The faults of a tenant. Safe from any thread; the same seed strikes the same requests."""

    def __init__(self, seed: int) -> None:
        self._chance = Chance("faults", seed)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Switch a fault on."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Switch one fault off."""
        with self._lock:
            self._faults = [kept for kept in self._faults if kept is not fault]

    def clear(self) -> None:
        """Switch every fault off."""
        with self._lock:
            self._faults.clear()

    def strike(self, subject: Subject) -> Fault | None:
        """The fault that befalls this request, if any."""
        with self._lock:
            return next((fault for fault in self._faults if self._strikes(fault, subject)), None)

    def _strikes(self, fault: Fault, subject: Subject) -> bool:
        if fault.spent or not _matches(fault, subject):
            return False
        fault.seen += 1
        if fault.seen <= fault.skip or not self._chance.happens(fault.rate):
            return False
        fault.struck += 1
        return True


def _matches(fault: Fault, subject: Subject) -> bool:
    if fault.method not in {"*", subject.method}:
        return False
    if fault.user != "*" and fault.user.casefold() not in subject.users:
        return False
    return any(fnmatchcase(name, fault.route) for name in (subject.route, subject.path))
