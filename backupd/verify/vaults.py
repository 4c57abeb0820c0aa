"""Which snapshot of a vault is looked at, and whether the vault is still the one that it was.

A vault is remembered by its own id, and its snapshots by theirs: another vault in its place, an
empty one, snapshots that vanished or were rewritten are flaws, also when what lies there is in
itself whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from backupd.catalog import Catalog
from backupd.errors import UserError
from backupd.home import Home
from backupd.mirror.names import parse_time
from backupd.model import Snapshot
from backupd.vaults.forgotten import forgotten
from backupd.vaults.vault import Vault, accounts_in
from backupd.verify.findings import Flaw, Verification
from backupd.verify.places import Place, in_catalog, in_index
from backupd.verify.record import Record

AHEAD = 300.0
"""Seconds by which another machine's clock may differ."""

MOUNTED = "Is the storage mounted and its address right? If the vault is lost: `backupd repair` begins a new one."
FOREIGN = "Does another machine back up this account as well? If nobody knows who made it, look at it with `backupd ls --snapshot`."
CLOCK = "`timedatectl` shows the clock; set it right. Ages and retention go by it."
REMAKE = "`backupd repair` makes a new one from the mirror."
FORGOTTEN = "If somebody removed them on purpose, run `backupd verify` once more: it is told once."


@dataclass(frozen=True, slots=True)
class Subject:
    """A snapshot that is looked at.

    Attributes:
        current: whether it holds exactly what the catalog describes now.
    """

    vault: Vault
    snapshot: Snapshot
    current: bool


def subject(
    home: Home, catalog: Catalog, vault: Vault, record: Record, found: Verification
) -> Subject | None:
    """The newest snapshot that this machine made, else the newest; None, with the reason in `found`, when the vault cannot be looked at.

    Raises as `Repository.run` when the storage does not answer.
    """
    expected = catalog.get(f"snapshot:{vault.storage}:id")
    try:
        identity = identity_of(vault)
        snapshots = vault.snapshots()
    except UserError as error:
        if expected and error.reason in {"no-vault", "wrong-password"}:
            kind = "vault-gone" if error.reason == "no-vault" else "vault-closed"
            found.note(Flaw(kind, vault.storage, _lost(kind, vault), error.hint))
            return None
        raise
    known = record.vault(vault.storage)
    for flaw in _changed(vault, known, identity, snapshots, expected):
        found.note(flaw)
    ours = forgotten(home.folder, vault.storage)
    for flaw in _vanished(known.get("snapshots", {}), ours, snapshots):
        found.note(flaw)
    roots = known.get("roots", {})
    known["roots"] = {each.id: roots[each.id] for each in snapshots if each.id in roots}
    known.update(
        {"id": identity, "snapshots": {each.id: [each.time, each.tree] for each in snapshots}}
    )
    if not snapshots:
        return None
    made = [each for each in snapshots if expected and each.id.startswith(expected)]
    newest = (made or snapshots)[-1]
    found.snapshot = newest.id
    same = bool(expected) and newest.id.startswith(expected)
    revision = catalog.get(f"snapshot:{vault.storage}:revision")
    return Subject(vault, newest, same and revision == str(catalog.revision))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What must lie in a snapshot: called, every item in the order of its tree.

    Attributes:
        by: by whose word: the `catalog`'s, or the `snapshot`'s own index files, where the catalog has moved on.
    """

    by: str
    places: Callable[[], Iterator[Place]]

    def __call__(self) -> Iterator[Place]:
        """From the beginning."""
        return self.places()


@contextmanager
def recorded(subject: Subject, catalog: Catalog, scratch: Path) -> Iterator[Recorded]:
    """What must lie in a snapshot. Raises as `Vault.extract`."""
    if subject.current:
        yield Recorded("catalog", partial(in_catalog, catalog))
        return
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    with TemporaryDirectory(dir=scratch, prefix="verify-") as folder:
        subject.vault.extract(subject.snapshot, Path(folder), ["index.jsonl", "account.json"])
        yield Recorded("snapshot", partial(in_index, Path(folder)))


def _lost(kind: str, vault: Vault) -> str:
    if kind == "vault-gone":
        return f"The vault of {vault.address} has vanished from {vault.repository.label}."
    return (
        f"The vault at {vault.repository.label} no longer opens: another password, or its key file "
        "is gone or damaged."
    )


def _changed(
    vault: Vault, known: dict[str, Any], identity: str, snapshots: list[Snapshot], expected: str
) -> Iterator[Flaw]:
    """Whether it is the vault that it was, and holds what it must."""
    label, storage = vault.repository.label, vault.storage
    ours = bool(expected) and any(each.id.startswith(expected) for each in snapshots)
    if known.get("id", identity) != identity:
        what = f"Another vault lies at {label} than before (its id is {identity[:8]})."
        yield Flaw("vault-replaced", storage, what, MOUNTED)
    if expected and not snapshots:
        others = ", ".join(accounts_in(vault.repository)[:5]) or "nobody"
        what = f"The vault at {label} holds no snapshot of {vault.address}; it holds those of {others}."
        yield Flaw("vault-emptied", storage, what, MOUNTED)
    elif expected and not ours:
        what = (
            f"Snapshot {expected[:8]}, the newest of {vault.address}, is not in {label} any more."
        )
        yield Flaw("snapshot-missing", expected[:8], what, REMAKE)
    newest = snapshots[-1:]
    if ours and not newest[0].id.startswith(expected):
        what = f"Snapshot {newest[0].short_id} in {storage} is newer than the last that this machine made ({expected[:8]})."
        yield Flaw("snapshot-foreign", newest[0].short_id, what, FOREIGN, damage=False)
    ahead = [each for each in snapshots if _seconds(each.time) > time.time() + AHEAD]
    if ahead:
        what = f"Snapshot {ahead[0].short_id} says {ahead[0].time[:19]}, which is still to come by this clock."
        yield Flaw("clock", ahead[0].short_id, what, CLOCK)


def _vanished(
    known: dict[str, list[str]], ours: set[str], snapshots: list[Snapshot]
) -> Iterator[Flaw]:
    """Snapshots that were there at the last look. A change of tags alone keeps time and tree."""
    there = {each.id for each in snapshots}
    same = {(each.time, each.tree) for each in snapshots}
    times = {each.time for each in snapshots}
    for key, (moment, tree) in known.items():
        if key in there or key in ours or (moment, tree) in same:
            continue
        kind, word = ("rewritten", "was rewritten") if moment in times else ("vanished", "vanished")
        what = f"Snapshot {key[:8]} of {moment[:19]} {word}, and not by backupd."
        yield Flaw(f"snapshot-{kind}", key[:8], what, FORGOTTEN)


def must_exist(vault: Vault) -> None:
    """Raises when it is the storage that is gone, not something in it."""
    if not vault.repository.exists():
        raise UserError(
            f"The vault of {vault.address} went away from {vault.repository.label} while it was read.",
            hint=MOUNTED,
            reason="no-vault",
        )


def identity_of(vault: Vault) -> str:
    """The id that restic gave the vault when it was made. Raises as `Repository.run`."""
    with vault.repository.stream(["cat", "config", "--no-lock"]) as out:
        text = out.read()
    return str(json.loads(text)["id"])


def _seconds(moment: str) -> float:
    parsed = parse_time(moment)
    return parsed.timestamp() if parsed else 0.0
