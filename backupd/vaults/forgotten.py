"""Snapshots that backupd itself forgot or replaced: `forgotten.jsonl` in an account's home.

Whoever forgets, prunes or repairs notes it here before it does, so that a verification can tell a
snapshot that was let go from one that somebody else removed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

FILE = "forgotten.jsonl"


def note_forgotten(home: Path, storage: str, snapshots: Iterable[str], why: str) -> None:
    """Note, durably, snapshots (full ids) of the account at `home` that are about to leave a storage."""
    now = int(time.time())
    told = [{"storage": storage, "snapshot": each, "when": now, "why": why} for each in snapshots]
    if not told:
        return
    with (home / FILE).open("a", encoding="utf-8") as lines:
        lines.writelines(json.dumps(each) + "\n" for each in told)
        lines.flush()
        os.fsync(lines.fileno())


def forgotten(home: Path, storage: str) -> set[str]:
    """The ids of all snapshots that we ever let go in a storage."""
    found = set()
    try:
        with (home / FILE).open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    told = json.loads(line)
                except ValueError:
                    continue  # a line that a power cut left unfinished
                if told.get("storage") == storage:
                    found.add(str(told.get("snapshot")))
    except FileNotFoundError:
        pass
    return found
