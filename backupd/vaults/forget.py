"""The verbs forget and prune, for one account and all its vaults.

Only snapshots that backupd made of this very account are looked at, by their tags, and they are
named one by one: what others keep in the same repository is never touched, and restic's own
policies never choose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from backupd.config.retention import Spans
from backupd.errors import BackupdError, GuardTripped
from backupd.home import Home
from backupd.vaults.abreast import at_once
from backupd.vaults.forgotten import note_forgotten
from backupd.vaults.retention import Choice, choose
from backupd.vaults.vault import Vault

PATIENCE = 120.0
"""Seconds for which a snapshot that is being written is waited for."""

STAMP = "forgot-{}"
"""A file in an account's home: something was forgotten in a storage since it was last pruned."""


@dataclass(frozen=True)
class Terms:
    """On what terms an account is forgotten.

    Attributes:
        spans: what its storages keep, by name.
        held: why nothing of it may be removed now, or "".
        approved: a person has looked, however much it is.
        dry_run: only say what would go.
        now: seconds since 1970.
    """

    spans: dict[str, Spans] = field(default_factory=dict)
    held: str = ""
    approved: bool = False
    dry_run: bool = False
    now: float = field(default_factory=time.time)


@dataclass
class ForgetResult:
    """What became of it, by storage: what was chosen, what was left alone and why, or what failed.

    Attributes:
        locked: objects of the vault that were locked again, where that was due.
    """

    address: str
    source: str
    locked: dict[str, int] = field(default_factory=dict)
    chosen: dict[str, Choice] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    errors: dict[str, BackupdError] = field(default_factory=dict)


@dataclass
class PruneResult:
    """What became of it, by storage: pruned, left alone and why, or failed."""

    address: str
    source: str
    pruned: list[str] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    errors: dict[str, BackupdError] = field(default_factory=dict)


ELSEWHERE = "append-only: it must be done on a machine that may remove, with the same retention"


def forget_account(home: Home, vaults: Sequence[Vault], terms: Terms) -> ForgetResult:
    """Forget what the rules do not keep, in every vault that lets us."""
    result = ForgetResult(home.address, home.folder.parent.name)
    open_to_us = _open(vaults, terms.held, result.held)
    for vault, done in at_once(open_to_us, lambda each: _forget(home, each, terms)):
        try:
            result.chosen[vault.storage] = done.result()
        except BackupdError as error:
            result.errors[vault.storage] = error
    return result


def prune_account(
    home: Home,
    vaults: Sequence[Vault],
    held: str,
    *,
    due: bool = False,
    beat: Callable[[], None] = lambda: None,
) -> PruneResult:
    """Remove what no snapshot needs from every vault in which something was forgotten (or from all: `due`).

    `beat` is called while it goes on, and may raise to end it.
    """
    result = PruneResult(home.address, home.folder.parent.name)
    wanted = [each for each in vaults if due or _stamp(home, each).exists()]
    open_to_us = _open(wanted, held, result.held)
    for vault, done in at_once(open_to_us, lambda each: _prune(home, each, beat)):
        try:
            done.result()
            result.pruned.append(vault.storage)
        except BackupdError as error:
            result.errors[vault.storage] = error
    return result


def _open(vaults: Sequence[Vault], held: str, told: dict[str, str]) -> list[Vault]:
    for vault in vaults:
        why = held or (ELSEWHERE if vault.append_only else "")
        if why:
            told[vault.storage] = why
    return [vault for vault in vaults if vault.storage not in told]


def _forget(home: Home, vault: Vault, terms: Terms) -> Choice:
    with home.at_vault(vault.storage, patience=PATIENCE):
        now = datetime.fromtimestamp(terms.now, UTC)
        choice = choose(vault.snapshots(), terms.spans[vault.storage], now)
        if terms.dry_run or not choice.drop:
            return choice
        if choice.excessive and not terms.approved:
            raise _too_many(vault, choice)
        ids = [each.id for each in choice.drop]
        note_forgotten(home.folder, vault.storage, ids, "retention")
        _stamp(home, vault).touch()
        vault.forget(ids)
        return choice


def _prune(home: Home, vault: Vault, beat: Callable[[], None]) -> None:
    with home.at_vault(vault.storage, patience=PATIENCE):
        vault.prune(beat=beat)
        _stamp(home, vault).unlink(missing_ok=True)


def _stamp(home: Home, vault: Vault) -> Path:
    return home.folder / STAMP.format(vault.storage)


def _too_many(vault: Vault, choice: Choice) -> GuardTripped:
    count, total = len(choice.drop), len(choice.drop) + len(choice.keep)
    return GuardTripped(
        f"{count} of {total} snapshots of {vault.address} in {vault.storage} would be forgotten at once. "
        "None was.",
        vanished=count,
        hint="Is this machine's clock right, and [retention] as you want it? "
        f"`backupd forget {vault.address} --dry-run` shows them; if it is meant, add --approve-removals.",
        reason="guard-forget",
    )
