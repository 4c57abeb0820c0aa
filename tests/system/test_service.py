"""`backupd run` on a simulated tenant: it follows, obeys signals, and survives what happens to it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from caretaker import AMELIA, QUICK, Build, Caretaker, letter, running, small, subjects, until
from household import Household

from backupd.app import App
from backupd.config import load
from backupd.daemon.engine import Engine
from backupd.daemon.events import Bulletin, Event
from backupd.daemon.history import History
from backupd.demo.faults import Fault
from backupd.errors import BackupdError

LATER = '[schedule]\nsync = "1h"\nfast = "1h"\nsnapshot = "1h"\n'


def test_the_service_follows_what_happens_and_obeys(build: Build) -> None:
    house = small(build)
    state = house.tenant.state
    with running(house) as service:
        until(lambda: service.ran("snapshot", "amelia").get("ok"))
        state.deliver("amelia", "inbox", letter("arrived while it ran"))
        until(lambda: "arrived while it ran" in subjects(house))

        state.add_user("zelda", "Zelda New")
        state.deliver("zelda", "inbox", letter("welcome"))
        until(lambda: "welcome" in subjects(house, "zelda"))

        good = house.config.read_text()
        house.config.write_text(good + "\n[limits]\nworkers = 'many'\n")
        service.signal(signal.SIGHUP)
        until(lambda: "the old configuration stays in force" in service.log)
        state.deliver("amelia", "inbox", letter("after a bad reload"))
        until(lambda: "after a bad reload" in subjects(house))
        assert service.notices.has("RELOADING=1")

        house.accounts = ["zelda@*"]
        house.configure(QUICK)
        service.signal(signal.SIGHUP)
        until(lambda: "reloaded" in service.log)
        state.deliver("amelia", "inbox", letter("no longer ours"))
        state.deliver("zelda", "inbox", letter("still ours"))
        until(lambda: "still ours" in subjects(house, "zelda"))
        assert "no longer ours" not in subjects(house)

        code, seconds = service.stop()
        assert (code, seconds < 20) == (0, True)
        assert service.notices.has("STOPPING=1")
        assert service.state["stopped"]
        told = service.log.lower()
        assert "harbourlight" not in told
        assert not any(name in told for name in ("amelia", "zelda", "arrived"))


@pytest.mark.slow
def test_an_account_that_vanishes_is_told_once_and_the_others_go_on(build: Build) -> None:
    house = small(build, people=2)
    aliases = [user.upn.partition("@")[0] for user in house.tenant.state.directory.users]
    with running(house) as service:
        until(lambda: all(service.ran("sync", each).get("ok") for each in aliases))
        house.tenant.state.delete_user(aliases[1])
        until(lambda: "no longer among" in service.log)
        house.tenant.state.deliver(aliases[0], "inbox", letter("life goes on"))
        until(lambda: "life goes on" in subjects(house, aliases[0]))
        time.sleep(2.5)
        assert service.log.count("no longer among") == 1


def test_it_stops_in_time_in_the_middle_of_a_first_sync_and_goes_on_from_there(
    build: Build,
) -> None:
    house = small(build, bulk_messages=2_000)
    with running(house) as service:
        until(lambda: held(house) > 20)
        code, seconds = service.stop()
        assert (code, seconds < 20) == (0, True)
        assert "1 accounts known" not in service.log
    before = held(house)
    assert before < 2_000
    with running(house) as service:
        until(lambda: held(house) > before)
        service.kill()
    assert house.command("sync").returncode == 0
    assert held(house) >= 2_000


def held(house: Household) -> int:
    """How many messages the catalog names by now."""
    try:
        path = house.home(AMELIA).catalog_path
        with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) as catalog:
            query = "SELECT COUNT(*) FROM itemrow WHERE service = 'MAIL' OR service = 'mail'"
            return int(catalog.execute(query).fetchone()[0])
    except (sqlite3.Error, BackupdError):
        return 0


@pytest.mark.slow
def test_it_leaves_in_time_although_the_source_never_answers(build: Build) -> None:
    house = small(build)
    house.tenant.faults.add(Fault("hang", route="users/*/mailFolders*", seconds=100))
    with running(house) as service:
        until(lambda: any("mailFolders" in each.path for each in house.tenant.log), every=0.05)
        time.sleep(1)
        code, seconds = service.stop()
        assert (code, seconds < 20) == (0, True)
        house.tenant.faults.clear()


@pytest.mark.slow
def test_killed_with_everything_it_started_it_comes_back_and_goes_on(build: Build) -> None:
    house = small(build)
    for turn in range(3):
        with running(house) as service:
            house.tenant.state.deliver("amelia", "inbox", letter(f"turn {turn}"))
            time.sleep(0.7 * turn)
            service.kill()
    with running(house) as service:
        until(lambda: {f"turn {turn}" for turn in range(3)} <= subjects(house))
        until(lambda: service.ran("snapshot", "amelia").get("ok"))
    assert house.command("verify").returncode == 0


@pytest.mark.slow
def test_a_second_service_on_the_same_state_is_refused(build: Build) -> None:
    house = small(build)
    house.configure(LATER)
    with running(house):
        second = house.command("run", timeout=30)
    assert second.returncode == 75
    assert "is working on the service" in second.stderr


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda house: (house.folder / "client_secret").unlink(), "client secret"),
        (lambda house: (house.folder / "restic").unlink(), "restic was not found"),
        (lambda house: (house.folder / "state").write_text("a file"), "Cannot write"),
    ],
    ids=["no secret", "no restic", "no state directory"],
)
def test_what_keeps_it_from_beginning_is_said_and_it_is_never_ready(
    build: Build, spoil: Callable[[Household], Any], said: str
) -> None:
    house = small(build)
    spoil(house)
    with Caretaker(house) as service:
        assert service.process.wait(30) == 2
        assert said in service.log
        assert not service.notices.has("READY=1")


def test_the_watchdog_is_fed_and_lines_carry_priorities_for_the_journal(build: Build) -> None:
    house = small(build)
    with running(house, WATCHDOG_USEC="3000000", JOURNAL_STREAM="8:1") as service:
        until(lambda: service.notices.count("WATCHDOG=1") >= 2)
        until(lambda: service.ran("sync", "amelia").get("ok"))
        lines = service.log.splitlines()
        assert lines
        assert all(line.startswith(("<3>", "<4>", "<6>")) for line in lines)
        assert any("STATUS=" in text for _, text in service.notices.heard)


# -- in this process, to see what only an engine knows --------------------------------------------


def engine_of(house: Household) -> tuple[Engine, list[Event]]:
    app = App(load(house.config))
    heard: list[Event] = []
    app.config.state_dir.mkdir(parents=True, exist_ok=True)
    history = History(app.config.state_dir / "service.json")
    return Engine(app, history, Bulletin([heard.append])), heard


def runs(heard: list[Event], verb: str) -> Counter[str]:
    ended = [each for each in heard if each.kind == "run-ended" and each.facts["verb"] == verb]
    return Counter(each.address for each in ended)


@pytest.mark.slow
def test_twenty_accounts_on_one_worker_take_turns(build: Build) -> None:
    house = build(
        accounts=["*"], services=["calendar"], people=2, messages=0, oddities=False, extras=False
    )
    for number in range(18):
        house.tenant.state.add_user(f"person{number}", f"Person {number}")
    house.configure(
        '[limits]\nworkers = 1\n[schedule]\nsync = "0.2s"\nfast = "1h"\nsnapshot = "1h"\n'
    )
    engine, heard = engine_of(house)
    engine.start()
    try:
        until(lambda: sum(runs(heard, "sync").values()) >= 70, 60)
    finally:
        assert engine.stop(15)
    counts = runs(heard, "sync")
    assert len(counts) == 20
    assert max(counts.values()) <= 2 * min(counts.values()), counts


def test_glances_do_not_wait_behind_a_long_first_sync(build: Build) -> None:
    house = build(
        accounts=["*"], services=["mail"], people=3, messages=2, oddities=False, extras=False
    )
    assert house.command("sync").returncode == 0
    house.configure(
        '[limits]\nworkers = 1\n[schedule]\nsync = "1h"\nfast = "1s"\nsnapshot = "1h"\n'
    )
    first = house.tenant.state.directory.users[0]
    house.tenant.faults.add(Fault("hang", user=first.id, route="users/*/mailFolders", seconds=30))
    engine, heard = engine_of(house)
    engine.start()
    try:
        others = {user.upn for user in house.tenant.state.directory.users[1:]}
        until(lambda: min((runs(heard, "fast")[each] for each in others), default=0) >= 3)
    finally:
        house.tenant.faults.clear()
        engine.stop(10)


def test_a_glance_costs_one_small_request_for_each_urgent_collection(build: Build) -> None:
    house = small(build)
    assert house.command("sync").returncode == 0
    app = App(load(house.config))
    account = house.home(AMELIA).account()
    assert account is not None
    with app.source("demo") as source:
        app.glance_one(source, account)
        house.tenant.log.clear()
        outcome = app.glance_one(source, account)
    assert not outcome.errors
    asked = [each.path for each in house.tenant.log if "/token" not in each.path]
    assert len(asked) == 3, asked


def test_a_job_that_hangs_ends_the_feeding_of_the_watchdog(build: Build) -> None:
    house = small(build)
    house.tenant.faults.add(Fault("hang", route="users/*/mailFolders*", seconds=60))
    engine, _ = engine_of(house)
    engine.stuck_after = 1.0
    engine.start()
    try:
        assert engine.healthy
        until(lambda: not engine.healthy)
    finally:
        house.tenant.faults.clear()
        engine.stop(3)


def test_in_quiet_hours_only_glances_are_made(build: Build) -> None:
    house = small(build)
    assert house.command("sync").returncode == 0
    house.configure(QUICK + 'quiet_hours = "00:00-23:59"\n')
    if time.localtime()[3:5] == (23, 59):
        pytest.skip("it is the one minute of the day that is not quiet")
    engine, heard = engine_of(house)
    engine.start()
    try:
        until(lambda: runs(heard, "fast")[AMELIA] >= 2)
    finally:
        engine.stop(10)
    assert not runs(heard, "sync") + runs(heard, "snapshot")


def test_a_cut_off_is_told_to_those_who_listen_within_seconds(build: Build) -> None:
    house = small(build)
    engine, heard = engine_of(house)
    engine.start()
    try:
        until(lambda: runs(heard, "sync")[AMELIA])
        house.tenant.cut_off("licence_removed", "amelia")
        told = until(lambda: [each for each in heard if each.kind == "state-changed"])
    finally:
        engine.stop(10)
    assert told[-1].address == AMELIA
    assert told[0].facts["before"].state == "healthy"


def test_install_service_says_what_to_type(build: Build, tmp_path: Path) -> None:
    house = small(build)
    said: subprocess.CompletedProcess[str] = house.command(
        "install-service", "--root", str(tmp_path / "root")
    )
    assert said.returncode == 0, said.stderr
    assert "systemctl enable --now backupd.service" in said.stdout
    unit = (tmp_path / "root/etc/systemd/system/backupd.service").read_text()
    assert f"--config {house.config} run" in unit
