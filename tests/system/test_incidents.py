"""What a freeze keeps, what the guard asks, and how a person answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from household import Household
from typer.testing import CliRunner

from backupd.app import App
from backupd.cli import app as command_line
from backupd.config import load
from backupd.cutoff.verdict import Cause, State
from backupd.demo.tenant import SimulatedTenant
from backupd.errors import UserError

AMELIA = "amelia@harbourlight.example"
SCOPE = f"demo/{AMELIA}"
MESSAGES = 15


def small_mail(number: int) -> bytes:
    return (
        f"From: bob@example.org\r\nTo: {AMELIA}\r\nSubject: Note {number}\r\n"
        f"Message-ID: <note-{number}@example.org>\r\n"
        f"Date: Mon, 23 Nov 2026 10:00:{number % 60:02} +0000\r\n\r\nNumber {number}\r\n"
    ).encode()


class Desk:
    """One person's mailbox and drive, saved; time passes when told."""

    def __init__(self, house: Household, *, vault: bool) -> None:
        self.house = house
        self.vault = vault
        self.tenant = house.tenant
        self.now = 1_800_000_000.0
        self.app = App(load(house.config), clock=lambda: self.now)
        assert (self.app.backup() if vault else self.app.sync()).exit_code == 0

    def cycle(self, times: int = 1, *, sync_only: bool = False) -> Any:
        run = None
        for _ in range(times):
            self.now += 300
            run = self.app.backup() if self.vault and not sync_only else self.app.sync()
            self.app.watch(self.now)
        assert run is not None
        return run.outcomes[0]

    @property
    def mirror(self) -> Path:
        return self.house.home(AMELIA).mirror_path

    @property
    def letters(self) -> set[str]:
        return {path.name for path in self.mirror.rglob("*.eml")}

    @property
    def case(self) -> Any:
        return self.app.incidents.case(SCOPE)

    @property
    def snapshots(self) -> list[Any]:
        return self.app.vault(self.house.home(AMELIA)).snapshots()

    def mailbox(self) -> list[Any]:
        return list(self.tenant.state.user("amelia").mailbox.messages.values())

    def delete(self, count: int) -> None:
        for message in self.mailbox()[:count]:
            self.tenant.state.delete_message("amelia", message)

    def empty(self) -> int:
        count = len(self.mailbox())
        self.delete(count)
        return count

    def says(self, *arguments: str) -> Any:
        """What a command answers with --json."""
        told = self.command(*arguments, "--json")
        if told.exception and not isinstance(told.exception, SystemExit):
            raise told.exception
        return json.loads(told.stdout)

    def command(self, *arguments: str) -> Any:
        words = ["--config", str(self.house.config), *arguments]
        return CliRunner().invoke(command_line, words, standalone_mode=False)


@pytest.fixture
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """With a vault where the test asks for one: making it takes seconds."""
    vault = request.node.get_closest_marker("restic") is not None
    if vault and shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    with SimulatedTenant(7, people=1, messages=MESSAGES, extras=False, oddities=False) as tenant:
        house = Household(tmp_path / "house", tenant, services=["mail", "files"])
        yield Desk(house, vault=vault)


class TestTheGuard:
    def test_a_mailbox_that_its_owner_emptied_is_asked_about_and_never_called_a_cut_off(
        self, desk: Desk
    ) -> None:
        before = desk.letters
        gone = desk.empty()
        desk.cycle()
        assert desk.case.state is State.DEGRADED
        outcome = desk.cycle()
        assert (desk.case.state, desk.case.cause) == (State.SUSPECTED, Cause.DELETIONS)
        assert "backupd approve" in outcome.errors[0].hint
        desk.cycle(7)
        assert desk.case.state is State.SUSPECTED, "the same deletion does not confirm itself"
        assert desk.letters == before
        waiting = desk.says("incidents")["removals"]
        assert [(each["address"], each["counts"]) for each in waiting] == [(AMELIA, {"mail": gone})]

    def test_an_approved_removal_is_done_once_and_the_freeze_ends(self, desk: Desk) -> None:
        desk.empty()
        desk.cycle(2)
        run = desk.says("incidents")["removals"][0]["run"]
        assert desk.says("approve", run)["approved"]["counts"]["mail"] > 0
        assert not desk.cycle().errors
        assert not desk.letters
        assert desk.says("incidents")["removals"] == []
        desk.cycle(2)
        assert desk.case.state is State.HEALTHY

    def test_an_approval_covers_what_was_looked_at_and_no_more(self, desk: Desk) -> None:
        for number in range(60):
            desk.tenant.state.deliver("amelia", "inbox", small_mail(number))
        desk.cycle()
        desk.delete(60)
        outcome = desk.cycle()
        first = outcome.errors[0].code
        desk.says("approve", first)
        desk.empty()
        before = desk.letters
        outcome = desk.cycle()
        assert outcome.errors[0].code != first
        assert desk.letters == before
        with pytest.raises(UserError, match="waits for approval"):
            desk.says("approve", first)

    def test_who_deletes_a_little_at_a_time_is_stopped_as_well(self, desk: Desk) -> None:
        for number in range(90):
            desk.tenant.state.deliver("amelia", "inbox", small_mail(number))
        desk.cycle()
        most, cycles = len(desk.letters), 0
        outcome = None
        while cycles < 9 and not (outcome and outcome.errors):
            desk.delete(10)
            outcome = desk.cycle()
            cycles += 1
        assert cycles == 6, "the sixth ten are more than fifty within a day"
        assert "within 24 hours" in str(outcome.errors[0])
        assert len(desk.letters) == most - 50
        desk.says("approve", outcome.errors[0].code)
        assert not desk.cycle().errors
        assert len(desk.letters) == most - 60
        desk.delete(10)
        assert not desk.cycle().errors, "who has looked is not asked again at once"
        assert len(desk.letters) == most - 70

    def test_items_that_come_back_need_no_answer(self, desk: Desk) -> None:
        before = desk.letters
        kept = [message.content.mime() for message in desk.mailbox()]
        desk.empty()
        desk.cycle(2)
        for mime in kept:
            desk.tenant.state.deliver("amelia", "inbox", mime)
        desk.app.incidents.release(SCOPE, "test", "they are back", desk.now)
        run = desk.app.sync(approved=True)
        assert run.exit_code == 0
        assert len(desk.letters) == len(kept)
        assert len(before) == len(kept)
        assert desk.says("incidents")["removals"] == []


class TestAFreeze:
    @pytest.mark.restic
    def test_what_vanishes_meanwhile_stays_and_what_is_new_is_saved(self, desk: Desk) -> None:
        before = desk.letters
        desk.tenant.cut_off("onedrive_locked", "amelia")
        desk.cycle()
        assert desk.case.frozen
        desk.delete(3)
        desk.tenant.state.deliver("amelia", "inbox", small_mail(1))
        desk.cycle()
        assert before < desk.letters
        assert len(desk.snapshots) == 2, "a fuller snapshot may follow the good one"
        desk.tenant.restore_service()
        desk.cycle(4)
        assert desk.case.state is State.HEALTHY
        assert len(before - desk.letters) == 3, "after a proven recovery removals go on"

    @pytest.mark.restic
    def test_the_last_good_snapshot_is_pinned_and_still_known_by_its_new_name(
        self, desk: Desk
    ) -> None:
        first = desk.snapshots[-1]
        desk.tenant.cut_off("msa_suspended", "amelia")
        desk.cycle()
        pinned = desk.snapshots[-1]
        assert "pinned" in pinned.tags
        assert pinned.tree == first.tree
        with desk.house.home(AMELIA).reading() as catalog:
            assert catalog.get("snapshot:primary:id") == pinned.id
        desk.cycle(3)
        assert len(desk.snapshots) == 1

    @pytest.mark.restic
    def test_what_could_not_be_pinned_at_once_is_pinned_later(self, desk: Desk) -> None:
        vaults = desk.house.folder / "vaults"
        vaults.rename(desk.house.folder / "unplugged")
        desk.tenant.cut_off("msa_suspended", "amelia")
        desk.cycle(sync_only=True)
        assert desk.case.frozen
        assert desk.case.facts["pinned"] != "yes"
        (desk.house.folder / "unplugged").rename(vaults)
        desk.now += 120
        desk.app.watch(desk.now)
        assert "pinned" in desk.snapshots[-1].tags

    @pytest.mark.restic
    def test_no_emptier_snapshot_takes_the_place_of_a_good_one(self, desk: Desk) -> None:
        desk.delete(4)
        desk.cycle(sync_only=True)
        desk.tenant.cut_off("msa_suspended", "amelia")
        outcome = desk.cycle()
        assert "frozen" in outcome.snapshot.withheld["primary"]
        assert len(desk.snapshots) == 1
        told = desk.command("snapshot")
        assert "no snapshot: amelia" in told.stdout

    def test_a_person_lifts_it_with_a_reason_that_is_kept(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SUDO_USER", "maria")
        desk.tenant.cut_off("onedrive_locked", "amelia")
        desk.cycle()
        desk.delete(3)
        before = desk.letters
        desk.cycle()
        assert desk.letters == before
        told = desk.command("incidents", AMELIA).stdout
        assert "suspected, frozen" in told
        assert "423" in told
        desk.says("release", AMELIA, "--reason", "the drive was given up")
        desk.cycle()
        assert len(before - desk.letters) == 3
        shown = desk.says("incidents", SCOPE)["cases"][0]
        assert shown["released"] == "maria: the drive was given up"
        assert not shown["frozen"]
        assert any(each["rung"] == "release" for each in shown["evidence"])

    def test_an_approval_does_not_lift_a_freeze_for_another_cause(self, desk: Desk) -> None:
        before = desk.letters
        desk.tenant.cut_off("onedrive_locked", "amelia")
        desk.cycle()
        desk.empty()
        outcome = desk.cycle()
        guard = next(error for error in outcome.errors if error.reason == "guard")
        assert "backupd release" in guard.hint
        desk.says("approve", guard.code)
        desk.cycle()
        assert desk.letters == before
        desk.app.sync(approved=True)
        assert desk.letters == before

    def test_a_freeze_that_cannot_be_read_stops_instead_of_removing(self, desk: Desk) -> None:
        desk.tenant.cut_off("onedrive_locked", "amelia")
        desk.cycle()
        before = desk.letters
        path = desk.app.incidents.folder / "demo" / f"{AMELIA}.json"
        path.write_text("{")
        desk.delete(2)
        run = desk.app.sync()
        assert run.exit_code == 5
        assert desk.letters == before


def test_nothing_to_tell_is_told(desk: Desk) -> None:
    assert "Nothing is suspected" in desk.command("incidents").stdout
    with pytest.raises(UserError, match="not frozen"):
        desk.says("release", AMELIA, "--reason", "no reason")
