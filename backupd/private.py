"""Files that only their owner may read: how secrets are kept, and how they are handed to other programs."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "secret-"
"""Begins the names of files that hand a secret over; the process that made it follows."""


@contextmanager
def handed_over(secret: str, scratch: Path) -> Iterator[Path]:
    """A path that processes started by us can read a secret from until the end. Raises OSError.

    It lies in memory alone where the system can do that, so that nothing stays when we are killed; else it is
    a file below `scratch`, and what killed processes left there goes with the next one.
    """
    descriptor = _in_memory(secret)
    if descriptor is not None:
        try:
            yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    sweep(scratch)
    place = scratch / f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    create(place, secret)
    try:
        yield place
    finally:
        place.unlink(missing_ok=True)


def sweep(scratch: Path) -> None:
    """Remove secrets that were handed over by processes that are no more."""
    for place in scratch.glob(f"{PREFIX}*"):
        process = place.name.removeprefix(PREFIX).partition("-")[0]
        if not (process.isdecimal() and Path(f"/proc/{process}").exists()):
            place.unlink(missing_ok=True)


def _in_memory(secret: str) -> int | None:
    """An open file that has no name; None where others could not read it by its number."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("backupd")
        os.write(descriptor, secret.encode())
    except OSError:
        return None
    if os.access(f"/proc/{os.getpid()}/fd/{descriptor}", os.R_OK):
        return descriptor
    os.close(descriptor)
    return None


def create(path: Path, text: str) -> None:
    """Write a new file of mode 600, on the disk when this returns. Raises FileExistsError and other OSErrors."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def put(path: Path, text: str) -> None:
    """Write a file of mode 600 as a whole, in place of what is there: after a crash it is old or new."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        create(fresh, text)
        settle(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def settle(fresh: Path, path: Path) -> None:
    """Rename a file over another, durably."""
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
