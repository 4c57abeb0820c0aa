"""Damage of every kind we can think of: each is found by the level that claims to find it, named, and never called success."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from household import PASSWORD, Household

from backupd.home import Home
from backupd.report import chain_of
from backupd.signing import signing_key
from backupd.verifications import Wish, verify
from backupd.verify.findings import Verdict, Verification
from backupd.verify.record import changing

AMELIA = "amelia@harbourlight.example"


@pytest.fixture
def house(proven_copy: Household) -> Household:
    """What will be damaged."""
    proven_copy.configure()  # one storage: the other one has tests of its own
    return proven_copy


RUNNING: list[subprocess.Popen[bytes]] = []
MOUNTED: list[Path] = []


# -- what is done -----------------------------------------------------------------------------


def vault(house: Household) -> Path:
    (found,) = (house.folder / "vaults").glob("demo/*")
    return found


def home(house: Household) -> Home:
    return house.home(AMELIA)


def mails(house: Household) -> list[Path]:
    return sorted(home(house).mirror_path.glob("mail/Inbox/*/*.eml"))


def largest(folder: Path) -> Path:
    return max((each for each in folder.rglob("*") if each.is_file()), key=lambda each: each.stat().st_size)  # fmt: skip


def flip(path: Path, at: int = -1) -> None:
    """One bit."""
    data = bytearray(path.read_bytes())
    data[at if at >= 0 else len(data) // 3] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def riddle(path: Path) -> None:
    """A bit in every blob."""
    for at in range(0, path.stat().st_size - 1000, 200):
        flip(path, at)


def cut(path: Path) -> None:
    path.chmod(0o600)
    os.truncate(path, path.stat().st_size // 2)


def remove(path: Path) -> None:
    path.chmod(0o600)
    path.unlink()


def restic(
    house: Household, *arguments: str, repository: Path | None = None, cwd: Path | None = None
) -> str:
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(repository or vault(house))}  # fmt: skip
    said = subprocess.run(["restic", *arguments], env=environment, cwd=cwd, capture_output=True, text=True, check=True)  # fmt: skip
    return said.stdout


def snapshots(house: Household) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = json.loads(restic(house, "snapshots", "--json", "--no-lock"))
    return sorted(listed, key=lambda each: each["time"])


def snapshot_file(house: Household) -> Path:
    return vault(house) / "snapshots" / snapshots(house)[-1]["id"]


NO_HASH = "UPDATE itemrow SET sha256 = '" + "0" * 64 + "'"


def row(house: Household, change: str) -> None:
    """Alter one message of the catalog, behind our back."""
    with sqlite3.connect(home(house).catalog_path) as database:
        one = "(SELECT id FROM itemrow WHERE service = 'MAIL' ORDER BY id LIMIT 1)"
        assert database.execute(f"{change} WHERE id = {one}").rowcount == 1
    database.close()


def again(house: Household, *options: str) -> None:
    """A snapshot of another tree, under the tags of the newest."""
    (house.folder / "other").mkdir()
    (house.folder / "other" / "x").write_text("something else")
    newest = snapshots(house)[-1]
    tags = [word for tag in newest["tags"] for word in ("--tag", tag)]
    restic(house, "backup", ".", "--host", AMELIA, *tags, *options, cwd=house.folder / "other")


def rewrite(house: Household) -> None:
    oldest = snapshots(house)[0]
    moment = oldest["time"][:19].replace("T", " ")
    again(house, "--time", moment)
    made = next(each for each in snapshots(house) if each["time"][:19] == oldest["time"][:19] and each["id"] != oldest["id"])  # fmt: skip
    del made
    restic(house, "forget", oldest["id"])
    with changing(home(house)) as record:  # a rewrite keeps the time to the last digit
        known = record.vault("primary")["snapshots"]
        known[oldest["id"]][0] = next(each["time"] for each in snapshots(house) if each["time"][:19] == oldest["time"][:19])  # fmt: skip


def clock_went_back(house: Household) -> None:
    with changing(home(house)) as record:
        for each in record.last.values():
            each.began = time.time() + 86_400


def replace_vault(house: Household, *, address: str | None) -> None:
    place = vault(house)
    shutil.rmtree(place)
    restic(house, "init", repository=place)
    if address:
        (house.folder / "theirs").mkdir()
        (house.folder / "theirs" / "x").write_text("x")
        restic(house, "backup", ".", "--tag", f"backupd,account:{address}", repository=place, cwd=house.folder / "theirs")  # fmt: skip


def unmount_when(house: Household, verb: str) -> None:
    """The disk of the vault goes away as soon as restic is started for something."""
    (house.folder / "restic").write_text(
        f'#!/bin/sh\n[ "$1" = {verb} ] && mv "{vault(house)}" "{house.folder}/gone"\nexec restic "$@"\n'
    )


def fill(house: Household) -> None:
    """Move the vault onto a disk without room."""
    place, kept = vault(house), house.folder / "kept"
    place.rename(kept)
    place.mkdir()
    size = sum(each.stat().st_size + 8192 for each in kept.rglob("*")) + 65536
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], capture_output=True, check=False)  # fmt: skip
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    MOUNTED.append(place)
    subprocess.run(["cp", "-a", f"{kept}/.", str(place)], check=True)
    with contextlib.suppress(OSError), (place / "rest").open("wb", buffering=0) as rest:
        while rest.write(bytes(4096)):
            pass


def held_by_another(house: Household) -> None:
    """Somebody else is at the vault for a minute."""
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(vault(house))}  # fmt: skip
    command = "sleep 60 | restic backup --stdin --quiet"
    RUNNING.append(subprocess.Popen(["sh", "-c", command], env=environment, start_new_session=True))
    until = time.monotonic() + 20
    while not list((vault(house) / "locks").iterdir()) and time.monotonic() < until:
        time.sleep(0.05)


def add_to_mirror(house: Household) -> None:
    mails(house)[0].with_name("2026-01-01T000000Z_planted.eml").write_text(
        "Subject: planted\r\n\r\n"
    )


def add_folder_to_mirror(house: Household) -> None:
    folder = home(house).mirror_path / "mail" / "Planted" / "2026-01"
    folder.mkdir(parents=True)
    (folder / "x.eml").write_text("Subject: planted\r\n\r\n")


def link(path: Path) -> None:
    """Another file in its place that reads the same until somebody changes it."""
    other = path.rename(path.parent.parent.parent.parent.parent / "elsewhere")
    path.symlink_to(other)


def alter_same_size(house: Household) -> None:
    path = mails(house)[0]
    before = path.stat()
    flip(path, 3)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def alter_text(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def alter_account(house: Household) -> None:
    alter_text(home(house).mirror_path / "account.json", '"items": 1', '"items": 9')


def alter_index(house: Household) -> None:
    index = mails(house)[0].parent / "index.jsonl"
    alter_text(index, '"subject"', '"subjekt"')


@dataclass(frozen=True)
class Fault:
    """What is done, which level finds it, and what it calls it."""

    do: Callable[[Household], object]
    level: int
    kinds: set[str]
    verdict: Verdict = Verdict.DAMAGED


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
    "the clock set back": Fault(clock_went_back, 1, {"clock"}, Verdict.UNPROVEN),
    # in the catalog
    "the hash of a row altered": Fault(lambda h: row(h, NO_HASH), 1, {"altered", "index", "record"}),
    "the hash of a row altered, seen by reading": Fault(lambda h: row(h, NO_HASH), 3, {"altered"}),
    "the size of a row altered": Fault(lambda h: row(h, "UPDATE itemrow SET size = size + 1"), 1, {"altered", "index"}),
    "the path of a row altered": Fault(lambda h: row(h, "UPDATE itemrow SET name = name || 'x'"), 1, {"missing", "added", "index"}),
    "the path of a row leading outside": Fault(lambda h: row(h, "UPDATE itemrow SET name = '../../../../etc/passwd'"), 1, {"missing", "added", "index", "catalog"}),
    "a row removed": Fault(lambda h: row(h, "DELETE FROM itemrow"), 1, {"added", "index", "record"}),
    "the catalog overwritten": Fault(lambda h: home(h).catalog_path.write_bytes(b"no database" * 500), 1, {"IntegrityError"}),
    # in the mirror
    "a file altered, its size and time as before": Fault(alter_same_size, 1, {"altered"}),
    "a file truncated": Fault(lambda h: cut(mails(h)[0]), 1, {"altered"}),
    "a file removed": Fault(lambda h: remove(mails(h)[0]), 1, {"missing"}),
    "a file added": Fault(add_to_mirror, 1, {"added"}),
    "a folder added": Fault(add_folder_to_mirror, 1, {"added"}),
    "a file replaced by a link": Fault(lambda h: link(mails(h)[0]), 1, {"altered"}),
    "index.jsonl altered": Fault(alter_index, 1, {"index"}),
    "index.jsonl removed": Fault(lambda h: remove(mails(h)[0].parent / "index.jsonl"), 1, {"index-missing"}),
    "account.json altered": Fault(alter_account, 1, {"index"}),
    "account.json removed": Fault(lambda h: remove(home(h).mirror_path / "account.json"), 1, {"index-missing"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_done_is_found_and_named(house: Household, name: str) -> None:
    fault = FAULTS[name]
    fault.do(house)
    try:
        found = verify(house.app, (), Wish((fault.level,)))
    finally:
        _end()
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
    _end()
    assert list((vault(house) / "locks").iterdir())
    (found,) = verify(house.app, (), Wish((2,), "primary"))
    assert found.verdict is Verdict.WHOLE, found.flaws
    assert not list((vault(house) / "locks").iterdir())


def test_the_list_of_faults_is_as_long_as_promised() -> None:
    assert len(FAULTS) + len(REPORTS) >= 30


def worst(found: list[Verification]) -> Verdict:
    verdicts = {each.verdict for each in found}
    return next(each for each in (Verdict.DAMAGED, Verdict.UNPROVEN, Verdict.WHOLE) if each in verdicts)  # fmt: skip


def _end() -> None:
    """End what a fault has started."""
    while RUNNING:
        process = RUNNING.pop()
        os.killpg(process.pid, 9)
        process.wait()
    while MOUNTED:
        subprocess.run(["umount", str(MOUNTED.pop())], check=True)
