"""Looking at a large mailbox in which nothing has changed: ours beside mbsync.

100,000 small messages in 200 folders of one Dovecot on loopback. Both have had all of it; measured is the run after that, each
in a process of its own.

    python benchmarks/imap_nothing_new.py [--quick]    a table
    python benchmarks/imap_nothing_new.py --json       one object for the gate
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from figures import Run, figure, middle_of, tell
from imap_pull import USER, alone, installed, made, mbsync, ours
from servers.dovecot import Dovecot, dovecot
from servers.process import give

COUNT, FOLDERS = 100_000, 200
QUICK, QUICK_FOLDERS = 2_000, 40
ROUNDS = 5
GOAL = 1.0


def generate(maildir: Path, count: int, folders: int) -> None:
    """Messages, the same on every run, into a Maildir that Dovecot serves."""
    for folder in range(folders):
        for each in ("cur", "new", "tmp"):
            (maildir / f".Folder {folder:03d}" / each).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        body = (
            f"From: p{number % 97}@example.org\r\nDate: Thu, 29 Feb 2024 12:00:00 +0000\r\n"
            f"Message-ID: <{number}@example.org>\r\nSubject: Message {number}\r\n\r\nText {number}\r\n"
        )
        name = f"{1_700_000_000 + number}.M{number}.bench:2,S"
        (maildir / f".Folder {number % folders:03d}" / "cur" / name).write_bytes(body.encode())


def compare(count: int, folders: int) -> tuple[dict[str, Run], dict[str, Run]]:
    """First runs, then the medians of several with nothing new, by contender."""
    first: dict[str, Run] = {}
    after: dict[str, list[Run]] = {"mbsync": [], "ours": []}
    with tempfile.TemporaryDirectory() as place, dovecot() as server:
        generate(server.maildir(USER), count, folders)
        give(server.folder / "mail")
        for name in after:
            first[name] = _had(name, server, Path(place), count)
        for _ in range(ROUNDS):
            for name, runs in after.items():
                runs.append(_had(name, server, Path(place), 0))
    return first, {name: middle_of(runs) for name, runs in after.items()}


def _had(name: str, server: Dovecot, place: Path, wanted: int) -> Run:
    """A run of a contender, which must have had so many messages."""
    os.sync()
    folder = made(place / name)
    work = mbsync(server, folder, fsync=False) if name == "mbsync" else alone(ours, server, folder)
    run, got = work
    if got != wanted:
        raise SystemExit(f"{name}: {got} messages instead of {wanted}")
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} messages in {QUICK_FOLDERS} folders")  # fmt: skip
    asked = parser.parse_args()
    count, folders = (QUICK, QUICK_FOLDERS) if asked.quick else (COUNT, FOLDERS)
    peer = f"{installed()}, FSync no"
    first, after = compare(count, folders)
    mine, other = after["ours"], after["mbsync"]
    if asked.json:
        name = f"nothing new in {folders} folders, wall"
        tell([figure(name, mine.wall, other.wall, peer, GOAL)], mine.peak_mb)
        return
    print(f"{count:,} messages in {folders} folders, Dovecot on loopback")
    for what, runs in (("the first run", first), ("nothing new", after)):
        print(what)
        for who, run in ((peer, runs["mbsync"]), ("ours", runs["ours"])):
            print(
                f"  {who:28} {run.wall:7.2f} s  CPU {run.cpu:6.2f} s  peak {run.peak_mb:4.0f} MiB"
            )
    print(f"nothing new: {mine.wall / other.wall:.2f} of mbsync (goal {GOAL})")


if __name__ == "__main__":
    main()
