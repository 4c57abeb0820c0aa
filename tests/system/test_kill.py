"""SIGKILL at any moment of a backup: the next run makes everything right."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from household import Household, indexed, sha, true_files, true_mail

from backupd.errors import BackupdError

Build = Callable[..., Household]
AMELIA = "amelia@harbourlight.example"


def kill_after(house: Household, seconds: float) -> bool:
    """Start a backup and kill it with everything it started; True when it was still running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "backupd", "--config", str(house.config), "backup"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def unsettled(house: Household) -> list[str]:
    """What a finished run must not leave: drafts, journal rows, strays, rows without a file."""
    home = house.home(AMELIA)
    problems = [f"draft {path.name}" for path in (home.folder / "drafts").iterdir()]
    with sqlite3.connect(home.catalog_path) as catalog:
        problems += [f"journal {row}" for row in catalog.execute("SELECT path FROM journalrow")]
        problems += [f"dirty {row}" for row in catalog.execute("SELECT * FROM dirtyrow")]
        named = {
            f"{folder}/{name}": sha256
            for folder, name, sha256 in catalog.execute(
                "SELECT f.path, i.name, i.sha256 FROM itemrow i JOIN folderrow f ON f.id = i.folder"
            )
        }
    mirror = home.mirror_path
    lying = {
        path.relative_to(mirror).as_posix(): path
        for path in mirror.rglob("*")
        if path.is_file() and path.name not in {"index.jsonl", "account.json", "README.txt"}
    }
    problems += [f"stray {path}" for path in lying.keys() - named.keys()]
    problems += [f"lost {path}" for path in named.keys() - lying.keys()]
    problems += [
        f"other bytes {path}"
        for path in named.keys() & lying.keys()
        if sha(lying[path].read_bytes()) != named[path]
    ]
    told = [
        path
        for service in ("mail", "files", "calendar", "contacts")
        for path, _ in indexed(mirror, service)
    ]
    problems += [f"told twice {path}" for path in told if told.count(path) > 1]
    if len(told) != len(named):
        problems.append(f"{len(told)} index lines for {len(named)} items")
    return problems


def stir(house: Household, rng: random.Random, turn: int) -> None:
    """Let the tenant live on between two runs."""
    state = house.tenant.state
    mailbox = state.user("amelia").mailbox
    assert mailbox is not None
    for number in range(rng.randrange(6)):
        state.deliver(
            "amelia",
            rng.choice(["inbox", "archive", "sentitems"]),
            b"Subject: turn %d no %d\r\n\r\nx\r\n" % (turn, number),
        )
    messages = [m for m in mailbox.messages.values() if not mailbox.folders[m.folder].is_search]
    for message in rng.sample(messages, 2):
        state.move_message("amelia", message, rng.choice(["inbox", "archive"]))
    state.put_file(
        "amelia", f"Turns/{turn}/{rng.randrange(3)}.bin", rng.randbytes(rng.randrange(1, 400_000))
    )
    state.put_file("amelia", "Turns/again.bin", rng.randbytes(1000))
    if turn % 3 == 2:
        state.rename_item("amelia", f"Turns/{turn - 1}", f"was {turn - 1}")


def play(house: Household, moments: int, seed: int) -> int:
    rng = random.Random(seed)
    began = time.monotonic()
    assert house.command("backup").returncode in {0, 3}
    whole = time.monotonic() - began
    killed = 0
    for turn in range(moments):
        stir(house, rng, turn)
        killed += kill_after(house, rng.uniform(0.5, max(1.5, whole * 0.9)))
    stir(house, rng, moments)
    finished = house.command("backup")
    assert finished.returncode in {0, 3}, finished.stderr
    return killed


def check(house: Household, tmp_path: Path) -> None:
    assert unsettled(house) == []
    tree = house.restic_restore("amelia", tmp_path / "out")
    held = {line["sha256"] for _, line in indexed(tree, "mail")}
    assert {digest for _, digest in true_mail(house.tenant.state, "amelia")} <= held
    mailbox = house.tenant.state.user("amelia").mailbox
    assert mailbox is not None
    real = sum(len(folder.messages) for folder in mailbox.folders.values() if not folder.is_search)
    assert len(list((tree / "mail").rglob("*.eml"))) == real
    assert set(true_files(house.tenant.state, "amelia").values()) <= {
        line["sha256"] for _, line in indexed(tree, "files")
    }


def test_a_backup_killed_at_some_moments_is_whole_after_the_next(
    build: Build, tmp_path: Path
) -> None:
    house = build(accounts=["amelia@*"], people=1, messages=40)
    killed = play(house, 5, seed=1)
    assert killed >= 1
    check(house, tmp_path)


@pytest.mark.slow
def test_a_backup_killed_at_fifty_moments_is_whole_after_the_next(
    build: Build, tmp_path: Path
) -> None:
    house = build(accounts=["amelia@*"], people=1, messages=60)
    killed = play(house, 50, seed=2)
    assert killed >= 25
    check(house, tmp_path)


def test_a_first_backup_that_is_killed_goes_on_where_it_was(build: Build) -> None:
    house = build(accounts=["amelia@*"], people=1, messages=0, oddities=False, bulk_messages=900)
    process = subprocess.Popen(
        [sys.executable, "-m", "backupd", "--config", str(house.config), "backup"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not held(house):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = held(house)
    house.tenant.log.clear()
    assert house.command("backup").returncode == 0
    fetched = [each for each in house.tenant.log if each.path.endswith("/$value")]
    assert len(fetched) <= 900 + 10 - before
    assert unsettled(house) == []


def held(house: Household) -> int:
    """How many items the catalog names by now."""
    try:
        path = house.home(AMELIA).catalog_path
        with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) as catalog:
            return int(catalog.execute("SELECT COUNT(*) FROM itemrow WHERE size > 0").fetchone()[0])
    except (sqlite3.Error, BackupdError):
        return 0
