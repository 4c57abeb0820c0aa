"""What was asked of the tenant, for assertions."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

_KEPT = 200_000


@dataclass
class RequestRecord:
    """One request.

    Attributes:
        door: `graph`, `login`, `download` or `batch` (a part of a batch).
        headers: those that matter, by lower-case name; `authorization` holds only its scheme.
        mailbox: the id of the mailbox whose limits it counts against, or "".
        status: what was answered; 0 while under way, or when the connection was closed instead.
        in_flight: requests of that mailbox under way when it began, itself included.
        fault: the kind of fault that befell it.
    """

    door: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    route: str = ""
    user: str = ""
    mailbox: str = ""
    status: int = 0
    start: float = field(default_factory=time.monotonic)
    end: float = 0.0
    in_flight: int = 0
    fault: str = ""


class RequestLog(Sequence[RequestRecord]):
    """The last 200,000 requests, oldest first; safe to read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: deque[RequestRecord] = deque(maxlen=_KEPT)

    def append(self, record: RequestRecord) -> None:
        """Add a record."""
        with self._lock:
            self._records.append(record)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._records.clear()

    def where(self, **wanted: object) -> list[RequestRecord]:
        """The records whose attributes equal `wanted`, for instance `door="download"`."""
        return [r for r in self if all(getattr(r, key) == value for key, value in wanted.items())]

    def most_in_flight(self, mailbox: str = "") -> int:
        """The most requests that were under way at once for a mailbox, or for any."""
        counted = [r.in_flight for r in self if r.mailbox and mailbox in {"", r.mailbox}]
        return max(counted, default=0)

    def __iter__(self) -> Iterator[RequestRecord]:
        with self._lock:
            records = list(self._records)
        return iter(records)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> RequestRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RequestRecord]: ...
    def __getitem__(self, index: int | slice) -> RequestRecord | Sequence[RequestRecord]:
        with self._lock:
            return list(self._records)[index]
