"""The main job: what the tenant holds is what stock restic and the password give back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from glob import escape
from pathlib import Path

import icalendar
import vobject
from household import (
    Household,
    described,
    folder_names,
    indexed,
    mail_in,
    sha,
    true_files,
    true_mail,
)

from backupd.mirror.names import component, fold

Build = Callable[..., Household]
AMELIA = "amelia@harbourlight.example"
HANDFUL = 12
"""Requests an account costs beyond one for each collection: lists of folders, calendars, drives."""


def printable(text: str) -> str:
    """iCalendar has no way to write a control character."""
    return " ".join("".join(char for char in text if char >= " ").split())


def test_restic_alone_gives_back_every_message_event_contact_and_file(
    build: Build, tmp_path: Path
) -> None:
    house = build(accounts=["amelia@*", "sabine@*"], people=3)
    run = house.backup()
    assert run.exit_code in {0, 3}
    for alias in ("amelia", "sabine"):
        tree = house.restic_restore(alias, tmp_path / alias)
        state = house.tenant.state
        missing = true_mail(state, alias) - mail_in(tree)
        assert not missing
        held = {described["id"]: described["sha256"] for _, described in indexed(tree, "files")}
        assert set(true_files(state, alias).values()) <= set(held.values())
        for service in ("mail", "files", "calendar", "contacts"):
            for path, line in indexed(tree, service):
                assert sha(path.read_bytes()) == line["sha256"], path
                assert path.stat().st_size == line["size"]


def test_files_come_back_under_their_own_names(build: Build, tmp_path: Path) -> None:
    house = build(accounts=["amelia@*"], services=["files"], people=1)
    house.backup()
    tree = house.restic_restore("amelia", tmp_path / "out")
    names = {}
    for path, line in indexed(tree, "files"):
        assert path.is_relative_to(tree / "files")
        names[line["name"]] = line["sha256"]
    truth = true_files(house.tenant.state, "amelia")
    assert {path.rpartition("/")[2] for path in truth} == set(names)
    folded = Counter(fold(path) for path in truth)
    for path in truth:
        if folded[fold(path)] == 1:  # a twin has a mark that tells it from its brother
            local = "/".join(component(part) for part in path.split("/"))
            assert list((tree / "files").glob(f"*/{escape(local)}")), path


def test_events_and_contacts_are_standard_and_carry_their_meaning(
    build: Build, tmp_path: Path
) -> None:
    house = build(accounts=["amelia@*"], services=["calendar", "contacts"], people=1)
    house.backup()
    tree = house.restic_restore("amelia", tmp_path / "out")
    user = house.tenant.state.user("amelia")
    assert user.agenda is not None
    assert user.contacts is not None
    wanted = Counter(
        printable(event.data["subject"] or "") for event in user.agenda.events.values()
    )
    found: Counter[str] = Counter()
    for path in (tree / "calendar").rglob("*.ics"):
        calendar = icalendar.Calendar.from_ical(path.read_bytes())
        assert "METHOD" not in calendar
        masters = [each for each in calendar.walk("VEVENT") if "RECURRENCE-ID" not in each]
        found[printable(str(masters[0].get("SUMMARY", "")))] += 1
    assert found == wanted
    cards = [vobject.readOne(path.read_text()) for path in (tree / "contacts").rglob("*.vcf")]
    people = Counter(contact.data["displayName"] for contact in user.contacts.contacts.values())
    assert len(cards) == people.total()
    del people[""]  # a card must have some name: the company or the address stands in
    assert not people - Counter(card.fn.value for card in cards)


def test_every_folder_is_named_in_the_account_even_empty_ones(build: Build, tmp_path: Path) -> None:
    house = build(accounts=["amelia@*"], services=["mail"], people=1)
    house.backup()
    tree = house.restic_restore("amelia", tmp_path / "out")
    mailbox = house.tenant.state.user("amelia").mailbox
    assert mailbox is not None
    wanted = {
        mailbox.path(each)
        for each in mailbox.folders.values()
        if not each.is_search and each.parent
    }
    assert wanted <= set(folder_names(tree, "mail").values())
    assert {gap["kind"] for gap in described(tree)["gaps"]} >= {"search-folder"}
    for path in folder_names(tree, "mail"):
        assert (tree / path).is_dir()


def test_a_second_run_without_changes_starts_no_restic_and_asks_little(build: Build) -> None:
    house = build(accounts=["jean-baptiste@*", "sabine@*"], people=3)
    house.backup()
    house.restics()
    house.tenant.log.clear()
    run = house.backup()
    assert run.exit_code == 0
    assert house.restics() == []
    assert all(outcome.snapshot and outcome.snapshot.unchanged for outcome in run.outcomes)
    collections = 0
    for address in ("jean-baptiste", "sabine"):
        with house.home(f"{address}@harbourlight.example").reading() as catalog:
            collections += len(catalog.collections())
    asked = [each for each in house.tenant.log if each.door in {"graph", "login"}]
    assert len(asked) <= collections + 2 * HANDFUL


def test_ten_new_messages_in_a_large_mailbox_cost_ten_fetches(build: Build) -> None:
    house = build(
        accounts=["amelia@*"],
        services=["mail"],
        people=1,
        messages=0,
        oddities=False,
        bulk_messages=1500,
    )
    house.backup()
    house.tenant.log.clear()
    for number in range(10):
        house.tenant.state.deliver("amelia", "inbox", b"Subject: new %d\r\n\r\nx\r\n" % number)
    run = house.backup()
    assert run.outcomes[0].sync is not None
    assert sum(tally.fetched for tally in run.outcomes[0].sync.tallies.values()) == 10
    bodies = [each for each in house.tenant.log if each.path.endswith("/$value")]
    assert len(bodies) == 10


def test_a_moved_message_is_renamed_and_not_fetched_again(build: Build) -> None:
    house = build(accounts=["amelia@*"], services=["mail"], people=1, messages=5, oddities=False)
    state = house.tenant.state
    message = state.deliver("amelia", "inbox", b"Subject: wanderer\r\n\r\nhello\r\n")
    house.backup()
    house.tenant.log.clear()
    state.move_message("amelia", message, "archive")
    run = house.backup()
    assert run.outcomes[0].sync is not None
    tally = run.outcomes[0].sync.tallies["mail"]  # type: ignore[index]
    assert (tally.fetched, tally.moved, tally.removed) == (0, 1, 0)
    mirror = house.home(AMELIA).mirror_path
    found = [path.relative_to(mirror).parts[1] for path in mirror.rglob("*wanderer*")]
    assert found == ["Archive"]
    assert not [each for each in house.tenant.log if each.path.endswith("/$value")]


def test_a_read_mark_changes_the_index_and_fetches_nothing(build: Build) -> None:
    house = build(accounts=["amelia@*"], services=["mail"], people=1, messages=3, oddities=False)
    message = house.tenant.state.deliver(
        "amelia", "inbox", b"Subject: unread\r\n\r\nx\r\n", isRead=False
    )
    house.backup()
    house.tenant.state.flag("amelia", message, isRead=True)
    run = house.backup()
    assert run.outcomes[0].sync is not None
    tally = run.outcomes[0].sync.tallies["mail"]  # type: ignore[index]
    assert (tally.fetched, tally.updated) == (0, 1)
    lines = [
        line
        for _, line in indexed(house.home(AMELIA).mirror_path, "mail")
        if line.get("subject") == "unread"
    ]
    assert [line["seen"] for line in lines] == [True]


def test_renamed_folders_and_files_move_in_the_mirror_without_a_fetch(build: Build) -> None:
    house = build(accounts=["amelia@*"], people=1, messages=6, oddities=False)
    state = house.tenant.state
    state.create_folder("amelia", "Before", "inbox")
    for number in range(3):
        state.deliver("amelia", "Inbox/Before", b"Subject: kept %d\r\n\r\nx\r\n" % number)
        state.put_file("amelia", f"Old/deep/{number}.txt", b"file %d" % number)
    house.backup()
    house.tenant.log.clear()
    state.rename_folder("amelia", "Inbox/Before", "After")
    state.rename_item("amelia", "Old", "New")
    state.rename_item("amelia", "New/deep/1.txt", "one.txt")
    run = house.backup()
    assert run.exit_code == 0
    assert run.outcomes[0].sync is not None
    assert sum(tally.fetched for tally in run.outcomes[0].sync.tallies.values()) == 0
    mirror = house.home(AMELIA).mirror_path
    assert len(list(mirror.glob("mail/Inbox/After/*/*kept*"))) == 3
    assert not list(mirror.glob("mail/Inbox/Before"))
    assert sorted(path.name for path in mirror.glob("files/*/New/deep/*")) == [
        "0.txt",
        "2.txt",
        "one.txt",
    ]
    lines = dict(indexed(mirror, "files"))
    assert all(path.exists() for path in lines)


def test_a_deleted_message_leaves_the_mirror_and_stays_in_older_snapshots(
    build: Build, tmp_path: Path
) -> None:
    house = build(accounts=["amelia@*"], services=["mail"], people=1, messages=3, oddities=False)
    message = house.tenant.state.deliver("amelia", "inbox", b"Subject: doomed\r\n\r\nx\r\n")
    house.backup()
    house.tenant.state.delete_message("amelia", message)
    first = house.app.vault(house.home(AMELIA)).snapshots()[0]
    run = house.backup()
    assert run.exit_code == 0
    assert not list(house.home(AMELIA).mirror_path.rglob("*doomed*"))
    house.app.vault(house.home(AMELIA)).extract(first, tmp_path / "old")
    assert list((tmp_path / "old").rglob("*doomed*"))


def test_a_mailbox_that_empties_itself_trips_the_guard_and_loses_nothing(build: Build) -> None:
    house = build(accounts=["amelia@*"], services=["mail"], people=1, messages=80, oddities=False)
    house.backup()
    state, mirror = house.tenant.state, house.home(AMELIA).mirror_path
    before = sorted(path for path in mirror.rglob("*.eml"))
    mailbox = state.user("amelia").mailbox
    assert mailbox is not None
    for message in list(mailbox.messages.values()):
        state.delete_message("amelia", message)
    run = house.backup()
    assert run.exit_code == 4
    assert sorted(mirror.rglob("*.eml")) == before
    assert house.backup().exit_code == 4, "it asks until a person has answered"
    approved = house.app.sync(approved=True)
    assert approved.exit_code == 0
    assert not list(mirror.rglob("*.eml"))


def test_an_expired_cursor_lists_again_and_fetches_nothing_twice(build: Build) -> None:
    house = build(accounts=["amelia@*"], people=1, messages=12)
    house.backup()
    house.tenant.state.expire_cursors()
    run = house.backup()
    assert run.outcomes[0].sync is not None
    assert sum(tally.fetched for tally in run.outcomes[0].sync.tallies.values()) == 0
    assert sum(tally.removed for tally in run.outcomes[0].sync.tallies.values()) == 0
    assert all(outcome.snapshot and outcome.snapshot.unchanged for outcome in run.outcomes)


def test_folders_and_shortcuts_that_went_while_the_cursor_was_refused_are_forgotten(
    build: Build,
) -> None:
    house = build(accounts=["amelia@*"], services=["files"], people=1, extras=False, oddities=False)
    state = house.tenant.state
    folder = state.put_folder("amelia", "Doomed/empty")
    state.put_file("amelia", "Doomed/a.txt", b"a")
    state.drive("amelia").add("elsewhere", folder, facets={"remoteItem": {"id": "there"}})
    house.backup()
    mirror = house.home(AMELIA).mirror_path
    assert [gap["name"] for gap in described(mirror)["gaps"]] == ["elsewhere"]
    state.expire_cursors(drive="amelia")
    state.delete_item("amelia", "Doomed")
    assert house.backup().exit_code == 0
    assert not described(mirror)["gaps"]
    assert not list(mirror.rglob("Doomed"))
    assert (mirror / "files/OneDrive/Cases/Novak/Evidence").is_dir()


def test_a_file_that_was_held_for_malware_and_is_harmless_is_no_gap_any_more(build: Build) -> None:
    house = build(accounts=["amelia@*"], services=["files"], people=1, extras=False, oddities=False)
    state = house.tenant.state
    item = state.put_file("amelia", "suspect.txt", b"harmless", malware=True)
    house.backup()
    mirror = house.home(AMELIA).mirror_path
    assert [gap["name"] for gap in described(mirror)["gaps"]] == ["suspect.txt"]
    item.malware = False
    state.rename_item("amelia", item, "acquitted.txt")
    house.backup()
    assert not described(mirror)["gaps"]
    assert (mirror / "files/OneDrive/acquitted.txt").read_bytes() == b"harmless"


def test_what_can_only_be_told_of_is_told_in_a_snapshot_as_well(build: Build) -> None:
    house = build(accounts=["amelia@*"], services=["files"], people=1, extras=False, oddities=False)
    state = house.tenant.state
    house.backup()
    drive = state.drive("amelia")
    link = drive.add(
        "elsewhere", state.put_folder("amelia", "Shared"), facets={"remoteItem": {"id": "there"}}
    )
    for told in (["elsewhere"], []):
        (outcome,) = house.backup().outcomes
        assert outcome.snapshot is not None
        assert outcome.snapshot.made, told
        assert [gap["name"] for gap in described(house.home(AMELIA).mirror_path)["gaps"]] == told
        (outcome,) = house.backup().outcomes
        assert outcome.snapshot is not None
        assert outcome.snapshot.unchanged
        if told:
            drive.delete(link)


def test_messages_that_delta_forgets_are_found_by_counting(build: Build) -> None:
    house = build(accounts=["amelia@*"], services=["mail"], people=1, messages=5, oddities=False)
    house.backup()
    state = house.tenant.state
    mailbox = state.user("amelia").mailbox
    assert mailbox is not None
    log = mailbox.log
    note = log.note
    log.note = lambda *_: None  # type: ignore[method-assign]  # the service forgets to tell
    state.deliver("amelia", "inbox", b"Subject: unannounced\r\n\r\nx\r\n")
    log.note = note  # type: ignore[method-assign]
    house.backup()
    assert list(house.home(AMELIA).mirror_path.rglob("*unannounced*"))
