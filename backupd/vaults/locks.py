"""Locks on a vault: whose they are, and which of them may be removed.

restic's own `unlock` removes what is older than half an hour, by the clock of whoever asks, and what
a process left that no longer runs here. It is asked only where every lock is of this machine, or so
old that nobody can be behind it any more: a backup on another machine with a slow clock must not lose
its lock to us.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass

from backupd.errors import BackupdError, VaultLocked
from backupd.mirror.names import parse_time
from backupd.vaults.restic import Message, Repository

ABANDONED = 86_400.0
"""Seconds after which a lock of another machine is nobody's: restic renews its own every five minutes."""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock: who holds it, and for how many seconds it was not renewed."""

    host: str
    process: int
    user: str
    age: float
    exclusive: bool

    @property
    def ours(self) -> bool:
        """Whether it is of this machine."""
        return self.host == socket.gethostname()

    @property
    def words(self) -> str:
        """For people."""
        minutes = max(0, round(self.age / 60))
        return f"process {self.process} of {self.user or 'somebody'} on {self.host}, renewed {minutes} min ago"


def locks_on(repository: Repository) -> list[Lock]:
    """The locks as they are; those that vanish while we look are left out. Raises as `Repository.run`."""
    found = []
    with repository.stream(["list", "locks", "--no-lock"]) as out:
        ids = [line.decode("ascii", "replace").strip() for line in out if line.strip()]
    for each in ids:
        try:
            with repository.stream(["cat", "lock", each, "--no-lock"]) as out:
                told = json.load(out)
        except (BackupdError, ValueError):
            continue
        found.append(_lock(told))
    return found


def remove_stale(repository: Repository) -> None:
    """Remove what dead processes left. Raises VaultLocked, naming the holder, where that may not be."""
    held = locks_on(repository)
    foreign = [each for each in held if not each.ours and each.age < ABANDONED]
    if foreign:
        raise locked_by(repository, foreign)
    repository.run(["unlock"])


def locked_by(repository: Repository, held: list[Lock]) -> VaultLocked:
    """The error that names who holds a vault."""
    who = "; ".join(each.words for each in held[:3]) or "somebody who is gone again"
    return VaultLocked(
        f"The vault at {repository.label} is locked by {who}.",
        hint="Let that process end. If its machine is gone for good, remove the lock there or here with "
        "`restic unlock --remove-all`; a lock of another machine is left alone for a day.",
        reason="locked",
    )


def _lock(message: Message) -> Lock:
    renewed = parse_time(message.get("time"))
    return Lock(
        host=str(message.get("hostname", "")),
        process=int(message.get("pid") or 0),
        user=str(message.get("username", "")),
        age=time.time() - renewed.timestamp() if renewed else 0.0,
        exclusive=bool(message.get("exclusive")),
    )
