"""How soon the command line answers: 100 accounts with 1,000,000 items in all, catalogs only, no service running.

Every command runs in a fresh process, as a person types it, several times; the median counts. The figures of `status`
are counted once per revision of a catalog and kept: the first call is measured apart. The peer is the limit: a second
for an answer, 0.3 seconds for the start of the program.

    python benchmarks/answers.py [--quick]    a table
    python benchmarks/answers.py --json       one object for the gate
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import estate
from figures import Run, figure, middle_of, peak_mb, tell

ACCOUNTS, ITEMS, QUICK = 100, 1_000_000, 50_000
ANSWER, START = 1.0, 0.3
ROUNDS, QUICK_ROUNDS = 5, 1

CONFIG = """
state_dir = "{state}"
[sources.contoso]
type = "imap"
host = "imap.invalid"
username = "nobody"
password_file = "{password}"
[storage.primary]
repository = "{vaults}/primary"
password_file = "{password}"
[storage.second]
repository = "{vaults}/second"
password_file = "{password}"
"""


@dataclass(frozen=True)
class Question:
    """What is typed, how soon it must be answered, and what the answer must hold."""

    name: str
    words: tuple[str, ...]
    limit: float
    holds: str


def questions(biggest: str) -> list[Question]:
    return [
        Question("--help", ("--help",), START, "status"),
        Question("version", ("version",), START, "backupd"),
        Question("status, first time", ("status",), ANSWER, "person0001"),
        Question("status", ("status",), ANSWER, "person0001"),
        Question("status --json", ("status", "--json"), ANSWER, '"cut_off_now"'),
        Question("snapshots", ("snapshots",), ANSWER, "person0001"),
        Question("ls", ("ls", "--account", biggest), ANSWER, "mail/"),
        Question("ls of a folder", ("ls", "mail/Inbox", "--account", biggest), ANSWER, ".eml"),
        Question("find a word", ("find", "project 77)"), ANSWER, "project 77)"),
        Question("find a glob", ("find", "*inbox*offer 12?4*"), ANSWER, "Offer 12"),
        Question("find an umlaut", ("find", "müller gmbh 47"), ANSWER, "Müller GmbH 47"),
        Question("find nothing", ("find", "no such words"), ANSWER, "0 found"),
    ]


def asked(question: Question, config: Path) -> Run:
    """One answer from a fresh process."""
    command = [sys.executable, "-m", "backupd", "--config", str(config), *question.words]
    before, began = _children(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    wall = time.monotonic() - began
    if done.returncode not in {0, 3} or question.holds not in done.stdout:
        raise SystemExit(f"{question.name}: exit code {done.returncode}\n{done.stdout[-500:]}{done.stderr[-500:]}")  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Run(wall, _children() - before, peak)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(folder: Path, items: int, rounds: int) -> list[tuple[Question, Run]]:
    estate.build(folder / "state", ACCOUNTS, items)
    (folder / "password").write_text("not used\n")
    config = folder / "config.toml"
    config.write_text(
        CONFIG.format(state=folder / "state", password=folder / "password", vaults=folder)
    )
    shares = estate.sizes(ACCOUNTS, items)
    biggest = estate.address(shares.index(max(shares)))
    found = []
    for question in questions(biggest):
        once = question.name == "status, first time"
        runs = [asked(question, config) for _ in range(1 if once else rounds)]
        found.append((question, middle_of(runs)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} items")
    given = parser.parse_args()
    items, rounds = (QUICK, QUICK_ROUNDS) if given.quick else (ITEMS, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), items, rounds)
    if given.json:
        each = [
            figure(f"backupd {question.name}", run.wall, question.limit, "the limit", 1.0)
            for question, run in found
        ]
        tell(each, max(run.peak_mb for _, run in found))
        return
    print(f"{ACCOUNTS} accounts, {items:,} items; median of {rounds} fresh processes")
    for question, run in found:
        verdict = "" if run.wall <= question.limit else f"  over {question.limit} s"
        print(f"  {question.name:20} {run.wall:6.2f} s  CPU {run.cpu:6.2f} s  peak {run.peak_mb:4.0f} MiB{verdict}")  # fmt: skip
    print(f"this benchmark itself: {peak_mb():.0f} MiB")


if __name__ == "__main__":
    main()
