"""What stands for an account where its address must not be: in log lines and in figures.

A mark is the same on every day and machine, and `backupd status MARK` says whose it is.
"""

from __future__ import annotations

import re
from hashlib import sha256

WORD = re.compile(r"[A-Za-z0-9_.-]{1,60}")


def mark_of(source: str, address: str) -> str:
    """Twelve digits for an account."""
    return sha256(f"{source}/{address}".encode()).hexdigest()[:12]


def word(reason: str) -> str:
    """A reason fit for a log line: some are words that a server chose."""
    return reason if WORD.fullmatch(reason) else "unnamed"
