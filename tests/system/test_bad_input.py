"""What a person does wrong, or a disk: a clear error with a hint, the right exit code, nothing lost."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from household import Household

Build = Callable[..., Household]
AMELIA = "amelia@harbourlight.example"

Said = subprocess.CompletedProcess[str]


@pytest.fixture
def house(build: Build) -> Household:
    return build(accounts=["amelia@*"], services=["mail"], people=1, messages=4, oddities=False)


def complains(said: Said, code: int, *words: str) -> None:
    """An error and a hint on stderr or in the result, no traceback, and the exit code."""
    text = said.stdout + said.stderr
    assert said.returncode == code, text
    assert "Traceback" not in text
    assert "error: " in text
    assert "hint: " in text
    for word in words:
        assert word in text, text


def test_unknown_keys_are_all_named_with_their_lines(house: Household) -> None:
    house.configure('[guard]\nshare = 7\ncolour = "red"\n[limits]\nworker = 3\n')
    complains(
        house.command("backup"),
        2,
        "3 problems",
        "guard.share",
        "guard.colour: unknown key",
        "limits.worker: unknown key",
        "config.toml:",
    )


def test_toml_that_is_no_toml(house: Household) -> None:
    house.config.write_text("state_dir = [")
    complains(house.command("status"), 2, "not valid TOML")


def test_no_configuration_at_all(house: Household) -> None:
    house.config.unlink()
    complains(house.command("status"), 2, "No configuration found", "backupd init")


def test_a_missing_secret_file(house: Household) -> None:
    (house.folder / "client_secret").unlink()
    complains(house.command("backup"), 2, "client_secret", "No such file")


def test_a_wrong_client_secret(house: Household) -> None:
    (house.folder / "client_secret").write_text("guessed")
    said = house.command("backup")
    complains(said, 1, "secret")
    assert "guessed" not in said.stdout + said.stderr


def test_a_wrong_tenant(house: Household) -> None:
    text = house.config.read_text().replace(
        house.tenant.tenant_id, "00000000-0000-0000-0000-000000000000"
    )
    house.config.write_text(text)
    complains(house.command("backup"), 4, "tenant")


def test_a_missing_permission_keeps_the_other_services(build: Build) -> None:
    house = build(
        accounts=["amelia@*"], services=["mail", "contacts"], people=1, messages=2, oddities=False
    )
    house.tenant.state.app.roles.discard("Contacts.Read")
    said = house.command("backup")
    complains(said, 1, AMELIA)
    assert list(house.home(AMELIA).mirror_path.rglob("*.eml"))
    doctor = house.command("doctor")
    assert doctor.returncode == 1
    assert "Contacts.Read" in doctor.stdout


def test_a_permission_missing_for_sites_keeps_every_person(build: Build) -> None:
    house = build(services=["mail", "files"], people=2, messages=2, oddities=False)
    house.tenant.state.app.roles.discard("Sites.Read.All")
    complains(house.command("backup"), 1, "sources.demo")
    assert list(house.home(AMELIA).mirror_path.rglob("*.eml"))
    assert len(house.app.vault(house.home(AMELIA)).snapshots()) == 1


def test_a_wrong_vault_password(house: Household) -> None:
    assert house.backup().exit_code == 0
    (house.folder / "password").write_text("something else")
    house.tenant.state.deliver("amelia", "inbox", b"Subject: next\r\n\r\nx\r\n")
    complains(house.command("backup"), 2, "password does not open the vault", "password_file")
    assert list(house.home(AMELIA).mirror_path.rglob("*next*")), "the mirror has it all the same"


def test_a_vault_that_vanished_is_not_begun_anew(house: Household) -> None:
    assert house.backup().exit_code == 0
    shutil.rmtree(house.folder / "vaults")
    house.tenant.state.deliver("amelia", "inbox", b"Subject: next\r\n\r\nx\r\n")
    complains(house.command("backup"), 2, "vanished", "--vault")
    assert not (house.folder / "vaults").exists()
    assert house.command("init", "--vault", AMELIA).returncode == 0
    assert house.command("backup").returncode == 0
    assert len(house.app.vault(house.home(AMELIA)).snapshots()) == 1


def test_no_restic(house: Household) -> None:
    house.config.write_text(
        house.config.read_text().replace(f"{house.folder}/restic", "/nowhere/restic")
    )
    complains(house.command("backup"), 2, "restic was not found", "apt install restic")


def test_a_restic_that_is_too_old(house: Household) -> None:
    (house.folder / "restic").write_text("#!/bin/sh\necho 'restic 0.12.1 compiled with go'\n")
    complains(house.command("backup"), 2, "too old", "0.14.0")


def test_two_runs_at_once_on_one_account(house: Household) -> None:
    assert house.command("sync").returncode == 0
    with (house.home(AMELIA).folder / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complains(house.command("backup"), 75, "Another backupd", AMELIA)
    assert house.command("backup").returncode == 0


def test_a_catalog_from_a_newer_version(house: Household) -> None:
    assert house.backup().exit_code == 0
    path = house.home(AMELIA).catalog_path
    with sqlite3.connect(path) as catalog:
        catalog.execute("PRAGMA user_version = 99")
    complains(house.command("backup"), 2, "newer backupd", "Nothing was changed")


def test_a_damaged_catalog_is_not_taken_for_an_empty_one(house: Household) -> None:
    assert house.backup().exit_code == 0
    path = house.home(AMELIA).catalog_path
    path.write_bytes(b"SQLite format 3\0" + os.urandom(4096))
    complains(house.command("backup"), 5, "damaged", "Move it aside")


def test_an_account_at_which_backupd_breaks_keeps_no_other_from_being_saved(build: Build) -> None:
    house = build(accounts=["*"], services=["mail"], people=2, messages=4, oddities=False)
    house.command("sync", AMELIA)
    mirror = house.home(AMELIA).mirror_path
    shutil.rmtree(mirror)
    mirror.write_text("a file where a folder belongs: nobody foresaw that")
    said = house.command("sync", "--json")
    found = {each["address"]: each for each in json.loads(said.stdout)["accounts"]}
    assert said.returncode == 1, said.stdout
    broken = json.dumps(found.pop(AMELIA))
    assert "File exists" in broken
    assert "Check the path" in broken
    assert "mistake in backupd" not in broken, "a disk is no mistake of ours"
    assert found
    assert "Traceback" not in said.stderr
    for address in found:
        assert list(house.home(address).mirror_path.rglob("*.eml")), address


def test_an_unknown_target_service_account_or_snapshot(house: Household) -> None:
    assert house.backup().exit_code == 0
    complains(house.command("restore", "--to", "nowhere"), 2, "no target 'nowhere'", "folder:PATH")
    complains(
        house.command("restore", "--to", "folder:/tmp/x", "--only", "mial"),
        2,
        "mial",
        "mail,calendar",
    )
    complains(house.command("restore", "--to", "folder:/tmp/x", "--account", "bob@x"), 2, "bob@x")
    complains(
        house.command("restore", "--to", "folder:/tmp/x", "--snapshot", "ffffffff"),
        2,
        "No such snapshot",
    )
    complains(house.command("restore", "--to", "folder:/proc/x"), 2, "/proc/x")
    complains(house.command("backup", "nobody@*"), 2, "No account matches")
    complains(house.command("frobnicate"), 2)


def test_errors_are_json_when_json_was_asked_for(house: Household) -> None:
    said = house.command("restore", "--to", "nowhere", "--json")
    assert said.returncode == 2
    assert json.loads(said.stdout)["error"]["hint"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_says_so_and_the_next_run_goes_on(build: Build, small_disk: Path) -> None:
    house = build(
        accounts=["amelia@*"], services=["files", "mail"], people=1, messages=3, oddities=False
    )
    state = house.tenant.state
    for number in range(12):
        state.put_file("amelia", f"big/{number}.bin", os.urandom(800_000))
    text = house.config.read_text().replace(f"{house.folder}/state", str(small_disk / "state"))
    house.config.write_text(text)
    complains(house.command("backup"), 1, "No space left", "Free some space")
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    said = house.command("backup")
    assert said.returncode == 0, said.stdout + said.stderr
    held = list(house.home(AMELIA).mirror_path.glob("files/*/big/*.bin"))
    assert len(held) == 12


def test_a_state_directory_that_cannot_be_written(house: Household) -> None:
    text = house.config.read_text().replace(f"{house.folder}/state", "/proc/backupd")
    house.config.write_text(text)
    complains(house.command("backup"), 2, "Cannot create")


def test_secrets_are_on_no_command_line_and_in_no_output(house: Household) -> None:
    said = house.command("--debug", "--verbose", "backup", "--json")
    assert said.returncode == 0, said.stderr
    started = "\n".join(house.restics())
    assert started
    for secret in ("correct horse battery staple", house.tenant.client_secret):
        assert secret not in said.stdout + said.stderr + started
        for path in house.home(AMELIA).folder.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes()
