"""The keys of a vault: each is a password of its own, and restic keeps them all beside the data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from backupd.config import Storage
from backupd.errors import UserError, VaultError, VaultLocked, VaultUnreachable
from backupd.private import handed_over
from backupd.vaults.locks import remove_stale
from backupd.vaults.restic import Message, Repository
from backupd.vaults.vault import Vault, path_word

RECOVERY = "recovery"
"""The user name of recovery keys, by which restic lists them."""

SHARED = "shared"
"""What the one vault of a shared storage is called when its recovery password is derived."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as restic lists it; `current` opened the vault for this list."""

    id: str
    user: str
    host: str
    created: str
    current: bool

    @property
    def recovery(self) -> bool:
        """Whether it is one of ours for the worst day."""
        return self.user == RECOVERY


@dataclass(frozen=True, slots=True)
class Keyed:
    """A vault that has keys.

    Attributes:
        name: what its recovery password is derived for: `SOURCE/ACCOUNT`, the same in every storage and
            wherever the vault is moved to.
    """

    name: str
    vault: Vault

    @property
    def place(self) -> str:
        """How it is told and noted: `STORAGE/NAME`."""
        return f"{self.vault.storage}/{self.name}"


def name_for(storage: Storage, source: str, address: str) -> str:
    """What the vault of an account is called when its recovery password is derived."""
    alone = "{account}" in storage.repository or not storage.shared
    return f"{source}/{path_word(address)}" if alone else SHARED


def keys_of(repository: Repository) -> list[Key]:
    """Every key, oldest first. Raises as `Repository.run`."""
    found = repository.run(["key", "list", "--no-lock"])
    return sorted(map(_key, found), key=lambda each: each.created)


def opens(repository: Repository, password: Path) -> bool:
    """Whether a password opens a vault that is there. Raises as `Repository.run`, but for a wrong password."""
    try:
        return replace(repository, password=password).exists()
    except UserError as error:
        if error.reason == "wrong-password":
            return False
        raise
    except VaultUnreachable:
        raise
    except VaultError:  # an old restic does not say why: ours tells whether it was the password
        if repository.mute and repository.exists():
            return False
        raise


def add(repository: Repository, password: Path, user: str) -> Key:
    """Add a key and open the vault with it. Raises as `Repository.run`."""
    new = ["--new-password-file", str(password), "--user", user, "--host", "backupd"]
    repository.run(["key", "add", *new])
    return current(repository, password)


def current(repository: Repository, password: Path) -> Key:
    """The key that a password stands for. Raises as `Repository.run` when it does not open the vault."""
    for key in keys_of(replace(repository, password=password)):
        if key.current:
            return key
    raise VaultError(
        f"restic names no key that it opened {repository.label} with.",
        hint="`restic key list` shows what it says.",
        reason="no-key",
    )


def remove(repository: Repository, key: str) -> None:
    """Remove a key that is not the one in use. Raises as `Repository.run`."""
    try:
        repository.run(["key", "remove", key])
    except VaultLocked:
        remove_stale(repository)
        repository.run(["key", "remove", key])


@contextmanager
def with_password(repository: Repository, password: str, scratch: Path) -> Iterator[Repository]:
    """The same vault, opened by another password, which lies in a private file until the end."""
    with handed_over(password, scratch) as place:
        yield replace(repository, password=place)


def _key(message: Message) -> Key:
    return Key(
        id=str(message["id"]),
        user=str(message.get("userName", "")),
        host=str(message.get("hostName", "")),
        created=str(message.get("created", "")),
        current=bool(message.get("current")),
    )
