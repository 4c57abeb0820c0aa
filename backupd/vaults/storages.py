"""The storages: whether each can be reached, since when not, and what became of its retention.

`<state_dir>/storages/NAME.json`, one a storage, outlives every process and is what `status`, `doctor`
and the alerts read: none of them asks a storage that is down. The gate in front of a storage is
memory of this process only: whoever starts a command wants it tried.

A storage that is out of reach costs one account its patience; the accounts after it are turned
away at once, for a minute at first and up to a quarter of an hour after many failures in a row.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from backupd.errors import BackupdError, TransientError, VaultLocked, VaultUnreachable
from backupd.locks import exclusive
from backupd.private import put

FIRST, LONGEST = 60.0, 900.0
"""Seconds for which a storage is left alone after one failure, and after many."""
NOTED_EVERY = 60.0
"""Seconds between two notes of the same good news."""
PATIENCE = 30.0
"""Seconds that a writer waits for the other writers: they hold the lock for milliseconds."""


class Gate(Protocol):
    """What stands in front of a storage."""

    def trying(self) -> AbstractContextManager[None]:
        """Around everything that reaches for the storage.

        Raises VaultUnreachable at once while the storage is known to be out of reach.
        """
        ...


class OpenGate:
    """Remembers nothing: for whoever asks once."""

    def trying(self) -> AbstractContextManager[None]:
        """Let everybody through."""
        return nullcontext()


OPEN = OpenGate()


@dataclass(frozen=True, slots=True)
class Round:
    """A forget or prune over all vaults of a storage.

    Attributes:
        ended: when the last one ended, in seconds since 1970.
        good: when the last one ended that went well for every account, or 0.
        since: when the first one was tried, so that one that never went well is noticed too.
        removed: snapshots forgotten, or vaults pruned, by the last one.
        held: accounts that it left alone on purpose, because they are frozen.
        failed: accounts for which it failed; `said` is what went wrong with one of them.
    """

    ended: float = 0.0
    good: float = 0.0
    since: float = 0.0
    removed: int = 0
    held: int = 0
    failed: int = 0
    said: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a storage.

    Attributes:
        reached: when it last did what was asked, in seconds since 1970, or 0.
        failed: when it last failed; `failures` in a row; `reason` and `said` of the last one.
        object_lock: `locks`, `versions`, `none` or `other`, as `backupd.vaults.objectlock` tells them; "" where
            nobody asked yet or there was no answer; `object_lock_said` is a clause for people.
    """

    storage: str
    reached: float = 0.0
    failed: float = 0.0
    failures: int = 0
    reason: str = ""
    said: str = ""
    hint: str = ""
    forget: Round = field(default_factory=Round)
    prune: Round = field(default_factory=Round)
    object_lock: str = ""
    object_lock_said: str = ""

    @property
    def well(self) -> bool:
        """Whether the last that was asked of it was done."""
        return not self.failures


class Storages:
    """The store, and the gates of this process; safe for any number of threads and processes."""

    def __init__(self, state_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = state_dir / "storages"
        self._clock = clock
        self._lock = threading.Lock()
        self._gates: dict[str, _Gate] = {}

    def gate(self, storage: str) -> Gate:
        """The gate of a storage; always the same one."""
        with self._lock:
            return self._gates.setdefault(storage, _Gate(self, storage))

    def health(self, storage: str) -> Health:
        """What is known of a storage; nothing much when its file is missing or cannot be read."""
        try:
            stored: dict[str, Any] = json.loads(self._path(storage).read_text(encoding="utf-8"))
            forget, prune = (Round(**stored.pop(verb, {})) for verb in ("forget", "prune"))
            return Health(**stored, forget=forget, prune=prune)
        except (OSError, ValueError, TypeError):
            return Health(storage)

    def change(self, storage: str, change: Callable[[Health], Health]) -> Health:
        """Replace what is known. Raises TransientError(reason="busy") when others do not let go."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with exclusive(self._folder / "lock", "the storages", patience=PATIENCE):
            before = self.health(storage)
            after = change(before)
            if after != before:
                text = json.dumps(asdict(after), indent=1, ensure_ascii=False)
                put(self._path(storage), f"{text}\n")
        return after

    def reached(self, storage: str) -> None:
        """It did what was asked; noted once a minute."""
        known, now = self.health(storage), self._clock()
        if known.well and 0 <= now - known.reached < NOTED_EVERY:
            return
        self.change(
            storage,
            lambda before: replace(
                before, reached=now, failures=0, reason="", said="", hint=""
            ),
        )  # fmt: skip

    def failed(self, storage: str, error: BackupdError) -> None:
        """It did not."""
        self.change(
            storage,
            lambda before: replace(
                before,
                failed=self._clock(),
                failures=before.failures + 1,
                reason=error.reason,
                said=str(error),
                hint=error.hint,
            ),
        )

    def _path(self, storage: str) -> Path:
        return self._folder / f"{storage}.json"


class _Gate:
    """Shut for a while after the storage was out of reach."""

    def __init__(self, storages: Storages, storage: str) -> None:
        self._storages, self._storage = storages, storage
        self._until = float("-inf")
        self._rows = 0
        self._why: VaultUnreachable | None = None

    @contextmanager
    def trying(self) -> Iterator[None]:
        if self._why and time.monotonic() < self._until:
            raise VaultUnreachable(str(self._why), hint=self._why.hint, reason=self._why.reason)
        try:
            yield
        except VaultUnreachable as error:
            self._shut(error)
            raise
        except (TransientError, VaultLocked):
            raise  # nobody's fault
        except BackupdError as error:
            self._storages.failed(self._storage, error)
            raise
        self._rows, self._why = 0, None
        self._storages.reached(self._storage)

    def _shut(self, error: VaultUnreachable) -> None:
        self._rows += 1
        self._why = error
        self._until = time.monotonic() + min(LONGEST, FIRST * 2 ** (self._rows - 1))
        self._storages.failed(self._storage, error)
