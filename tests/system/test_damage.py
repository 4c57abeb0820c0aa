"""Damage of every kind we can think of: each is found by the level that claims to find it, named, and never called success."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from damages import (
    NO_HASH,
    add_folder_to_mirror,
    add_to_mirror,
    again,
    alter_account,
    alter_index,
    alter_same_size,
    clock_went_back,
    cut,
    fill,
    flip,
    held_by_another,
    home,
    largest,
    link,
    mails,
    remove,
    replace_vault,
    restic,
    rewrite,
    riddle,
    row,
    snapshot_file,
    snapshots,
    undo,
    unmount_when,
    vault,
)
from household import Household

from backupd.jobs.verifications import MIRROR, Wish, verify
from backupd.report.integrity import chain_of
from backupd.report.signing import signing_key
from backupd.verify.findings import Verdict, Verification

AMELIA = "amelia@harbourlight.example"


@pytest.fixture
def house(proven_copy: Household) -> Household:
    """What will be damaged."""
    proven_copy.configure()  # one storage: the other one has tests of its own
    return proven_copy


@dataclass(frozen=True)
class Fault:
    """What is done, which level finds it, and what it calls it."""

    do: Callable[[Household], object]
    level: int
    kinds: set[str]
    verdict: Verdict = Verdict.DAMAGED
    storage: str | None = "primary"


def here(
    do: Callable[[Household], object], kinds: set[str], verdict: Verdict = Verdict.DAMAGED
) -> Fault:
    """Found without asking a storage."""
    return Fault(do, 1, kinds, verdict, MIRROR)


FAULTS = {
    # in the vault
    "a bit of a pack flipped": Fault(lambda h: flip(largest(vault(h) / "data")), 2, {"vault-file"}),
    "bits of a pack flipped, seen by reading": Fault(lambda h: riddle(largest(vault(h) / "data")), 3, {"unreadable", "missing"}),
    "a pack truncated": Fault(lambda h: cut(largest(vault(h) / "data")), 2, {"vault-file"}),
    "a pack missing": Fault(lambda h: remove(largest(vault(h) / "data")), 2, {"vault-file"}),
    "an index damaged": Fault(lambda h: flip(largest(vault(h) / "index")), 2, {"vault-file", "vault-damaged"}),
    "an index missing": Fault(lambda h: remove(largest(vault(h) / "index")), 2, {"vault-file", "vault-damaged"}),
    "the newest snapshot damaged": Fault(lambda h: flip(snapshot_file(h)), 2, {"vault-file", "vault-damaged"}),
    "the newest snapshot missing": Fault(lambda h: remove(snapshot_file(h)), 1, {"snapshot-missing", "snapshot-vanished"}),
    "an older snapshot forgotten by somebody else": Fault(lambda h: restic(h, "forget", snapshots(h)[0]["id"]), 1, {"snapshot-vanished"}),
    "all snapshots forgotten": Fault(lambda h: restic(h, "forget", *(each["id"] for each in snapshots(h))), 1, {"vault-emptied", "snapshot-vanished"}),
    "an older snapshot rewritten": Fault(rewrite, 1, {"snapshot-rewritten"}),
    "a newer snapshot that we did not make": Fault(again, 1, {"snapshot-foreign"}, Verdict.UNPROVEN),
    "a snapshot from the future": Fault(lambda h: again(h, "--time", "2099-01-01 00:00:00"), 1, {"clock", "snapshot-foreign"}),
    "the key missing": Fault(lambda h: remove(largest(vault(h) / "keys")), 2, {"vault-closed"}),
    "the key damaged": Fault(lambda h: cut(largest(vault(h) / "keys")), 2, {"vault-closed", "vault-damaged"}),
    "the password changed": Fault(lambda h: (h.folder / "password").write_text("another"), 1, {"vault-closed"}),
    "the config of the vault damaged": Fault(lambda h: flip(vault(h) / "config"), 1, {"vault-closed", "vault-damaged"}),
    "the vault gone": Fault(lambda h: shutil.rmtree(vault(h)), 1, {"vault-gone"}),
    "the vault replaced by an empty one": Fault(lambda h: replace_vault(h, address=None), 1, {"vault-replaced", "vault-emptied", "snapshot-vanished"}),
    "the vault replaced by that of another account": Fault(lambda h: replace_vault(h, address="bob@example.org"), 1, {"vault-replaced", "vault-emptied", "snapshot-vanished"}),
    # around it
    "the storage gone in the middle of reading": Fault(lambda h: unmount_when(h, "dump"), 3, {"no-vault"}, Verdict.UNPROVEN),
    "the storage gone in the middle of a check": Fault(lambda h: unmount_when(h, "check"), 2, {"no-vault"}, Verdict.UNPROVEN),
    "somebody else at the vault": Fault(held_by_another, 2, {"locked"}, Verdict.UNPROVEN),
    "a full disk under the storage": Fault(fill, 2, {"read-only"}, Verdict.UNPROVEN),
    "the clock set back": here(clock_went_back, {"clock"}, Verdict.UNPROVEN),
    # in the catalog
    "the hash of a row altered": Fault(lambda h: row(h, NO_HASH), 1, {"altered", "index", "record"}, storage=None),
    "the hash of a row altered, seen by reading": Fault(lambda h: row(h, NO_HASH), 3, {"altered", "index"}),
    "the size of a row altered": here(lambda h: row(h, "UPDATE itemrow SET size = size + 1"), {"altered", "index"}),
    "the path of a row altered": here(lambda h: row(h, "UPDATE itemrow SET name = name || 'x'"), {"missing", "added", "index"}),
    "the path of a row leading outside": here(lambda h: row(h, "UPDATE itemrow SET name = '../../../../etc/passwd'"), {"missing", "added", "index", "catalog"}),
    "a row removed": Fault(lambda h: row(h, "DELETE FROM itemrow"), 1, {"added", "index", "record"}, storage=None),
    "the catalog overwritten": here(lambda h: home(h).catalog_path.write_bytes(b"no database" * 500), {"IntegrityError"}),
    # in the mirror
    "a file altered, its size and time as before": here(alter_same_size, {"altered"}),
    "a file truncated": here(lambda h: cut(mails(h)[0]), {"altered"}),
    "a file removed": here(lambda h: remove(mails(h)[0]), {"missing"}),
    "a file added": here(add_to_mirror, {"added"}),
    "a folder added": here(add_folder_to_mirror, {"added"}),
    "a file replaced by a link": here(lambda h: link(mails(h)[0]), {"altered"}),
    "index.jsonl altered": here(alter_index, {"index"}),
    "index.jsonl removed": here(lambda h: remove(mails(h)[0].parent / "index.jsonl"), {"index-missing"}),
    "account.json altered": here(alter_account, {"index"}),
    "account.json removed": here(lambda h: remove(home(h).mirror_path / "account.json"), {"index-missing"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_done_is_found_and_named(house: Household, name: str) -> None:
    fault = FAULTS[name]
    fault.do(house)
    try:
        found = verify(house.app, (), Wish((fault.level,), fault.storage))
    finally:
        undo()
    named = {flaw.kind for each in found for flaw in each.flaws}
    assert named, [each.verdict for each in found]
    assert named <= fault.kinds, [flaw.what for each in found for flaw in each.flaws]
    assert worst(found) is fault.verdict
    assert all(flaw.what and flaw.hint for each in found for flaw in each.flaws), found
    assert any(each.exit_code for each in found)


REPORTS: dict[str, tuple[Callable[[list[Path]], object], set[str]]] = {
    "a report altered": (lambda files: flip(files[0], 40), {"altered", "chain", "unreadable", "removed"}),
    "a report removed from the chain": (lambda files: remove(files[-1]), {"removed"}),
    "a signature swapped": (lambda files: shutil.copy(f"{files[0]}.sig", f"{files[1]}.sig"), {"altered"}),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTS)
def test_what_is_done_to_reports_is_found_and_named(house: Household, name: str) -> None:
    do, kinds = REPORTS[name]
    state = house.folder / "state"
    do(chain_of(state).files())
    found = {each.kind for each in chain_of(state).check(signing_key(state).public)}
    assert found
    assert found <= kinds


def test_what_a_killed_restic_left_locked_is_no_damage(house: Household) -> None:
    held_by_another(house)
    undo()
    assert list((vault(house) / "locks").iterdir())
    (found,) = verify(house.app, (), Wish((2,), "primary"))
    assert found.verdict is Verdict.WHOLE, found.flaws
    assert not list((vault(house) / "locks").iterdir())


def test_the_list_of_faults_is_as_long_as_promised() -> None:
    assert len(FAULTS) + len(REPORTS) >= 30


def worst(found: list[Verification]) -> Verdict:
    verdicts = {each.verdict for each in found}
    return next(each for each in (Verdict.DAMAGED, Verdict.UNPROVEN, Verdict.WHOLE) if each in verdicts)  # fmt: skip
