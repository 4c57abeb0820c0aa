"""A new password for the vaults of a storage; at every moment the password file opens them all.

The new password lies beside the old one (`FILE.new`) until every vault has a key for it and has been opened with
it; then it takes the file's place in one step, and the old keys go. A run that was killed is taken up by the next.
Whoever knew the old password and copied the vault's key files could still read those: restic's master key stays.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backupd import private
from backupd.app import App
from backupd.config import Storage
from backupd.errors import ConfigError
from backupd.jobs.keyring import Done, Heard, alone, each_of, vaults
from backupd.keys import keybook
from backupd.keys import vault_keys as keys
from backupd.keys.keybook import Noted
from backupd.keys.vault_keys import Keyed

PASSWORD_BYTES = 24
"""Of a generated password: 192 bits, as `backupd init` makes them."""

USER = "backupd"
"""The user name of the keys that a rotation makes."""


@dataclass(frozen=True)
class Rotated:
    """What became of a rotation.

    Attributes:
        storages: those that share the password file.
        replaced: whether the file holds the new password.
        before: where the old one is kept: vaults that this machine does not know of still have it.
        vaults: those that were dealt with, and what kept others from it.
    """

    storages: tuple[str, ...]
    replaced: bool
    file: Path
    before: Path
    vaults: Done


def rotate(app: App, storage: str, heard: Heard) -> Rotated:
    """Give the vaults of a storage, and of others with the same password file, a new password.

    Raises ConfigError when the password does not come from a file that can be replaced.
    """
    file = _file_of(app, storage)
    named = tuple(name for name, each in app.config.storage.items() if _same(each, file))
    new, before = _beside(file, "new"), _beside(file, "before")
    with alone(app):
        chosen = [each for each in vaults(app) if each.vault.storage in named]
        pending = keybook.load(app.config.state_dir).leaving
        halfway = not new.exists() and any(each.place in pending for each in chosen)
        if not halfway:
            fresh = not new.exists()
            if fresh:
                private.create(new, secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
            told = each_of(app, chosen, _adder(file, new, fresh=fresh), heard)
            if told.failed:
                return Rotated(named, False, file, before, told)
            _take_over(app, told, file, new, before)
        told = _drop(app, chosen, file, before, heard)
    return Rotated(named, True, file, before, told)


def _file_of(app: App, storage: str) -> Path:
    section = app.config.storage.get(storage)
    if section is None:
        raise ConfigError(
            f"The configuration has no [storage.{storage}].",
            hint=f"It has: {', '.join(app.config.storage) or 'none'}.",
        )
    if section.password_file is None:
        raise ConfigError(
            f"The password of [storage.{storage}] does not come from a password_file that could be replaced.",
            hint="By hand: `restic key add`, put the new password where password_command or the systemd credential "
            "finds it, then `restic key remove` the old key.",
        )
    file = section.password_file.resolve()
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{file.parent} cannot be written to: the new password has to lie there first.",
            hint="Run this as the user that owns it.",
        )
    return file


def _same(section: Storage, file: Path) -> bool:
    return section.password_file is not None and section.password_file.resolve() == file


def _beside(file: Path, word: str) -> Path:
    return file.with_name(f"{file.name}.{word}")


def _adder(file: Path, new: Path, *, fresh: bool) -> Callable[[Keyed], Noted]:
    """Adds a key for the new password to a vault, opens it with that, and notes which key is to go."""

    def one(keyed: Keyed) -> Noted:
        ours = replace(keyed.vault.repository, password=file)
        old = keys.current(ours, file)
        if fresh or not keys.opens(ours, new):
            keys.add(ours, new, USER)
        return Noted(old.id, time.time())

    return one


def _take_over(app: App, told: Done, file: Path, new: Path, before: Path) -> None:
    """The notes first: a key that is to go and is not gone yet does no harm, one that nobody remembers does."""
    book = keybook.load(app.config.state_dir)
    leaving = {place: noted.key for place, noted in told.done.items()}
    keybook.save(app.config.state_dir, replace(book, leaving=book.leaving | leaving))
    private.put(before, file.read_text(encoding="utf-8"))
    seen = file.stat()
    os.chown(new, seen.st_uid, seen.st_gid)  # the service may run as somebody else than we do
    new.chmod(stat.S_IMODE(seen.st_mode))
    private.settle(new, file)


def _drop(app: App, chosen: Sequence[Keyed], file: Path, before: Path, heard: Heard) -> Done:
    """Remove the old keys, and give the new one to vaults that were begun meanwhile."""
    late = [each for each in vaults(app) if each.place not in {one.place for one in chosen}]
    mine = [each for each in (*chosen, *late) if each.vault.storage in {one.vault.storage for one in chosen}]  # fmt: skip
    pending = keybook.load(app.config.state_dir).leaving

    def one(keyed: Keyed) -> Noted:
        ours = replace(keyed.vault.repository, password=file)
        old = pending.get(keyed.place, "")
        if not old and not keys.opens(ours, file):  # begun with the old password meanwhile
            with_old = replace(ours, password=before)
            old = keys.current(with_old, before).id
            keys.add(with_old, file, USER)
        if old and any(key.id == old for key in keys.keys_of(ours)):
            keys.remove(ours, old)
        return Noted(old, time.time())

    told = each_of(app, mine, one, heard)
    book = keybook.load(app.config.state_dir)
    left = {place: key for place, key in book.leaving.items() if place not in told.done}
    keybook.save(app.config.state_dir, replace(book, leaving=left))
    return told
