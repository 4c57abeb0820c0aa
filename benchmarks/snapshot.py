"""A snapshot with ten new messages in a mirror of 100,000, beside plain `restic backup` of the same tree.

Both vaults hold the whole tree already. In every round ten messages arrive, then each in turn writes its snapshot, in a fresh
process and in alternating order. Counted are wall time and by how much the files of the repository grew beyond the
deflated messages.

    python benchmarks/snapshot.py [--quick]    a table
    python benchmarks/snapshot.py --json       one object for the gate
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import heap
from figures import Run, figure, middle_of, tell

COUNT, QUICK, NEW = 100_000, 5_000, 10
ROUNDS, QUICK_ROUNDS = 5, 2
GOAL_WALL, GOAL_MB = 1.1, 0.1

CONFIG = """
state_dir = "{folder}/state"
[sources.contoso]
type = "imap"
host = "imap.invalid"
username = "nobody"
password_file = "{folder}/password"
[storage.primary]
repository = "{folder}/vault"
password_file = "{folder}/password"
"""


@dataclass(frozen=True)
class Round:
    """What both needed in one round, and by how much the repositories grew: bytes; `arrived` is the deflated mail."""

    ours: Run
    peer: Run
    ours_added: int
    peer_added: int
    arrived: int


def measured(command: list[str], folder: Path | None = None) -> tuple[Run, str]:
    """A command from start to end; its peak is that of the largest process so far."""
    before, began = _children(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    wall = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{command[:4]}: {done.stderr[-800:]}{done.stdout[-800:]}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Run(wall, _children() - before, peak), done.stdout


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def grown(repository: Path, work: Callable[[], Run]) -> tuple[Run, int]:
    """What a run needed, and by how many bytes the repository grew."""
    before = _bytes(repository)
    run = work()
    return run, _bytes(repository) - before


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def ours(folder: Path) -> Run:
    command = [sys.executable, "-m", "backupd", "--config", str(folder / "config.toml"), "snapshot", "--json"]  # fmt: skip
    run, said = measured(command)
    if not json.loads(said)["accounts"][0]["snapshot"]["made"]:
        raise SystemExit(f"ours made no snapshot: {said[:500]}")
    return run


def plain(folder: Path, mirror: Path) -> Run:
    command = ["restic", "-r", str(folder / "plain"), "--password-file", str(folder / "password")]
    where = ["--cache-dir", str(folder / "plain-cache"), "backup", "--json", "."]
    return measured([*command, *where], mirror)[0]


def measure(folder: Path, count: int, rounds: int) -> list[Round]:
    os.environ.pop("RESTIC_REPOSITORY", None)
    (folder / "password").write_text("a benchmark\n")
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    writer = heap.Writer(attachments=False)
    home = heap.home_for(folder / "state", "person@contoso.example")
    heap.lay(home, (writer.mail(number, count) for number in range(count)))
    subprocess.run(["restic", "-r", str(folder / "plain"), "--password-file", str(folder / "password"), "init"], check=True, capture_output=True)  # fmt: skip
    contenders: list[Callable[[], tuple[Run, int]]] = [
        lambda: grown(folder / "vault", lambda: ours(folder)),
        lambda: grown(folder / "plain", lambda: plain(folder, home.mirror_path)),
    ]
    for each in contenders:
        each()
    found = []
    for number in range(rounds):
        first = count + number * NEW
        mails = [writer.mail(each, count) for each in range(first, first + NEW)]
        heap.lay(home, iter(mails))
        arrived = sum(len(zlib.compress(mail.body)) for mail in mails)
        os.sync()
        order = (0, 1) if number % 2 else (1, 0)
        results = {which: contenders[which]() for which in order}
        found.append(Round(results[0][0], results[1][0], results[0][1], results[1][1], arrived))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} messages")
    asked = parser.parse_args()
    count, rounds = (QUICK, QUICK_ROUNDS) if asked.quick else (COUNT, ROUNDS)
    version = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True).stdout.split()[1]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), count, rounds)
    mine, peer = middle_of(each.ours for each in found), middle_of(each.peer for each in found)
    beyond = max(each.ours_added - each.arrived for each in found) / 1e6
    extra = max(each.ours_added - each.peer_added for each in found) / 1e6
    name = f"restic {version}"
    if asked.json:
        tell(
            [
                figure(f"snapshot of {count} messages, 10 new", mine.wall, peer.wall, name, GOAL_WALL),
                figure("bytes added beyond the messages", max(beyond, 0), GOAL_MB, "the limit", 1.0, "MB"),
            ],
            mine.peak_mb,
        )  # fmt: skip
        return
    print(f"{count:,} messages, {NEW} new, median of {rounds} rounds")
    for who, run in ((name, peer), ("ours", mine)):
        print(f"  {who:16} {run.wall:6.2f} s  CPU {run.cpu:6.2f} s")
    print(f"wall: {mine.wall / peer.wall:.2f} of it (goal {GOAL_WALL}); CPU: {mine.cpu / peer.cpu:.2f}")  # fmt: skip
    print(f"added beyond the messages: at most {beyond:.3f} MB (goal {GOAL_MB}), {extra:+.3f} MB beside plain restic")  # fmt: skip


if __name__ == "__main__":
    main()
