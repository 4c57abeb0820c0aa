"""Seven days in some minutes: twenty accounts, faults, reloads, stops, kills; then everything is there.

And a week without a restart: memory, open files and threads late in it are what they were early, and
the schedule is kept.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from caretaker import Build, Caretaker, running, until
from household import Household, indexed, mail_in, true_mail

from backupd.daemon.evacuation import lock_of
from backupd.demo.faults import Fault
from backupd.home import home_of
from backupd.locks import exclusive

pytestmark = pytest.mark.slow

DAYS, DAY = 7, 12.0
"""A day, in seconds: 288 syncs of five minutes become two of six seconds."""
SYNC = 6.0
SCHEDULE = f'[schedule]\nsync = "{SYNC:.0f}s"\nfast = "3s"\nsnapshot = "24s"\n'
TROUBLE = ("throttle", "unavailable", "bad_gateway", "reset", "cut", "broken_json", "expired_token")
FOLDERS = ("inbox", "sentitems", "archive")
SETTLED = DAY
"""Seconds after which a process has loaded what it needs: what it holds then is what it may hold."""
LATEST = 8 * SYNC
"""Seconds between two syncs of an account at most, on a machine that does other things as well."""
SPARE = 12 << 20
"""Bytes that memory may differ by from one day to another: what an allocator keeps is not ours to say."""


def subject_of(mime: bytes) -> str:
    return mime.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()


@dataclass
class Life:
    """What happens to the people of a tenant."""

    house: Household
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    sent: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    count: int = 0

    @property
    def people(self) -> list[str]:
        users = self.house.tenant.state.directory.users
        return [user.upn.partition("@")[0] for user in users]

    def moment(self) -> None:
        """Mail comes, is moved, and now and then deleted."""
        state, rng = self.house.tenant.state, self.rng
        for alias in rng.sample(self.people, 4):
            self.count += 1
            subject = f"no {self.count} for {alias}"
            state.deliver(alias, rng.choice(FOLDERS), f"Subject: {subject}\r\n\r\nx\r\n".encode())
            self.sent[alias].add(subject)
        alias = rng.choice(self.people)
        letters = list(state.user(alias).mailbox.messages.values())
        if len(letters) > 4:
            state.move_message(alias, rng.choice(letters), rng.choice(FOLDERS))
        if len(letters) > 8 and rng.random() < 0.2:
            gone = rng.choice(letters)
            state.delete_message(alias, gone)
            self.sent[alias].discard(subject_of(gone.content.mime()))

    def upset(self) -> None:
        """One of the things that go wrong in a week."""
        kind, rng = self.rng.choice(TROUBLE), self.rng
        where = (
            "*/mailFolders*" if kind == "broken_json" else "*"
        )  # what is no JSON has no such trouble
        fault = Fault(kind, where, rate=rng.uniform(0.02, 0.2), times=rng.randrange(5, 40))
        self.house.tenant.faults.add(fault)

    def check(self) -> None:
        """What the vaults hold is what the people have: nothing missing, nothing twice, nothing old."""
        for alias in self.people:
            tree = self.house.restic_restore(f"{alias}@", self.house.folder / f"out-{alias}")
            held, true = mail_in(tree), true_mail(self.house.tenant.state, alias)
            assert not true - held, f"{alias} lacks {true - held}; {notes(tree)}"
            mailbox = self.house.tenant.state.user(alias).mailbox
            count = sum(
                len(each.messages) for each in mailbox.folders.values() if not each.is_search
            )
            assert held.total() == count, f"{alias}: twice, or long gone: {held}"


def notes(tree: Path) -> list[str]:
    """What was noted beside the messages."""
    return [f"{line['subject']}: {line['note']}" for _, line in indexed(tree, "mail") if line.get("note")]  # fmt: skip


def lived(build: Build) -> Life:
    house = build(
        accounts=["*"], services=["mail"], people=2, messages=3, oddities=False, extras=False
    )
    for number in range(18):
        house.tenant.state.add_user(f"person{number}", f"Person {number}")
    house.configure(SCHEDULE)
    return Life(house)


def disturb(service: Caretaker, rng: random.Random) -> bool:
    """A signal at a bad moment; whether the process is gone."""
    number = rng.choice([signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
    if number == signal.SIGKILL:
        os.killpg(service.process.pid, signal.SIGKILL)
        service.process.wait()
        return True
    service.signal(number)
    if number == signal.SIGTERM:
        assert service.process.wait(22) == 0
        return True
    return False


def test_after_a_week_of_trouble_nothing_is_missing_and_nothing_is_there_twice(
    build: Build,
) -> None:
    life = lived(build)
    starts, week_ends = 0, time.monotonic() + DAYS * DAY
    while time.monotonic() < week_ends:
        starts += 1
        with running(life.house) as service:
            gone = False
            while not gone and time.monotonic() < week_ends:
                life.moment()
                if life.rng.random() < 0.3:
                    life.upset()
                time.sleep(life.rng.uniform(0.3, 1.5))
                gone = life.rng.random() < 0.12 and disturb(service, life.rng)
    assert starts >= 3
    life.house.tenant.faults.clear()
    settle(life)
    life.check()


def hasten(life: Life) -> None:
    """Days are short here: what waits in a retry ledger, five minutes at first, is due now."""
    for path in (life.house.folder / "state/accounts").rglob("catalog.sqlite"):
        with closing(sqlite3.connect(path, timeout=30)) as catalog, catalog:
            catalog.execute("UPDATE retryrow SET next_try = 0")


def settle(life: Life) -> None:
    """Let everything come to its end, snapshots included, and stop."""
    hasten(life)
    with running(life.house) as service:
        end = time.monotonic() + 240
        while lacking := {each: gone for each in life.people if (gone := life.sent[each] - mirrored(life, each))}:  # fmt: skip
            assert time.monotonic() < end, f"still lacking: {lacking}"
            time.sleep(2)
        for verb in ("sync", "snapshot"):
            wait_for(service, verb, life.people)
        assert service.stop()[0] == 0


def wait_for(service: Caretaker, verb: str, people: list[str]) -> None:
    """Until a verb that begins from now on has ended well for everybody."""
    since = time.time()
    until(lambda: all(done(service, verb, each, since) for each in people), 120, every=2)


def done(service: Caretaker, verb: str, alias: str, since: float) -> bool:
    """Whether a verb began and ended well for an account after a moment."""
    run = service.ran(verb, alias)
    return bool(run.get("ok")) and run["ended"] - run["seconds"] > since


def mirrored(life: Life, alias: str) -> set[str]:
    """The subjects that the mirror of an account tells of."""
    home = home_of(life.house.folder / "state", "demo", f"{alias}@harbourlight.example")
    return {line.get("subject", "") for _, line in indexed(home.mirror_path, "mail")}


@dataclass(frozen=True)
class Sample:
    """What a process holds at one moment."""

    when: float
    memory: int
    files: int
    threads: int
    held: str = field(compare=False, repr=False, default="")


def sample(pid: int) -> Sample:
    told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            files.append(str(each.readlink()))
    memory = int(told["VmRSS"].split()[0]) << 10
    return Sample(
        time.monotonic(), memory, len(files), int(told["Threads"]), "\n".join(sorted(files))
    )


def watched(life: Life, service: Caretaker, ends: dict[str, set[float]]) -> Iterator[Sample]:
    """A week of faults and reloads; what the process holds twice a second, and when syncs ended."""
    began, reloads = time.monotonic(), 0
    while (passed := time.monotonic() - began) < DAYS * DAY:
        life.moment()
        if life.rng.random() < 0.3:
            life.upset()
        if passed > (reloads + 1) * 1.7 * DAY:
            reloads += 1
            service.signal(signal.SIGHUP)
        time.sleep(0.5)
        for alias in life.people:
            ends[alias].add(service.ran("sync", alias).get("ended", 0.0))
        yield sample(service.process.pid)


def at_rest(life: Life, service: Caretaker) -> Sample:
    """What it holds while nothing is at work: it stands aside for somebody who evacuates."""
    with exclusive(lock_of(life.house.folder / "state"), "an evacuation"):
        samples = []
        for _ in range(40):
            time.sleep(0.2)
            samples.append(sample(service.process.pid))
    return min(samples, key=lambda each: (each.files, each.threads))


def test_a_week_without_a_restart_costs_no_more_late_than_early_and_keeps_the_schedule(
    build: Build,
) -> None:
    life = lived(build)
    ends: dict[str, set[float]] = defaultdict(set)
    with running(life.house) as service:
        until(lambda: all(service.ran("snapshot", each).get("ok") for each in life.people), 120, every=1)  # fmt: skip
        rested = at_rest(life, service)
        began, wall = time.monotonic(), time.time()
        samples = list(watched(life, service, ends))
        lasted = time.time() - wall
        assert service.process.poll() is None
        later = at_rest(life, service)
    third = (DAYS * DAY - SETTLED) / 3
    early = [each.memory for each in samples if 0 <= each.when - began - SETTLED < third]
    late = [each.memory for each in samples if each.when - began >= DAYS * DAY - third]
    before, after = statistics.median(early), statistics.median(late)
    print(f"early and late: {before:,.0f} and {after:,.0f} bytes; at rest {rested} and {later}")
    assert after <= before + SPARE, f"memory grows from {before:,.0f} to {after:,.0f} bytes"
    assert later.files <= rested.files + 4, f"files stay open:\n{later.held}"
    assert later.threads <= rested.threads + 4
    for alias, moments in ends.items():
        found = sorted(each for each in moments if each >= wall)
        gaps = [then - sooner for sooner, then in zip([wall, *found], [*found, wall + lasted], strict=True)]  # fmt: skip
        assert max(gaps) <= LATEST, f"{alias} was not synced for {max(gaps):.0f} s"
        assert len(found) >= 0.3 * lasted / SYNC, f"{alias}: {len(found)} syncs in {lasted:.0f} s"
    life.house.tenant.faults.clear()
    settle(life)
    life.check()
