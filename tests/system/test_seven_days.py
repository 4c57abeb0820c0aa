"""Seven days in some minutes: twenty accounts, faults, reloads, stops, kills; then everything is there."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from caretaker import Caretaker, running, until
from household import Household, indexed

from backupd.demo.faults import Fault
from backupd.home import home_of

Build = Callable[..., Household]

DAYS = 7
DAY = 12.0
"""Seconds that stand for a day: 288 syncs of five minutes become six of two seconds."""
SCHEDULE = '[schedule]\nsync = "2s"\nfast = "1s"\nsnapshot = "6s"\n'
TROUBLE = ("throttle", "unavailable", "bad_gateway", "reset", "cut", "broken_json", "expired_token")


def upset(house: Household, rng: random.Random) -> None:
    """One of the things that go wrong in a week."""
    kind = rng.choice(TROUBLE)
    house.tenant.faults.add(Fault(kind, rate=rng.uniform(0.02, 0.2), times=rng.randrange(5, 40)))


def live(
    house: Household, people: list[str], rng: random.Random, sent: dict[str, set[str]]
) -> None:
    """One moment in the life of the tenant."""
    for alias in rng.sample(people, 4):
        subject = f"no {len(sent[alias])} of {alias}"
        folder = rng.choice(["inbox", "sentitems", "archive"])
        house.tenant.state.deliver(alias, folder, f"Subject: {subject}\r\n\r\nx\r\n".encode())
        sent[alias].add(subject)


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


@pytest.mark.slow
def test_after_a_week_of_trouble_nothing_is_missing(build: Build) -> None:
    house = build(
        accounts=["*"], services=["mail"], people=2, messages=3, oddities=False, extras=False
    )
    state, rng = house.tenant.state, random.Random(7)
    for number in range(18):
        state.add_user(f"person{number}", f"Person {number}")
    people = [user.upn.partition("@")[0] for user in state.directory.users]
    sent: dict[str, set[str]] = {each: set() for each in people}
    house.configure(SCHEDULE)
    starts = 0
    week_ends = time.monotonic() + DAYS * DAY
    while time.monotonic() < week_ends:
        starts += 1
        with running(house) as service:
            gone = False
            while not gone and time.monotonic() < week_ends:
                live(house, people, rng, sent)
                if rng.random() < 0.3:
                    upset(house, rng)
                time.sleep(rng.uniform(0.3, 1.5))
                gone = rng.random() < 0.12 and disturb(service, rng)
    assert starts >= 3
    house.tenant.faults.clear()
    with running(house) as service:
        until(lambda: all(sent[each] <= mirrored(house, each) for each in people), 120, every=2)
        until(lambda: all(service.ran("snapshot", each).get("ok") for each in people), 120, every=2)
        assert service.stop()[0] == 0
    for alias in rng.sample(people, 3):
        tree = house.restic_restore(alias, house.folder / f"out-{alias}")
        assert sent[alias] <= {line.get("subject") for _, line in indexed(tree, "mail")}


def mirrored(house: Household, alias: str) -> set[str]:
    """The subjects that the mirror of an account tells of."""
    home = home_of(house.folder / "state", "demo", f"{alias}@harbourlight.example")
    return {line.get("subject", "") for _, line in indexed(home.mirror_path, "mail")}
