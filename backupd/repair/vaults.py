"""A vault, healed from the mirror and from the other storages.

Nothing that can still be read is removed: bad packs, indexes and snapshot files are moved aside where
the storage is a folder of this machine, else restic takes them out of its index after it has saved
what is whole of them. Old snapshots stay, also those that lost something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backupd.errors import VaultError
from backupd.home import Home
from backupd.mirror.files import hash_file
from backupd.repair import PATIENCE, Repair
from backupd.vaults.restic import Repository
from backupd.vaults.vault import Vault
from backupd.verify.findings import Flaw, Verification

REPAIRS = (0, 16)
"""The restic that knows `repair packs`; before it, only `rebuild-index`."""

HASHED = ("index", "snapshots", "data")
"""Folders of a repository whose files are named by the SHA-256 of what is in them."""

OPEN_AGAIN = "Give back the password file, or the key file of the repository from a copy of it: nothing else opens it."
MOUNT = "Mount the storage, or give back its address. To begin a new vault on purpose: `backupd init --vault ADDRESS`."
NEWER = "Use restic 0.16 or later (`restic` in the configuration): older ones cannot take bad packs out of a storage that is no folder."


def hopeless(flaws: Sequence[Flaw]) -> tuple[str, str] | None:
    """Why a vault cannot be healed from here, and what to do; None when it can be tried."""
    for flaw in flaws:
        if flaw.kind == "vault-closed":
            return flaw.what, OPEN_AGAIN
        if flaw.kind in {"vault-gone", "vault-replaced", "vault-emptied", "no-vault"}:
            return flaw.what, MOUNT
        if flaw.kind in {"locked", "read-only"}:
            return flaw.what, flaw.hint
    return None


def heal_vault(home: Home, vault: Vault, found: Verification, repair: Repair) -> None:
    """Take what is bad out of the way and rebuild the indexes. Raises as `Repository.run`."""
    named = [flaw.where for flaw in found.flaws if flaw.kind == "vault-file"]
    if repair.dry_run:
        repair.did(f"{vault.storage}: bad files would be kept aside, indexes rebuilt, and a new snapshot made.")  # fmt: skip
        return
    with home.at_vault(vault.storage, patience=PATIENCE):
        folder = _folder(vault.repository)
        if folder is not None:
            _move_bad(folder, vault.storage, repair)
        _rebuild(vault, named, repair, folder=folder)


def copy_from(vault: Vault, other: Vault, repair: Repair) -> None:
    """Copy the snapshots of another storage in, with every pack that is lacking. Raises as `Repository.run`."""
    theirs = _as_source(other.repository)
    clash = {name for name, value in other.repository.environment.items() if vault.repository.environment.get(name, value) != value}  # fmt: skip
    if clash:
        repair.cannot(
            f"{other.storage} and {vault.storage} need different values of {', '.join(sorted(clash))}: nothing was copied between them.",
            "`restic copy` by hand, with --from-repo and an rclone remote for one of them.",
        )
        return
    before = {each.tree for each in vault.snapshots()}
    lacking = [each.id for each in other.snapshots() if each.tree not in before]
    mixed = replace(vault.repository, environment={**other.repository.environment, **vault.repository.environment, **theirs})  # fmt: skip
    ids = lacking or [each.id for each in other.snapshots()]
    replace(vault, repository=mixed).run(["copy", *ids])
    repair.did(f"{vault.storage}: {len(ids)} snapshots were copied from {other.storage}, with what was lacking.")  # fmt: skip


def _as_source(repository: Repository) -> dict[str, str]:
    word = "COMMAND" if isinstance(repository.password, str) else "FILE"
    return {
        "RESTIC_FROM_REPOSITORY": repository.location,
        f"RESTIC_FROM_PASSWORD_{word}": str(repository.password),
    }


def _folder(repository: Repository) -> Path | None:
    """The repository, where it is a folder of this machine."""
    place = Path(repository.location.removeprefix("local:"))
    return place if place.is_absolute() and (place / "config").is_file() else None


def _move_bad(folder: Path, storage: str, repair: Repair) -> None:
    """Every file whose bytes do not have the hash that is its name: all are read, since a check names not all."""
    for name in HASHED:
        for path in sorted(each for each in (folder / name).rglob("*") if each.is_file()):
            with path.open("rb") as file:
                bad = hash_file(file) != path.name
            if bad:
                inside = path.relative_to(folder)
                repair.keep(path, f"{storage}/{inside}")
                repair.did(f"{storage}: {inside} was damaged and is kept aside.")


def _rebuild(vault: Vault, named: Sequence[str], repair: Repair, *, folder: Path | None) -> None:
    modern = vault.repository.restic.version >= REPAIRS
    if folder is None and named and not modern:
        repair.cannot(f"{vault.storage} holds bad packs that cannot be taken out of it.", NEWER)
    if modern and folder is None and named:
        repair.aside.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:  # it saves a copy of each into the folder that it runs in
            vault.run(["repair", "packs", *named], folder=repair.aside)
        except VaultError as error:
            repair.cannot(f"{vault.storage}: {error}", NEWER)
    vault.run(["repair", "index"] if modern else ["rebuild-index"])
    repair.did(f"{vault.storage}: the index was written anew from the packs that are there.")
