"""Files that only their owner may read: how secrets are kept, and how they are handed to other programs."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def handed_over(secret: str, scratch: Path) -> Iterator[Path]:
    """A file that holds a secret until the end, below a folder for its owner alone. Raises OSError."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = scratch / f"secret-{secrets.token_hex(8)}"
    create(place, secret)
    try:
        yield place
    finally:
        place.unlink(missing_ok=True)


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
