"""An item ready for a server."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prepared:
    """An item as it is handed to a server.

    Attributes:
        uid: the UID that it carries.
        notes: what was repaired.
        digest: its meaning, see `targets.dav.meaning`.
    """

    data: bytes
    uid: str
    notes: tuple[str, ...]
    digest: str


def derived_uid(key: str) -> str:
    """A UID for an item that has none of its own, the same in every run."""
    return f"{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:40]}@backupd.invalid"
