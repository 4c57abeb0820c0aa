"""How large the vaults are: 100,000 messages of ten people with attachments that several of them have.

Measured is the size of the restic repositories against the sum of the messages' bytes: with and without compression, a
vault for each account (the default) and one for all (`shared = true`). The index files and account.json count as ours. The
peer is the same messages, each deflated by itself: what compression alone gives.

    python benchmarks/repository.py [--quick]    a table
    python benchmarks/repository.py --json       one object for the gate
"""

from __future__ import annotations

import argparse
import random
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import heap
from figures import figure, peak_mb, tell

from backupd.app import App
from backupd.config import Config

COUNT, QUICK, PEOPLE = 100_000, 1_000, 10
GOAL = 1.1
"""What indexes, trees and packs may cost beyond the deflated messages."""

WAYS = {
    "a vault each, compressed": ("auto", False),
    "a vault each, as it is": ("off", False),
    "one vault, compressed": ("auto", True),
    "one vault, as it is": ("off", True),
}
"""`compression` and `shared` of [storage.NAME]."""


@dataclass(frozen=True)
class Sizes:
    """Bytes: of the messages, of the messages deflated one by one, of the repositories by way."""

    messages: int
    deflated: int
    vaults: dict[str, int]


def app_of(folder: Path) -> App:
    (folder / "password").write_text("a benchmark\n")
    storages = {
        f"way{number}": {
            "repository": str(folder / f"way{number}"),
            "password_file": str(folder / "password"),
            "compression": compression,
            "shared": shared,
        }
        for number, (compression, shared) in enumerate(WAYS.values())
    }
    source = {"type": "imap", "host": "imap.invalid", "username": "nobody", "password_file": str(folder / "password")}  # fmt: skip
    return App(
        Config.model_validate(
            {"state_dir": str(folder / "state"), "sources": {"contoso": source}, "storage": storages}
        )
    )  # fmt: skip


def measure(folder: Path, count: int) -> Sizes:
    app = app_of(folder)
    chance = random.Random(heap.SEED)
    total, sampled, deflated = 0, 0, 0
    each = count // PEOPLE
    for person in range(PEOPLE):
        writer = heap.Writer(person)
        home = heap.home_for(app.config.state_dir, f"person{person}@contoso.example")
        total += heap.lay(home, (writer.mail(number, each) for number in range(each)))
        for number in chance.sample(range(each), each // 10):
            body = writer.mail(number, each).body
            sampled, deflated = sampled + len(body), deflated + len(zlib.compress(body))
    for outcome in app.snapshot().outcomes:
        if outcome.errors:
            raise outcome.errors[0]
    vaults = {name: _bytes(folder / f"way{number}") for number, name in enumerate(WAYS)}
    return Sizes(total, total * deflated // sampled, vaults)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} messages")
    parser.add_argument("--count", type=int, default=COUNT, help="messages")
    asked = parser.parse_args()
    count = QUICK if asked.quick else asked.count
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), count)
    if asked.json:
        tell(
            [
                figure(f"repository of {count} messages, {name}", size / 1e6, found.deflated / 1e6, "each message deflated", GOAL, "MB")
                for name, size in found.vaults.items()
                if WAYS[name][0] == "auto"
            ],
            peak_mb(),
        )  # fmt: skip
        return
    print(f"{count:,} messages of {PEOPLE} people, {found.messages / 1e6:.0f} MB; each deflated by itself {found.deflated / found.messages:.2f} of that")  # fmt: skip
    for name, size in found.vaults.items():
        print(f"  {name:26} {size / 1e6:8.1f} MB  {size / found.messages:.2f} of the messages")


if __name__ == "__main__":
    main()
