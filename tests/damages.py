"""Ways to damage a household: what lies in its vaults, its catalog and its mirror."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from household import PASSWORD, Household

from backupd.home import Home
from backupd.verify.record import changing

AMELIA = "amelia@harbourlight.example"

RUNNING: list[subprocess.Popen[bytes]] = []
MOUNTED: list[Path] = []


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


def undo() -> None:
    """End what a fault has started."""
    while RUNNING:
        process = RUNNING.pop()
        os.killpg(process.pid, 9)
        process.wait()
    while MOUNTED:
        subprocess.run(["umount", str(MOUNTED.pop())], check=True)
