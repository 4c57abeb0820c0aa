"""Keeping vaults locked: who is due, and what each bucket says about it.

By the storage's clock: a store refuses signed requests from a clock that is a quarter of an hour off,
so ours cannot lock anything for years by mistake.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

from backupd.app import App
from backupd.config import Storage
from backupd.errors import BackupdError
from backupd.home import Home
from backupd.vaults.abreast import at_once
from backupd.vaults.locations import parse
from backupd.vaults.vault import Vault

STAMP = "locked-{}"
"""A file in an account's home: when its vault in a storage was locked last."""

NOT_S3 = "Object Lock is a matter of S3: here append_only is what protects vaults"

EARLY = 4
"""Locked again after this part of the span: at least three quarters of it are always left."""


def lock_account(
    app: App, home: Home, vaults: list[Vault]
) -> tuple[dict[str, int], dict[str, BackupdError]]:
    """Lock again what the vaults of an account consist of, where that is asked for and due."""
    due = [each for each in vaults if _due(app, home, each)]
    locked: dict[str, int] = {}
    errors: dict[str, BackupdError] = {}
    for vault, done in at_once(due, lambda each: _lock(app, home, each)):
        try:
            locked[vault.storage] = done.result()
        except BackupdError as error:
            errors[vault.storage] = error
    return locked, errors


def look_at_all(app: App) -> dict[str, BackupdError]:
    """Ask every S3 storage what it offers, and note it; what kept one from answering."""
    failed: dict[str, BackupdError] = {}
    for name, storage in app.config.storage.items():
        try:
            note_offer(app, storage)
        except BackupdError as error:
            failed[name] = error
    return failed


def note_offer(app: App, storage: Storage) -> str:
    """Ask one storage and note its answer, a clause for people. Raises as `objectlock.look`."""
    state, said = "other", NOT_S3
    if parse(storage.repository).kind == "s3":
        offer = _objectlock().look(storage, storage.repository)
        state, said = offer.state, offer.said
    app.storages.change(
        storage.name, lambda health: replace(health, object_lock=state, object_lock_said=said)
    )
    return said


def _due(app: App, home: Home, vault: Vault) -> bool:
    span = app.config.storage[vault.storage].object_lock
    if not span:
        return False
    try:
        return not 0 <= app.clock() - _stamp(home, vault).stat().st_mtime < span / EARLY
    except OSError:
        return True


def _lock(app: App, home: Home, vault: Vault) -> int:
    storage = app.config.storage[vault.storage]
    until = datetime.now(UTC) + timedelta(seconds=storage.object_lock or 0)
    location = vault.repository.location
    count: int = _objectlock().extend(storage, location, until, storage.object_lock_mode)
    _stamp(home, vault).touch()
    return count


def _stamp(home: Home, vault: Vault) -> Path:
    return home.folder / STAMP.format(vault.storage)


def _objectlock() -> ModuleType:
    """The module that speaks S3; only who asks about locks waits for its library."""
    from backupd.vaults import objectlock  # noqa: PLC0415

    return objectlock
