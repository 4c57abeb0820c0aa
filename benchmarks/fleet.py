"""How far one machine goes: 10, 500 and 10,000 accounts in simulated time, under the limits that Microsoft documents.

No network: a model. A first backup is simulated from event to event: as many accounts at a time as there are workers, each
first its mail, then its files; between two events every worker goes as fast as its mailbox, the tenant's resource units, the
processor and the line allow together. What a day costs afterwards follows from measured costs of an operation.

    python benchmarks/fleet.py [--cores 4] [--workers 32] [--line 1000] [--json] [--quick]
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass

from figures import figure, peak_mb, tell

FLEETS = (10, 500, 10_000)
SEED = 20_240_229
HOUR, DAY = 3600.0, 86_400.0

MAILBOX = 16.0
"""Requests a second that backupd sends to a mailbox; 10,000 in 10 minutes and 4 at a time are allowed."""
UNITS = (
    (1_000, 1_250, 1.2e6),
    (5_000, 2_500, 2.4e6),
    (15_000, 3_750, 3.6e6),
    (50_000, 5_000, 4.8e6),
)
"""Up to so many licences: resource units a minute and a day, per application and tenant."""
UNITS_SENT = 1_000
"""Units a minute that backupd sends at most, whatever the size of the tenant: `backupd.limits`."""

MESSAGE_CPU, FILE_CPU = 1.2e-3, 3.0e-3
"""Seconds a message and a file in a first sync: graph_pull.py and graph_files.py, 2026-11-25."""
GLANCE_CPU, GLANCE_REQUESTS = 0.019, 3
SYNC_CPU, SYNC_REQUESTS = 0.034, 24
"""An account with nothing new: idle.py, 2026-11-25."""
RESTIC_CPU, RESTIC_FILE_CPU = 1.0, 30e-6
"""A snapshot: opening a vault (its key is made slow on purpose), and each file that is looked at: snapshot.py."""
BYTE_CPU = 8e-9
"""Hashing twice, writing and encrypting a byte."""
VAULT_SHARE, CATALOG_ROW = 0.78, 1_800
"""repository.py, and the size of a catalog of a million rows by a million."""

MESSAGES, MESSAGE_BYTES = 20_000, 60_000
FILES, FILE_BYTES = 3_000, 1_000_000
NEW_MAIL, NEW_FILES = 60, 15
"""Assumed of an account: what it holds on average (log-normal, sigma 1), and what comes in a working day of ten hours."""

GLANCE_EVERY, SYNC_EVERY, SNAPSHOT_EVERY = 60.0, 300.0, HOUR
BUSY, GOAL = 0.7, 1.5
"""Of a processor, beyond which queues grow; and a first sync beside what Microsoft allows."""


@dataclass(frozen=True)
class Machine:
    """Cores, accounts at a time, bytes a second of the line. One process syncs, so all syncs share one core."""

    cores: int
    workers: int
    line: float

    @property
    def restic_cores(self) -> float:
        """What is left for restic."""
        return max(0.5, self.cores - 1)


@dataclass
class Job:
    """What is left of an account's first sync."""

    messages: float
    files: float

    @property
    def mail(self) -> bool:
        return self.messages > 1e-6


@dataclass(frozen=True)
class First:
    """A first backup: seconds until all is in the mirror, and in the vault; what held it up, by share of the time."""

    mirrored: float
    vaulted: float
    held_up: str


@dataclass(frozen=True)
class Days:
    """An ordinary working day: shares of a core, requests, and the ages of the copies in seconds."""

    sync_core: float
    restic_cores: float
    requests: float
    mirror_age: float
    vault_age: float


def units(accounts: int) -> float:
    """Resource units a second that backupd uses of a tenant of so many licences."""
    for most, minute, day in UNITS:
        if accounts <= most:
            return min(UNITS_SENT / 60, minute / 60, day / DAY)
    return UNITS_SENT / 60


def estate(accounts: int) -> list[Job]:
    chance = random.Random(SEED)
    weights = [chance.lognormvariate(0, 1) for _ in range(accounts)]
    mean = sum(weights) / accounts
    return [Job(MESSAGES * each / mean, FILES * each / mean) for each in weights]


def allowed(accounts: int) -> float:
    """Seconds that a first sync takes by Microsoft's limits alone: the largest mailbox, or all files."""
    jobs = estate(accounts)
    return max(max(each.messages for each in jobs) / MAILBOX, sum(each.files for each in jobs) / units(accounts))  # fmt: skip


def first_backup(accounts: int, machine: Machine) -> First:
    waiting, active, clock = estate(accounts), [], 0.0
    waiting.reverse()
    held: dict[str, float] = {}
    bound = units(accounts)
    while waiting or active:
        while waiting and len(active) < machine.workers:
            active.append(waiting.pop())
        mail, files, why = _rates(active, bound, machine)
        step = min((each.messages / mail if each.mail else each.files / files) for each in active)
        clock += step
        held[why] = held.get(why, 0) + step
        for each in active:
            if each.mail:
                each.messages = max(0.0, each.messages - mail * step)
            else:
                each.files -= files * step
        active = [each for each in active if each.mail or each.files > 1e-6]
    reason = max(held, key=lambda each: held[each])
    read = accounts * (MESSAGES * MESSAGE_BYTES + FILES * FILE_BYTES)
    uploading = read * VAULT_SHARE / machine.line
    encrypting = (accounts * _restic(MESSAGES + FILES) + read * BYTE_CPU) / machine.restic_cores
    return First(clock, max(clock, uploading, encrypting) + _restic(MESSAGES + FILES), f"{reason} ({held[reason] / clock:.0%})")  # fmt: skip


def _rates(active: list[Job], bound: float, machine: Machine) -> tuple[float, float, str]:
    """Messages and files a second of each worker, and what keeps it from more."""
    mailing = sum(each.mail for each in active)
    filing = len(active) - mailing
    files = bound / filing if filing else 1.0
    core = mailing * MAILBOX * (MESSAGE_CPU + MESSAGE_BYTES * BYTE_CPU) + filing * files * (FILE_CPU + FILE_BYTES * BYTE_CPU)  # fmt: skip
    line = (mailing * MAILBOX * MESSAGE_BYTES + filing * files * FILE_BYTES) / machine.line
    tightest = max(core, line, 1.0)
    if tightest > 1.0:
        why = "the processor" if core >= line else "the line"
    else:
        why = "units of the tenant" if filing > mailing else "requests per mailbox"
    return MAILBOX / tightest, files / tightest, why


def _restic(files: float) -> float:
    return RESTIC_CPU + files * RESTIC_FILE_CPU


def ordinary_day(accounts: int, machine: Machine) -> Days:
    """By the busiest hour: a tenth of what a day brings."""
    arriving = accounts / (10 * HOUR) * (
        NEW_MAIL * (MESSAGE_CPU + MESSAGE_BYTES * BYTE_CPU) + NEW_FILES * (FILE_CPU + FILE_BYTES * BYTE_CPU)
    )  # fmt: skip
    looking = accounts * (GLANCE_CPU / GLANCE_EVERY + SYNC_CPU / SYNC_EVERY)
    snapshots = accounts * _restic(MESSAGES + FILES) / SNAPSHOT_EVERY
    requests = accounts * (GLANCE_REQUESTS / GLANCE_EVERY + SYNC_REQUESTS / SYNC_EVERY + (NEW_MAIL + 2 * NEW_FILES) / (10 * HOUR))  # fmt: skip
    sync_core = arriving + looking
    slow = max(1.0, sync_core / BUSY)
    wave = max(1.0, snapshots / (BUSY * machine.restic_cores))
    mirror_age = GLANCE_EVERY * slow
    return Days(sync_core, snapshots, requests, mirror_age, mirror_age + SNAPSHOT_EVERY * wave)


def ends(machine: Machine) -> tuple[int, int]:
    """The accounts up to which syncs keep their times, and up to which hourly snapshots do."""
    one = ordinary_day(1, machine)
    return int(BUSY / one.sync_core), int(BUSY * machine.restic_cores / one.restic_cores)


def disk(accounts: int) -> tuple[float, float]:
    """Bytes of mirrors and catalogs, and of one vault."""
    read = accounts * (MESSAGES * MESSAGE_BYTES + FILES * FILE_BYTES)
    return read + accounts * (MESSAGES + FILES) * CATALOG_ROW, read * VAULT_SHARE


def table(machine: Machine) -> list[str]:
    """Lines of Markdown."""
    lines = [
        "| accounts | first backup | held up by | mirror at most | vault at most | cores, syncs | cores, restic | requests/s | mirror | a vault |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for accounts in FLEETS:
        first, day, (mirror, vault) = first_backup(accounts, machine), ordinary_day(accounts, machine), disk(accounts)  # fmt: skip
        lines.append(
            f"| {accounts:,} | {first.vaulted / DAY:.1f} days | {first.held_up} | {day.mirror_age / 60:.0f} min old | {day.vault_age / HOUR:.1f} h old "
            f"| {day.sync_core:.2f} | {day.restic_cores:.2f} | {day.requests:.0f} | {mirror / 1e12:.2f} TB | {vault / 1e12:.2f} TB |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, default=4)
    parser.add_argument("--workers", type=int, default=32, help="[limits] workers")
    parser.add_argument("--line", type=float, default=1000.0, help="Mbit/s")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    asked = parser.parse_args()
    machine = Machine(asked.cores, asked.workers, asked.line * 1e6 / 8)
    if asked.json:
        tell([figure(f"first sync of {each} accounts", first_backup(each, machine).mirrored / DAY, allowed(each) / DAY, "what Microsoft's limits allow", GOAL, "days") for each in FLEETS[:2]], peak_mb())  # fmt: skip
        return
    print(f"{machine.cores} cores, {machine.workers} workers, {asked.line:.0f} Mbit/s; an account: {MESSAGES:,} messages, {FILES:,} files on average")  # fmt: skip
    print("\n".join(table(machine)))
    synced, snapshotted = ends(machine)
    print(f"Syncs keep their times up to {synced:,} accounts, hourly snapshots up to {snapshotted:,}.")  # fmt: skip


if __name__ == "__main__":
    main()
