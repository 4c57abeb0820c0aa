"""Vaults: the restic repository of an account, and its snapshots made, listed and read back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from backupd.config import Storage
from backupd.errors import UserError, VaultError, VaultLocked
from backupd.model import Snapshot
from backupd.names import parse_time
from backupd.restic import Message, Repository, Restic

TAG = "backupd"
"""On every snapshot of ours, so that a vault may hold others."""

PINNED = "pinned"
"""On snapshots that were the last good ones when an account seemed to be cut off: never forgotten."""

COMPLETE = "state:complete"
"""On snapshots of a mirror in which nothing was missing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder inside a snapshot."""

    path: str
    type: str
    size: int
    mtime: str


@dataclass(frozen=True, slots=True)
class Written:
    """A snapshot just made, with restic's own count of it."""

    snapshot_id: str
    files: int
    new_files: int
    added: int
    size: int


@dataclass(frozen=True)
class Vault:
    """The snapshots of one account in one storage."""

    storage: str
    address: str
    repository: Repository

    def create(self) -> bool:
        """Create the repository; False when it is already there. Raises as `Repository.run`."""
        if self.repository.exists():
            return False
        self.repository.run(["init"])
        return True

    def make(
        self, mirror: Path, tags: Sequence[str], listen: Callable[[Message], None] | None = None
    ) -> Written:
        """Snapshot a mirror. Raises VaultIncomplete when restic could not read all of it."""
        summary: list[Message] = []

        def hear(message: Message) -> None:
            if message.get("message_type") == "summary":
                summary.append(message)
            elif listen:
                listen(message)

        arguments = ["backup", "--host", _tag(self.address), *_tags([TAG, *tags])]
        if self.repository.restic.knows("backup", "--no-scan") and listen is None:
            arguments.append("--no-scan")
        self._unlocked([*arguments, "."], folder=mirror, listen=hear)
        if not summary or not summary[-1].get("snapshot_id"):
            raise VaultError(
                f"restic ended without naming a snapshot in {self.repository.label}.",
                hint="Run it again; if it stays so, `backupd doctor`.",
                reason="no-snapshot",
            )
        return _written(summary[-1])

    def pin(self) -> dict[str, str]:
        """Tag the newest snapshot and the newest complete one as pinned; old id → new id.

        restic files a snapshot under a new id when its tags change; what it holds stays.
        """
        found = self.snapshots()
        complete = [each for each in found if COMPLETE in each.tags]
        chosen = {
            each.id: each for each in (*found[-1:], *complete[-1:]) if PINNED not in each.tags
        }
        if not chosen:
            return {}
        self._unlocked(["tag", "--add", PINNED, *chosen])
        now = {(each.time, each.tree): each.id for each in self.snapshots()}
        return {each.id: now.get((each.time, each.tree), each.id) for each in chosen.values()}

    def snapshots(self) -> list[Snapshot]:
        """Our snapshots of this account, oldest first."""
        tag = _tag(f"account:{self.address}")
        found = self.repository.run(["snapshots", "--tag", f"{TAG},{tag}", "--no-lock"])
        return sorted((_snapshot(each) for each in found), key=lambda each: each.time)

    def pick(self, snapshot_id: str | None = None, at: str | None = None) -> Snapshot:
        """The newest snapshot, the newest not after `at` (RFC 3339), or the one named.

        Raises UserError when there is none.
        """
        found = self.snapshots()
        if snapshot_id:
            found = [each for each in found if each.id.startswith(snapshot_id)]
        elif at:
            found = [each for each in found if _comparable(each.time) <= _comparable(at)]
        if not found:
            raise UserError(
                f"No such snapshot of {self.address} in {self.repository.label}.",
                hint=f"`backupd snapshots {self.address}` lists them.",
                reason="no-snapshot",
            )
        return found[-1]

    def entries(self, snapshot: Snapshot, path: str = "/") -> Iterator[Entry]:
        """What a snapshot holds at and below a path, in tree order."""
        for message in self._lines(["ls", snapshot.id, path, "--recursive", "--no-lock"]):
            if message.get("struct_type") == "node":
                yield _entry(message)

    def extract(self, snapshot: Snapshot, target: Path, includes: Sequence[str] = ()) -> None:
        """Write a snapshot (or only paths matching `includes`) below `target`."""
        chosen = [word for pattern in includes for word in ("--include", pattern)]
        arguments = ["restore", snapshot.id, "--target", str(target), *chosen, "--no-lock"]
        with self.repository.stream(arguments) as out:
            while out.read(1 << 16):
                pass

    @contextmanager
    def tar(self, snapshot: Snapshot, path: str = "/") -> Iterator[IO[bytes]]:
        """A snapshot as one tar stream in tree order, whatever its size."""
        arguments = ["dump", snapshot.id, path, "--archive", "tar", "--no-lock"]
        with self.repository.stream(arguments) as out:
            yield out

    @contextmanager
    def content(self, snapshot: Snapshot, path: str) -> Iterator[IO[bytes]]:
        """The bytes of one file of a snapshot."""
        with self.repository.stream(["dump", snapshot.id, f"/{path}", "--no-lock"]) as out:
            yield out

    def _lines(self, arguments: Sequence[str]) -> Iterator[Message]:
        with self.repository.stream([*arguments, "--json"]) as out:
            for line in out:
                yield json.loads(line)

    def _unlocked(self, arguments: Sequence[str], **how: Any) -> None:
        """Run; when a lock is in the way, remove it if its process is dead, and try once more."""
        try:
            self.repository.run(arguments, **how)
        except VaultLocked:
            self.repository.run(["unlock"])
            self.repository.run(arguments, **how)


def accounts_in(repository: Repository) -> list[str]:
    """The addresses of every account that a repository has snapshots of."""
    found = set()
    for message in repository.run(["snapshots", "--tag", TAG, "--no-lock"]):
        for tag in message.get("tags") or ():
            word, colon, address = str(tag).partition(":")
            if word == "account" and colon:
                found.add(address.replace("%2C", ","))
    return sorted(found)


def vault_of(storage: Storage, restic: Restic, state_dir: Path, source: str, address: str) -> Vault:
    """The vault of an account in a storage. Raises ConfigError for secrets that cannot be read."""
    repository = Repository(
        restic,
        location(storage, source, address),
        storage.password_source(),
        state_dir / "cache",
        {"RESTIC_COMPRESSION": storage.compression} | storage.environment(),
    )
    return Vault(storage.name, address, repository)


def location(storage: Storage, source: str, address: str) -> str:
    """Where the vault of an account lies: `{source}` and `{account}` filled in or appended."""
    template = storage.repository
    if "{account}" not in template and not storage.shared:
        template = template.rstrip("/") + "/{source}/{account}"
    return template.replace("{source}", source).replace("{account}", path_word(address))


def path_word(address: str) -> str:
    """An address as one word that no shell, URL or object store changes; distinct for each."""
    plain = re.sub(r"[^a-z0-9@._+-]", "_", address.lower()).lstrip(".-")
    if plain == address:
        return plain
    return f"{plain}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


def _tags(tags: Sequence[str]) -> list[str]:
    return [word for tag in tags for word in ("--tag", _tag(tag))]


def _tag(text: str) -> str:
    """A comma would make two tags of one."""
    return text.replace(",", "%2C")


def _comparable(time: str) -> str:
    """An RFC 3339 time in UTC that sorts as text."""
    moment = parse_time(time)
    if moment is None:
        raise UserError(
            f"{time!r} is not a time.", hint="Write it like 2026-11-20T18:00:00Z.", reason="usage"
        )
    return moment.isoformat(timespec="microseconds")


def _snapshot(message: Message) -> Snapshot:
    return Snapshot(
        id=message["id"],
        time=message["time"],
        tags=frozenset(message.get("tags") or ()),
        tree=message.get("tree", ""),
    )


def _written(summary: Message) -> Written:
    return Written(
        snapshot_id=summary["snapshot_id"],
        files=summary["total_files_processed"],
        new_files=summary["files_new"] + summary["files_changed"],
        added=summary["data_added"],
        size=summary["total_bytes_processed"],
    )


def _entry(message: Message) -> Entry:
    return Entry(message["path"], message["type"], message.get("size", 0), message["mtime"])
