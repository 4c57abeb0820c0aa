"""How long a process may take: until an end, and from one sign of life to the next."""

from __future__ import annotations

import threading
import time
from typing import Protocol

GRACE = 10.0
"""Seconds that a process which is told to end gets to put its things away."""


LATE, IDLE = "late", "idle"


class Process(Protocol):
    """What can be ended."""

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """End it."""
        ...


class Patience:
    """Ends a process that takes too long, or in which nothing moves any more.

    Args:
        within: seconds until the end.
        idle: seconds from one `moved` to the next.

    Attributes:
        lost: why it was ended, `late` or `idle`; or "".
    """

    def __init__(self, process: Process, within: float | None, idle: float | None) -> None:
        self.lost = ""
        self._process = process
        self._end = time.monotonic() + (within or float("inf"))
        self._idle = idle or float("inf")
        self._next = time.monotonic() + self._idle
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="patience", daemon=True)
        if within or idle:
            self._thread.start()

    def moved(self) -> None:
        """Something was done."""
        self._next = time.monotonic() + self._idle

    def close(self) -> None:
        """The process has ended."""
        self._over.set()
        if self._thread.ident:
            self._thread.join()

    def _watch(self) -> None:
        while (left := min(self._end, self._next) - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        self.lost = LATE if self._end <= self._next else IDLE
        self._process.terminate()
        if not self._over.wait(GRACE):
            self._process.kill()
