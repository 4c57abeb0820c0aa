"""Repair: what is whole somewhere is whole everywhere afterwards, and nothing that was bad is destroyed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from damages import (  # fmt: skip
    add_to_mirror,
    alter_account,
    alter_index,
    alter_same_size,
    cut,
    flip,
    home,
    largest,
    mails,
    remove,
    row,
    snapshot_file,
    snapshots,
    vault,
)
from household import PASSWORD, Household

from backupd.jobs.repairs import repair_account
from backupd.jobs.verifications import Wish, verify
from backupd.verify.findings import Verdict


@pytest.fixture
def house(proven_copy: Household) -> Household:
    """With two storages."""
    return proven_copy


def repair(house: Household, *more: str) -> tuple[int, dict[str, Any]]:
    said = house.command("repair", "--json", *more)
    assert said.stdout, said.stderr
    return said.returncode, json.loads(said.stdout)["repairs"][0]


def mirror_in_five_ways(house: Household) -> None:
    alter_index(house)
    alter_account(house)
    remove(mails(house)[1])
    alter_same_size(house)
    add_to_mirror(house)


def vault_in_three_ways(house: Household) -> None:
    remove(largest(vault(house) / "data"))
    flip(largest(vault(house) / "data"))
    remove(largest(vault(house) / "index"))


HEALED: dict[str, tuple[Callable[[Household], object], bool]] = {
    "the mirror in five ways": (mirror_in_five_ways, True),
    "the vault in three ways": (vault_in_three_ways, True),
    "the catalog overwritten": (lambda h: home(h).catalog_path.write_bytes(b"none" * 500), True),
    "a row removed": (lambda h: row(h, "DELETE FROM itemrow"), True),
    "a file altered": (alter_same_size, True),
    "a file removed": (lambda h: remove(mails(h)[0]), False),
    "a file added": (add_to_mirror, True),
    "index.jsonl altered": (alter_index, True),
    "account.json altered": (alter_account, True),
    "a row altered": (lambda h: row(h, "UPDATE itemrow SET sha256 = upper(sha256)"), True),
    "a pack damaged": (lambda h: flip(largest(vault(h) / "data")), True),
    "a pack missing": (lambda h: remove(largest(vault(h) / "data")), False),
    "every pack truncated": (lambda h: [cut(each) for each in (vault(h) / "data").rglob("*") if each.is_file()], True),
    "an index missing": (lambda h: remove(largest(vault(h) / "index")), False),
    "the newest snapshot damaged": (lambda h: flip(snapshot_file(h)), True),
    "the newest snapshot missing": (lambda h: remove(snapshot_file(h)), False),
}  # fmt: skip
"""What is done, and whether there is something bad to keep."""


QUICK = 3
"""Those that are tried every time; the others one by one take a while."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=[pytest.mark.slow] if number >= QUICK else [])
        for number, each in enumerate(HEALED)
    ],
)
def test_what_is_whole_somewhere_is_whole_again(house: Household, name: str) -> None:
    do, keeps = HEALED[name]
    do(house)
    code, told = repair(house)
    assert code == 0, told
    assert told["healed"]
    assert bool(told["aside"]) is keeps, told
    assert all(each.verdict is Verdict.WHOLE for each in verify(house.app, (), Wish()))


def test_when_all_is_well_nothing_is_done(house: Household) -> None:
    code, told = repair(house, "--storage", "primary")
    assert code == 0
    assert told["healed"] == told["left"] == []
    assert not (home(house).folder / "aside").exists()


def test_a_dry_run_changes_nothing(house: Household) -> None:
    remove(mails(house)[0])
    flip(largest(vault(house) / "data"))
    count = len(mails(house))
    code, told = repair(house, "--dry-run")
    assert len(told["healed"]) == 2, told
    assert len(mails(house)) == count
    assert len(snapshots(house)) == 2
    assert not told["aside"]
    assert code == 0


@pytest.mark.slow
def test_older_snapshots_come_back_from_the_other_storage(
    house: Household, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those whose items the mirror no longer has."""
    monkeypatch.setattr("backupd.verify.packs.QUICK", 8.0)
    path = mails(house)[0]
    bytes_ = path.read_bytes()
    row(house, "DELETE FROM itemrow")  # gone at the source since
    path.unlink()
    for each in (vault(house) / "data").rglob("*"):
        if each.is_file():
            remove(each)
    told, found = repair_account(house.app, home(house), "primary", dry_run=False, progress=lambda _: None)  # fmt: skip
    assert any("copied from second" in line for line in told.healed), told
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD}
    for snapshot in snapshots(house):
        target = house.folder / "back" / snapshot["short_id"]
        subprocess.run(["restic", "-r", str(vault(house)), "restore", snapshot["id"], "--target", str(target)], check=True, capture_output=True, env=environment)  # fmt: skip
        assert any(each.read_bytes() == bytes_ for each in target.rglob("*.eml"))
    assert all(each.verdict is Verdict.WHOLE for each in found), told


def test_an_item_that_nobody_has_any_more_is_asked_for_again(house: Household) -> None:
    shutil.rmtree(vault(house))
    shutil.rmtree(house.folder / "second")
    remove(mails(house)[0])
    code, told = repair(house)
    assert code == 5
    assert any("in no vault" in each["what"] for each in told["left"])
    assert all(each["hint"] for each in told["left"])
    assert not vault_exists(house), "a vault that is gone may be unmounted: none is begun"


def vault_exists(house: Household) -> bool:
    return any((house.folder / "vaults").glob("demo/*/config"))


def test_a_vault_that_does_not_open_is_left_alone(house: Household) -> None:
    remove(largest(vault(house) / "keys"))
    before = sorted(str(each) for each in vault(house).rglob("*"))
    said = house.command("repair", "--storage", "primary")
    assert said.returncode == 5
    assert "NOT healed" in said.stdout
    assert "key file" in said.stdout
    assert sorted(str(each) for each in vault(house).rglob("*")) == before
