"""One process at a time, for whatever must not have two writers."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from backupd.errors import TransientError

PAUSE = 0.02
"""Seconds between two tries of a patient one."""


@contextmanager
def exclusive(path: Path, what: str, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock file until the end; it goes with the process, however that dies.

    Raises TransientError(reason="busy"), naming the process that holds it and `what` it works on,
    after having tried for `patience` seconds.
    """
    with path.open("a+") as lock:
        _take(lock, what, time.monotonic() + patience)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _take(lock: IO[str], what: str, until: float) -> None:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise _busy(lock, what) from error
            time.sleep(PAUSE)
        else:
            return


def _busy(lock: IO[str], what: str) -> TransientError:
    lock.seek(0)
    return TransientError(
        f"Another backupd (process {lock.read().strip() or 'unknown'}) is working on {what}.",
        hint="Let it finish, then run this again. Nothing was changed.",
        reason="busy",
    )
