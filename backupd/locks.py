"""One process at a time, for whatever must not have two writers."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backupd.errors import TransientError


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file until the end; it goes with the process, however that dies.

    Raises TransientError(reason="busy"), naming the process that holds it and `what` it works on.
    """
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise TransientError(
                f"Another backupd (process {lock.read().strip() or 'unknown'}) is working on {what}.",
                hint="Let it finish, then run this again. Nothing was changed.",
                reason="busy",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
