"""Composition of repair: which accounts and storages, in which order, and whether it helped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from backupd.app import App
from backupd.errors import BackupdError
from backupd.home import Home
from backupd.repair import PATIENCE, Progress, Repair
from backupd.repair.mirror import repair_mirror
from backupd.repair.vaults import copy_from, heal_vault, hopeless
from backupd.vault import Vault
from backupd.verifications import Wish, verify_account
from backupd.verify import LISTING, PACKS
from backupd.verify.findings import Verification
from backupd.verify.listing import verify_listing
from backupd.verify.packs import verify_packs
from backupd.verify.record import Record, changing
from backupd.verify.rolling import Pace

LOST = frozenset({"snapshot-missing", "snapshot-vanished", "snapshot-rewritten"})
"""Flaws that say that a snapshot is no longer there."""

FROZEN = "`backupd release` lets it be made, once you know why the account is frozen."
GONE = "older snapshots are gone or lack something that neither the mirror nor another storage has."
STAY = "What is whole in them can still be read: `backupd ls --snapshot`, `restic restore`."
LEFT = "`backupd verify --all` names everything that is still wrong."


def repair_account(
    app: App, home: Home, storage: str | None, *, dry_run: bool, progress: Progress
) -> tuple[Repair, list[Verification]]:
    """Heal one account, then verify it; what could not be healed is in the answer.

    Raises TransientError(reason="busy") when another run does not end.
    """
    repair = Repair(home, dry_run)
    vaults = [each for each in app.vaults(home) if storage in {None, each.storage}]
    progress(f"{home.address}: the mirror and the catalog")
    try:
        repair_mirror(home, app.vaults(home), app.config.state_dir / "tmp", repair)
    except BackupdError as error:
        repair.cannot(str(error), error.hint)
    with changing(home) as record:
        for vault in vaults:
            progress(f"{home.address}: {vault.storage}")
            _vault(app, home, vault, record, repair)
    if dry_run:
        return repair, []
    progress(f"{home.address}: verified")
    levels = Wish((LISTING, PACKS), storage, everything=True)
    return repair, list(verify_account(app, home, levels))


def _vault(app: App, home: Home, vault: Vault, record: Record, repair: Repair) -> None:
    """Heal one vault: bad files out, the mirror in again, then what only another storage has."""
    scratch = app.config.state_dir / "tmp"
    listing = verify_listing(home, vault, record, _everything(app), scratch)
    packs = verify_packs(home, vault, record, _everything(app))
    flaws = [*listing.flaws, *packs.flaws]
    if not flaws:
        return
    why = hopeless(flaws)
    if why is not None:
        repair.cannot(*why)
        return
    lost = [each for each in listing.flaws if each.kind in LOST]
    try:
        if packs.damaged:
            heal_vault(home, vault, packs, repair)
        if not repair.dry_run:
            _snapshot(app, home, vault, repair)
            _older(app, home, vault, record, repair, lost=bool(lost))
    except BackupdError as error:
        repair.cannot(f"{vault.storage}: {error}", error.hint or LEFT)


def _snapshot(app: App, home: Home, vault: Vault, repair: Repair) -> None:
    """What the mirror has goes into the vault once more: whatever is lacking there is stored again."""
    with home.writing(patience=PATIENCE) as catalog, catalog.transaction():
        catalog.put(f"snapshot:{vault.storage}:revision", "")
    outcome = app.snapshot_one(home)
    if outcome.errors:
        raise outcome.errors[0]
    result = outcome.snapshot
    made = result.made.get(vault.storage) if result else None
    if made is not None:
        repair.did(f"{vault.storage}: snapshot {made.snapshot_id[:8]} holds what the mirror does.")
        return
    why = result.withheld.get(vault.storage, "") if result else ""
    repair.cannot(f"{vault.storage}: no new snapshot was made. {why}", FROZEN)


def _older(
    app: App, home: Home, vault: Vault, record: Record, repair: Repair, *, lost: bool
) -> None:
    """Older snapshots that are gone or lack something come from another storage."""
    if not lost and not _lacks(app, home, vault, record):
        return
    for other in app.vaults(home):
        if other.storage != vault.storage:
            with suppress(BackupdError):
                copy_from(vault, other, repair)
                lost = False
    if lost or _lacks(app, home, vault, record):
        repair.cannot(f"{vault.storage}: {GONE}", STAY)


def _lacks(app: App, home: Home, vault: Vault, record: Record) -> bool:
    found = verify_packs(home, vault, record, _everything(app))
    return found.damaged


def _everything(app: App) -> Pace:
    return Pace(
        time.time(), app.config.verify.read_all, app.config.schedule.verify, everything=True
    )


def exit_code(repairs: Sequence[Repair], found: Sequence[Verification]) -> int:
    """0 when all is whole afterwards, 5 when something is not, 1 when something could not be tried."""
    codes = [each.exit_code for each in found]
    left = 1 if any(each.left for each in repairs) else 0
    return 5 if 5 in codes else max([left, *codes])  # noqa: PLR2004 - integrity
