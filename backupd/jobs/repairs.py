"""Composition of repair: which accounts and storages, in which order, and whether it helped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from backupd.app import App
from backupd.errors import BackupdError
from backupd.home import Home
from backupd.jobs.verifications import Wish, verify_account
from backupd.repair import PATIENCE, Progress, Repair
from backupd.repair.mirror import repair_mirror
from backupd.repair.vaults import copy_from, heal_vault, hopeless
from backupd.vaults.vault import Vault
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
    with changing(home) as record:
        stages = [_Stage(app, home, vault, record, repair) for vault in vaults]
        for stage in stages:
            progress(f"{home.address}: {stage.vault.storage}")
            stage.heal()
        progress(f"{home.address}: the mirror and the catalog")
        unreadable = {each.vault.storage for each in stages if each.unreadable}
        _mirror(app, home, [each for each in app.vaults(home) if each.storage not in unreadable], repair)  # fmt: skip
        for stage in stages:
            progress(f"{home.address}: {stage.vault.storage}")
            stage.fill()
    if dry_run:
        return repair, []
    progress(f"{home.address}: verified")
    levels = Wish((LISTING, PACKS), storage, everything=True)
    return repair, list(verify_account(app, home, levels))


def _mirror(app: App, home: Home, vaults: Sequence[Vault], repair: Repair) -> None:
    try:
        repair_mirror(home, vaults, app.config.state_dir / "tmp", repair)
    except BackupdError as error:
        repair.cannot(str(error), error.hint)


@dataclass
class _Stage:
    """One vault on its way: first what is bad goes out of it, then the mirror goes in again.

    Attributes:
        unreadable: reading from it would fail, or take for ever.
        healed: something was taken out.
        lost: snapshots are gone.
    """

    app: App
    home: Home
    vault: Vault
    record: Record
    repair: Repair
    unreadable: bool = False
    healed: bool = False
    lost: bool = False

    def heal(self) -> None:
        """Take out what is bad; without it, reading fails at once instead of being tried again and again."""
        packs = verify_packs(self.home, self.vault, self.record, _everything(self.app))
        why = hopeless(packs.flaws)
        self.unreadable = why is not None or (packs.damaged and self.repair.dry_run)
        if why is not None:
            self.repair.cannot(*why)
            return
        try:
            if packs.damaged:
                heal_vault(self.home, self.vault, packs, self.repair)
                self.healed = True
        except BackupdError as error:
            self.unreadable = True
            self.repair.cannot(f"{self.vault.storage}: {error}", error.hint or LEFT)

    def fill(self) -> None:
        """Whatever the mirror has goes in again; older snapshots come from another storage."""
        if self.unreadable:
            return
        scratch = self.app.config.state_dir / "tmp"
        listing = verify_listing(self.home, self.vault, self.record, _everything(self.app), scratch)
        self.lost = any(each.kind in LOST for each in listing.flaws)
        if self.repair.dry_run or not (listing.flaws or self.healed):
            return
        try:
            _snapshot(self.app, self.home, self.vault, self.repair)
            _older(self)
        except BackupdError as error:
            self.repair.cannot(f"{self.vault.storage}: {error}", error.hint or LEFT)

    def lacks(self) -> bool:
        """Whether anything is still missing in it."""
        return verify_packs(self.home, self.vault, self.record, _everything(self.app)).damaged


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


def _older(stage: _Stage) -> None:
    """Older snapshots that are gone or lack something come from another storage."""
    if not stage.lost and not stage.lacks():
        return
    for other in stage.app.vaults(stage.home):
        if other.storage != stage.vault.storage:
            with suppress(BackupdError):
                copy_from(stage.vault, other, stage.repair)
                stage.lost = False
    if stage.lost or stage.lacks():
        stage.repair.cannot(f"{stage.vault.storage}: {GONE}", STAY)


def _everything(app: App) -> Pace:
    return Pace(
        time.time(), app.config.verify.read_all, app.config.schedule.verify, everything=True
    )


def exit_code(repairs: Sequence[Repair], found: Sequence[Verification]) -> int:
    """0 when all is whole afterwards, 5 when something is not, 1 when something could not be tried."""
    codes = [each.exit_code for each in found]
    left = 1 if any(each.left for each in repairs) else 0
    return 5 if 5 in codes else max([left, *codes])  # noqa: PLR2004 - integrity
