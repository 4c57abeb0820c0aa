"""The bell tells what matters once, in words that help, and never holds a backup up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from holdings import DAY, HOUR, an_app, held
from servers.receivers import Receiver, hanging, receiver

from backupd.alerts.bell import Bell
from backupd.alerts.tidings import Changed, Cycle, Event, Found, Ran
from backupd.app import Outcome, Run
from backupd.cutoff.incidents import Incidents
from backupd.cutoff.verdict import Case, Cause, Evidence, State
from backupd.daemon.events import Bulletin
from backupd.errors import AuthError, TransientError
from backupd.ports import Finding
from backupd.sync.account import SyncResult
from backupd.vaults.storages import Round

ALICE, BOB = "alice@contoso.example", "bob@contoso.example"
NOW = time.time()


class Clock:
    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def post() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


class House:
    """A state directory, its incidents, and a bell that is new at every ring."""

    def __init__(self, state: Path, *urls: str, **alerts: Any) -> None:
        self.state, self.clock = state, Clock()
        self.app = an_app(state, alerts={"urls": urls, **alerts})
        self.incidents = Incidents(state)

    def ring(self, *events: Event) -> None:
        """As a process of its own."""
        bell = Bell(self.app, gather=0.2, clock=self.clock)
        for event in events:
            bell.heard(event)
        bell.close()

    def refuse(self, address: str, times: int, *, began: float = NOW) -> list[Changed]:
        scope = f"contoso/{address}"
        changes = [
            self.incidents.hear(scope, Evidence(began + 60 * n, "user", Cause.ACCOUNT, "50057", "User account is disabled."))
            for n in range(times)
        ]  # fmt: skip
        return [Changed(*each) for each in changes if each[0].state is not each[1].state]

    def accept(self, address: str) -> list[Changed]:
        scope = f"contoso/{address}"
        changes = [self.incidents.hear(scope, Evidence(NOW, "user", Cause.NONE)) for _ in range(3)]
        return [Changed(*each) for each in changes if each[0].state is not each[1].state]


def run_of(*results: tuple[str, Exception | None]) -> Ran:
    outcomes = []
    for address, error in results:
        outcome = Outcome(address, "contoso", error=error)  # type: ignore[arg-type]
        outcome.sync = None if error else SyncResult(None)  # type: ignore[arg-type]
        outcomes.append(outcome)
    return Ran(Run(outcomes))


def test_a_suspicion_says_what_happened_what_is_safe_and_what_to_type(
    tmp_path: Path, post: Receiver
) -> None:
    held(tmp_path, ALICE)
    held(tmp_path, BOB)
    house = House(tmp_path, post.url)
    house.ring(*house.refuse(ALICE, 2))
    (told,) = post.told
    assert told["title"] == f"{ALICE} may have been cut off: the account was disabled or deleted"
    assert told["type"] == "failure"
    for words in (
        "It said: User account is disabled.",
        "FROZEN",
        f"{ALICE}: mail, calendar up to 2 min ago. Newest copies: primary ",
        f"backupd status {ALICE}",
        f"backupd restore --account {ALICE} --to TARGET --dry-run",
    ):
        assert words in told["message"]
    assert BOB not in told["message"]


def test_every_state_is_told_once_whatever_is_restarted(tmp_path: Path, post: Receiver) -> None:
    held(tmp_path, ALICE)
    house = House(tmp_path, post.url)
    for times in (2, 0, 40):
        house.ring(*house.refuse(ALICE, times), run_of((ALICE, None)))
        house.ring(run_of((ALICE, None)))
    assert [subject.partition(":")[0] for subject in post.subjects] == [
        f"{ALICE} may have been cut off",
        "CUT OFF",
    ]
    house.ring(*house.accept(ALICE))
    assert post.subjects[2:] == [f"{ALICE}: backups work again"]


def test_an_account_that_is_cut_off_again_is_told_at_once(tmp_path: Path, post: Receiver) -> None:
    held(tmp_path, ALICE)
    house = House(tmp_path, post.url)
    for _ in range(2):
        house.ring(*house.refuse(ALICE, 2))
        house.ring(*house.accept(ALICE))
    assert len(post.told) in {3, 4}  # "work again" may be left out the second time: it is good news
    assert "may have been cut off" in post.subjects[2]


def test_what_changed_while_nobody_could_be_told_is_told_later(
    tmp_path: Path, post: Receiver
) -> None:
    held(tmp_path, ALICE)
    house = House(tmp_path, post.url)
    post.status = 500
    house.ring(*house.refuse(ALICE, 2))
    assert len(post.told) == 1
    post.status = 200
    house.ring(run_of((ALICE, None)))
    assert post.subjects[0] == post.subjects[1]


def test_a_whole_tenant_is_one_message(tmp_path: Path, post: Receiver) -> None:
    house = House(tmp_path, post.url)
    changes = []
    for number in range(30):
        held(tmp_path, f"user{number}@contoso.example", copies={} if number == 7 else None)
        changes += house.refuse(f"user{number}@contoso.example", 2)
    house.ring(*changes)
    (told,) = post.told
    assert told["title"].startswith("30 accounts of contoso may have been cut off")
    assert "1 of 30 accounts have NO copy in any vault" in told["message"]
    assert "and 20 more" in told["message"]
    assert len(told["message"]) < 4000


def test_a_freeze_that_lasts_is_told_again_after_a_while(tmp_path: Path, post: Receiver) -> None:
    held(tmp_path, ALICE)
    house = House(tmp_path, post.url, repeat="6h")
    house.ring(*house.refuse(ALICE, 2))
    house.clock.ahead = 5 * HOUR
    house.ring(run_of((ALICE, None)))
    assert len(post.told) == 1
    house.clock.ahead = 7 * HOUR
    house.ring(run_of((ALICE, None)))
    house.ring(run_of((ALICE, None)))
    assert post.subjects[1].startswith(f"Still cut off: {ALICE}")
    assert len(post.told) == 2


def test_runs_that_fail_are_told_when_it_lasts_and_when_it_is_over(
    tmp_path: Path, post: Receiver
) -> None:
    held(tmp_path, ALICE)
    house = House(tmp_path, post.url, failures=3)
    wrong = AuthError("The secret has expired.", hint="Make a new one.", reason="credential")
    for _ in range(5):
        house.ring(run_of((ALICE, wrong)))
    assert post.subjects == [f"{ALICE}: sync failed 3 times: The secret has expired."]
    assert "Make a new one." in post.told[0]["message"]
    house.ring(run_of((ALICE, None)))
    house.ring(run_of((ALICE, None)))
    assert post.subjects[1:] == [f"{ALICE}: backups work again"]


def test_a_cut_off_is_not_told_again_as_a_run_that_fails(tmp_path: Path, post: Receiver) -> None:
    held(tmp_path, ALICE)
    house = House(tmp_path, post.url, failures=1)
    house.ring(*house.refuse(ALICE, 2), run_of((ALICE, AuthError("Refused.", reason="account"))))
    assert len(post.told) == 1
    assert "cut off" in post.subjects[0]


def test_another_run_at_the_same_account_is_no_failure(tmp_path: Path, post: Receiver) -> None:
    held(tmp_path, ALICE)
    house = House(tmp_path, post.url, failures=1)
    house.ring(run_of((ALICE, TransientError("busy", reason="busy"))))
    assert post.told == []


def test_copies_that_grow_old_are_told_but_not_those_of_who_is_excluded(
    tmp_path: Path, post: Receiver
) -> None:
    held(tmp_path, ALICE, synced=3 * DAY, copies={"primary": 3 * DAY})
    held(tmp_path, BOB)
    held(tmp_path, "left@contoso.example", synced=30 * DAY, copies={"primary": 30 * DAY})
    house = House(tmp_path, post.url, stale="1d")
    house.ring(Cycle(good=True))
    house.ring(Cycle(good=True))
    assert post.subjects == [f"{ALICE}: the newest copy is 3 days old"]


def test_an_account_without_changes_is_not_stale_however_old_its_snapshot(
    tmp_path: Path, post: Receiver
) -> None:
    held(tmp_path, ALICE, copies={"primary": 30 * DAY})
    House(tmp_path, post.url).ring(Cycle(good=True))
    assert post.told == []


def test_a_forget_that_has_not_ended_well_for_days_is_told_once(
    tmp_path: Path, post: Receiver
) -> None:
    house = House(tmp_path, post.url)
    failed = Round(ended=NOW, good=NOW - 9 * DAY, failed=2, said="the vault is locked by somebody")
    house.app.storages.change("second", lambda health: replace(health, forget=failed))
    house.ring(Cycle(good=True))
    house.ring(Cycle(good=True))
    assert len(post.told) == 1
    assert "storage.second: the last forget failed for 2 accounts" in post.subjects[0]


def test_findings_are_told_unless_they_are_good(tmp_path: Path, post: Receiver) -> None:
    house = House(tmp_path, post.url)
    expiring = Finding("warning", "sources.contoso", "the secret expires in 9 days", "Make one.")
    house.ring(Found((expiring, Finding("ok", "disk", "fine"))))
    assert post.subjects == ["sources.contoso: the secret expires in 9 days"]
    assert "Make one." in post.told[0]["message"]


def test_a_finding_that_stays_is_told_once_a_day(tmp_path: Path, post: Receiver) -> None:
    house = House(tmp_path, post.url, repeat="1h")
    for hours in (0, 7, 23, 25):
        house.clock.ahead = hours * HOUR
        house.ring(Found((Finding("warning", "secret", "expires in 9 days"),)))
    assert len(post.told) == 2
    house.ring(Found((Finding("warning", "secret", "expires in 8 days"),)))
    assert len(post.told) == 3


def test_a_cycle_pings_also_without_any_channel(tmp_path: Path, post: Receiver) -> None:
    house = House(tmp_path, ping_url=f"http://127.0.0.1:{post.port}/p")
    house.ring(Cycle(good=True))
    house.ring(run_of((ALICE, TransientError("x"))), Cycle(good=False))
    assert post.pings == ["/p", "/p/fail"]


def test_what_the_service_tells_is_understood(tmp_path: Path, post: Receiver) -> None:
    held(tmp_path, ALICE)
    ping = f"http://127.0.0.1:{post.port}/p"
    house = House(tmp_path, post.url, failures=2, ping_url=ping)
    wrong = AuthError("The secret has expired.", reason="credential")
    failed = Outcome(ALICE, "contoso", error=wrong)
    bell = Bell(house.app, gather=0)
    bulletin = Bulletin([bell.listen])
    bulletin.tell("started", accounts=1)
    bulletin.tell("minute", accounts=1, working=0)
    for _ in range(2):
        bulletin.tell("run-ended", "contoso", ALICE, verb="fast", outcome=failed)
        bulletin.tell("source-failed", "contoso", error=wrong)
    bulletin.tell("stopping", accounts=1)
    bell.close()
    assert post.subjects == ["all of contoso: sync failed 2 times: The secret has expired."]
    assert post.pings == ["/p"]

    (change,) = house.refuse(ALICE, 2)[-1:]
    bell = Bell(house.app, gather=0)
    Bulletin([bell.listen]).tell("state-changed", "contoso", ALICE, before=change.before, after=change.after)  # fmt: skip
    Bulletin([bell.listen]).tell("minute", accounts=1, working=0)
    bell.close()
    assert "may have been cut off" in post.subjects[1]
    assert post.pings == ["/p", "/p/fail"]


def test_hearing_never_waits_and_never_raises(tmp_path: Path) -> None:
    held(tmp_path, ALICE)
    with hanging() as stuck:
        house = House(tmp_path, stuck)
        bell = Bell(house.app, gather=0)
        began = time.monotonic()
        for event in house.refuse(ALICE, 2):
            bell.heard(event)
        bell.heard(Changed(Case("contoso/x"), Case("contoso/x", State.SUSPECTED)))
        bell.heard("nonsense")  # type: ignore[arg-type]
        bell.close(patience=0.3)
        assert time.monotonic() - began < 2
    (tmp_path / "file").write_text("")
    House(tmp_path / "file", "json://127.0.0.1:1/").ring(run_of((ALICE, None)), Cycle(good=True))


def test_one_account_that_was_deleted_alarms_nobody_while_the_others_answer(
    tmp_path: Path, post: Receiver
) -> None:
    held(tmp_path, ALICE)
    house = House(tmp_path, post.url)
    changes = house.refuse(ALICE, 40)
    house.incidents.mark(f"contoso/{ALICE}", others="answer")
    house.ring(*changes)
    (told,) = post.told
    assert told["title"] == f"{ALICE}: the account was disabled or deleted; the other accounts of contoso answer"  # fmt: skip
    assert told["type"] == "warning"
    assert f'add "!{ALICE}" to `accounts` of [sources.contoso]' in told["message"]
    assert "FROZEN" in told["message"], "calm is a matter of words: nothing of it is removed"


def test_several_accounts_refused_at_once_are_an_alarm_whoever_else_answers(
    tmp_path: Path, post: Receiver
) -> None:
    house = House(tmp_path, post.url)
    changes = []
    for name in ("a", "b", "c"):
        held(tmp_path, f"{name}@contoso.example")
        changes += house.refuse(f"{name}@contoso.example", 2)
        house.incidents.mark(f"contoso/{name}@contoso.example", others="answer")
    house.ring(*changes)
    assert post.subjects == ["3 accounts of contoso may have been cut off: the account was disabled or deleted"]  # fmt: skip
    assert post.told[0]["type"] == "failure"


def test_a_great_deletion_is_a_question_and_no_alarm(tmp_path: Path, post: Receiver) -> None:
    held(tmp_path, ALICE)
    house = House(tmp_path, post.url)
    for number in range(2):
        house.incidents.hear(
            f"contoso/{ALICE}", Evidence(NOW + number, "sync", Cause.DELETIONS, f"r{number}", "70 of 90 have vanished.")
        )  # fmt: skip
    house.ring(run_of((ALICE, None)))
    (told,) = post.told
    assert told["title"] == f"{ALICE}: a great deletion waits for your word; until then nothing is removed here"  # fmt: skip
    assert told["type"] == "warning"
    assert "cut off" not in told["title"].lower() + told["message"].lower()
