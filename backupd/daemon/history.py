"""What the last runs did, in memory and in `<state_dir>/service.json` for `backupd status`.

    {"version": 1, "pid": 42, "started": 1760000000.0, "updated": …, "stopped": null,
     "sources": {"contoso": {"discovered": …, "reason": ""}},
     "accounts": {"contoso/alice@contoso.example": {
        "sync": {"ended": …, "seconds": 1.2, "ok": true, "code": 0, "reason": "", "new": 3,
                 "failures": 0, "succeeded": …},
        "fast": {…}, "snapshot": {…}}}}

Times are seconds since 1970; `failures` counts runs in a row, `succeeded` is the last good one.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

EVERY = 5.0
"""Seconds between two writings of the file."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One run of one verb for one account.

    Attributes:
        code: the exit code that the command would have had.
        new: items fetched, or snapshots made.
        failures: runs in a row that failed, this one included.
        succeeded: when it last went well, or 0.
    """

    ended: float
    seconds: float
    ok: bool
    code: int = 0
    reason: str = ""
    new: int = 0
    failures: int = 0
    succeeded: float = 0.0


class History:
    """The last runs of every account; safe for any number of threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._accounts: dict[str, dict[str, Ended]] = {}
        self._sources: dict[str, dict[str, Any]] = {}
        self._started, self._stopped = time.time(), 0.0
        self._dirty, self._saved = True, 0.0

    def ended(self, scope: str, verb: str, run: Ended) -> Ended:
        """Note a run; returns it with the row of failures that it goes on with or ends."""
        with self._lock:
            runs = self._accounts.setdefault(scope, {})
            before = runs.get(verb)
            failures = 0 if run.ok else (before.failures if before else 0) + 1
            succeeded = run.ended if run.ok else before.succeeded if before else 0.0
            runs[verb] = replace(run, failures=failures, succeeded=succeeded)
            self._dirty = True
            return runs[verb]

    def discovered(self, source: str, reason: str = "") -> None:
        """Note that the accounts of a source were listed, or why not."""
        with self._lock:
            known = self._sources.setdefault(source, {"discovered": 0.0, "reason": ""})
            known["reason"] = reason
            if not reason:
                known["discovered"] = time.time()
            self._dirty = True

    def forget(self, scopes: set[str]) -> None:
        """Keep only these accounts."""
        with self._lock:
            self._accounts = {key: runs for key, runs in self._accounts.items() if key in scopes}
            self._dirty = True

    @property
    def failing(self) -> int:
        """Accounts whose last sync or snapshot failed."""
        with self._lock:
            return sum(any(not run.ok for run in each.values()) for each in self._accounts.values())

    def stopped(self) -> None:
        """The service ends."""
        self._stopped = time.time()
        self._dirty = True
        self.save(at_once=True)

    def save(self, *, at_once: bool = False) -> None:
        """Write the file when something changed and the last writing is some time ago."""
        with self._lock:
            if not self._dirty or (not at_once and time.monotonic() - self._saved < EVERY):
                return
            self._dirty, self._saved = False, time.monotonic()
            told = self._told()
        fresh = self._path.with_name(f".{self._path.name}.new")
        fresh.write_text(json.dumps(told, ensure_ascii=False) + "\n", encoding="utf-8")
        fresh.replace(self._path)

    def _told(self) -> dict[str, Any]:
        runs = {
            scope: {verb: asdict(run) for verb, run in each.items()}
            for scope, each in self._accounts.items()
        }
        return {
            "version": 1,
            "pid": os.getpid(),
            "started": self._started,
            "updated": time.time(),
            "stopped": self._stopped or None,
            "sources": dict(self._sources),
            "accounts": runs,
        }
