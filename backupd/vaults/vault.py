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
from backupd.errors import TransientError, UserError, VaultError, VaultLocked, VaultUnreachable
from backupd.locks import exclusive
from backupd.mirror.names import parse_time
from backupd.model import Snapshot
from backupd.patience import LATE, Patience
from backupd.vaults.locations import parse
from backupd.vaults.locks import locked_by, locks_on, remove_stale
from backupd.vaults.restic import Message, Repository, Restic
from backupd.vaults.storages import OPEN, Gate

TAG = "backupd"
"""On every snapshot of ours, so that a vault may hold others."""

PINNED = "pinned"
"""On snapshots that were the last good ones when an account seemed to be cut off: never forgotten."""

COMPLETE = "state:complete"
"""On snapshots of a mirror in which nothing was missing."""


STALLED = 1800.0
"""Seconds without a byte read or a file ended after which a backup hangs: a slow line needs some
minutes for the last packs."""

SOME = 10
"""So many times the patience that opening a vault gets."""

AT_ONCE = 200
"""Snapshots named in one command: ids of 64 characters, far below what a command line may hold."""


BEGINNING = 180.0
"""Seconds to wait for another account of a shared vault to begin it."""


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
    """The snapshots of one account in one storage.

    Attributes:
        gate: what remembers whether the storage can be reached; who works on many accounts goes
            through it (`with vault.gate.trying(): …`).
        run_within: seconds after which an upload is broken off.
        append_only: the storage lets nobody here remove anything.
        shared: other accounts live in the same repository.
    """

    storage: str
    address: str
    repository: Repository
    gate: Gate = OPEN
    run_within: float | None = None
    append_only: bool = False
    shared: bool = False

    @property
    def _soon(self) -> float | None:
        """Seconds for what reads or writes some dozen small files; restic itself tries each for a quarter of an hour."""
        within = self.repository.answer_within
        return within * SOME if within else None

    def create(self) -> bool:
        """Create the repository; False when it is already there. Raises as `Repository.run`.

        Of two that begin a shared one at the same time restic would let both: each with a key of its own, one
        of which opens nothing.
        """
        self.repository.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark = hashlib.sha256(self.repository.location.encode()).hexdigest()[:16]
        place = self.repository.cache / f"begin-{mark}.lock"
        with exclusive(place, f"beginning {self.repository.label}", patience=BEGINNING):
            return self._create()

    def _create(self) -> bool:
        within = self.repository.answer_within
        try:
            if self.repository.exists():
                return False
        except VaultError as unsure:
            if not self._may_be_none(unsure):
                raise
            try:  # restic never makes a second one over a first
                self.repository.run(["init"], within=within)
            except VaultError:
                raise unsure from None
            return True
        self.repository.run(["init"], within=within)
        return True

    def _may_be_none(self, error: VaultError) -> bool:
        """Whether a failure may mean that there is no vault yet.

        Before 0.17 restic does not say so of a remote one; later ones wait for a bucket that does not exist
        as they wait for a server.
        """
        if isinstance(error, VaultUnreachable):
            return error.reason == LATE and parse(self.repository.location).kind == "s3"
        return self.repository.mute

    def make(
        self, mirror: Path, tags: Sequence[str], listen: Callable[[Message], None] | None = None
    ) -> Written:
        """Snapshot a mirror. Raises VaultIncomplete when restic could not read all of it."""
        summary: list[Message] = []

        done: list[object] = []

        def hear(message: Message, patience: Patience) -> None:
            if message.get("message_type") == "summary":
                summary.append(message)
                return
            now = [message.get("files_done"), message.get("bytes_done")]
            if now != done:
                done[:] = now
                patience.moved()
            if listen:
                listen(message)

        arguments = ["backup", "--host", _tag(self.address), *_tags([TAG, *tags])]
        if self.repository.restic.knows("backup", "--no-scan") and listen is None:
            arguments.append("--no-scan")
        self._upload([*arguments, "."], mirror, hear)
        if not summary or not summary[-1].get("snapshot_id"):
            raise VaultError(
                f"restic ended without naming a snapshot in {self.repository.label}.",
                hint="Run it again; if it stays so, `backupd doctor`.",
                reason="no-snapshot",
            )
        return _written(summary[-1])

    def take_up(self) -> None:
        """Make what an upload left that did not end known to the next one.

        restic names packs in an index only every 50,000 blobs: without this, whatever a broken-off upload
        had brought there would be uploaded once more (measured: none of 160 MB was used again).
        """
        named = (
            ("repair", "index") if self.repository.restic.version >= (0, 16) else ("rebuild-index",)
        )
        self.run(named, within=self.run_within)

    def _upload(
        self, arguments: Sequence[str], mirror: Path, hear: Callable[[Message, Patience], None]
    ) -> None:
        try:
            limits = {"within": self.run_within, "idle": STALLED}
            self.run(arguments, folder=mirror, listen=hear, **limits)
        except VaultUnreachable as error:
            if error.reason != LATE:
                raise
            raise TransientError(
                f"The snapshot of {self.address} into {self.storage} is not finished yet: it was broken off "
                f"so that the account can be synced. {error}",
                hint="Nothing needs to be done: what was uploaded stays, and the next run goes on from there. "
                "`run_within` of that storage says after how long.",
                reason="unfinished",
            ) from error

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
        self.run(["tag", "--add", PINNED, *chosen], within=self._soon)
        now = {(each.time, each.tree): each.id for each in self.snapshots()}
        return {each.id: now.get((each.time, each.tree), each.id) for each in chosen.values()}

    def forget(self, ids: Sequence[str]) -> None:
        """Remove exactly these snapshots; what they alone held stays until `prune`.

        Whoever calls chose them among `snapshots()`: never those of others in the same repository.
        """
        for start in range(0, len(ids), AT_ONCE):
            self.run(["forget", *ids[start : start + AT_ONCE]], within=self._soon)

    def prune(self, *, everything: bool = False, beat: Callable[[], None] = lambda: None) -> None:
        """Remove the data that no snapshot needs: most of it, or `everything`.

        `beat` is called while it goes on; what it raises ends it at the next line.
        """
        self.run(["prune", *(("--max-unused", "0") if everything else ())], beat=beat)

    def snapshots(self) -> list[Snapshot]:
        """Our snapshots of this account, oldest first."""
        tag = _tag(f"account:{self.address}")
        arguments = ["snapshots", "--tag", f"{TAG},{tag}", "--no-lock"]
        found = self.repository.run(arguments, within=self._soon)
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

    def run(self, arguments: Sequence[str], **how: Any) -> list[Message]:
        """Run a command that locks; what a dead process of this machine left is removed first.

        Raises VaultLocked naming host, process and age when somebody else is at it.
        """
        try:
            return self.repository.run(arguments, **how)
        except VaultLocked:
            remove_stale(self.repository)
        try:
            return self.repository.run(arguments, **how)
        except VaultLocked as error:
            raise locked_by(self.repository, locks_on(self.repository)) from error


def accounts_in(repository: Repository) -> list[str]:
    """The addresses of every account that a repository has snapshots of."""
    return sorted({address for _, address in owners_in(repository)})


def owners_in(repository: Repository) -> list[tuple[str, str]]:
    """Source and address of every account that a repository has snapshots of."""
    found = set()
    for message in repository.run(["snapshots", "--tag", TAG, "--no-lock"]):
        told = dict(str(tag).split(":", 1) for tag in message.get("tags") or () if ":" in str(tag))
        if told.get("account"):
            found.add((told.get("source", ""), told["account"].replace("%2C", ",")))
    return sorted(found)


def vault_of(
    storage: Storage,
    restic: Restic,
    state_dir: Path,
    owner: tuple[str, str],
    gate: Gate = OPEN,
) -> Vault:
    """The vault of an account (its source and address) in a storage.

    Raises ConfigError for secrets that cannot be read.
    """
    source, address = owner
    repository = Repository(
        restic,
        location(storage, source, address),
        storage.password_source(),
        state_dir / "cache",
        {"RESTIC_COMPRESSION": storage.compression} | storage.environment(),
        storage.flags(),
        storage.answer_within,
    )
    return Vault(
        storage.name,
        address,
        repository,
        gate,
        storage.run_within,
        storage.append_only,
        storage.shared,
    )


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
