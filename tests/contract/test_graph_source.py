"""What a Microsoft 365 source promises, on an ordinary day."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from graph_desk import Desk, open_desk

from backupd.demo.tenant import SimulatedTenant
from backupd.errors import AuthError, ItemGone
from backupd.model import AccountKind, Collection, Folder, Gap, Gone, Item, Service
from backupd.ports import Fetched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def tenant() -> Iterator[SimulatedTenant]:
    with SimulatedTenant(seed=7, people=2, messages=12) as running:
        yield running


@pytest.fixture
def desk(tenant: SimulatedTenant, tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tenant, tmp_path) as opened:
        yield opened


MAIL = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: %s\r\n\r\nhello %s\r\n"


def letter(name: str) -> bytes:
    return MAIL % (name.encode(), name.encode())


class TestAccounts:
    def test_people_rooms_shared_mailboxes_and_sites_are_told_apart(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        tenant.state.add_user("desk7", "Room 7", purpose="room", enabled=False)
        tenant.state.add_user("info", "Info", purpose="shared", enabled=False)
        tenant.state.add_site("Press", "sites/Press")

        kinds = {a.address: (a.kind, a.services) for a in desk.source.accounts()}

        mailbox = {Service.MAIL, Service.CALENDAR, Service.CONTACTS}
        assert kinds["amelia@harbourlight.example"] == (AccountKind.USER, set(Service))
        assert kinds["desk7@harbourlight.example"] == (AccountKind.ROOM, mailbox)
        assert kinds["info@harbourlight.example"] == (AccountKind.SHARED, mailbox)
        assert kinds["harbourlight.sharepoint.com/sites/press"] == (
            AccountKind.SITE,
            {Service.FILES},
        )

    def test_patterns_select_and_exclude(self, tenant: SimulatedTenant, tmp_path: Path) -> None:
        patterns = ("a*@*", "!amelia@*", "*/sites/press")
        tenant.state.add_site("Press", "sites/Press")

        with open_desk(tenant, tmp_path, accounts=patterns) as desk:
            found = [a.kind for a in desk.source.accounts()]

        assert found == [AccountKind.SITE]

    def test_sites_are_not_even_asked_for_when_no_pattern_can_take_one(
        self, tenant: SimulatedTenant, tmp_path: Path
    ) -> None:
        with open_desk(tenant, tmp_path, accounts=("*@harbourlight.example",)) as desk:
            assert all(a.kind is not AccountKind.SITE for a in desk.source.accounts())

        assert not [r for r in tenant.log if "sites" in r.path]


class TestMail:
    def test_every_folder_is_found_hidden_and_recoverable_ones_too(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        tenant.log.clear()

        found = desk.source.collections(amelia, Service.MAIL)

        assert len(tenant.log.where(door="graph")) < 20, "one request a folder does not scale"
        box = tenant.state.user("amelia").mailbox
        real = {box.folder_id(f.uid) for f in box.folders.values() if not f.is_search}
        listed = {c.id for c in found if isinstance(c, Collection)}
        outside = {box.folder_id(f.uid) for f in box.folders.values() if f.well_known in ROOTS}
        assert listed == real - outside
        assert {"inbox", "drafts", "recoverableitemsdeletions"} <= {
            c.special for c in found if isinstance(c, Collection)
        }
        assert [g.kind for g in found if isinstance(g, Gap)] == ["search-folder"]

    def test_parents_come_before_their_children(self, desk: Desk) -> None:
        amelia = desk.account("amelia")

        seen: set[str] = set()
        for each in desk.source.collections(amelia, Service.MAIL):
            if isinstance(each, Collection):
                assert each.parent is None or each.parent in seen
                seen.add(each.id)

    def test_a_message_is_fetched_byte_for_byte(self, tenant: SimulatedTenant, desk: Desk) -> None:
        amelia = desk.account("amelia")
        inbox = desk.collection(amelia, Service.MAIL, "inbox")
        odd = (
            b"X-Odd:\tone\r\n two\r\nSubject: =?utf-8?q?x?=\r\n\r\n\xff\x00\x80\r\n.\r\nno newline"
        )
        tenant.state.deliver("amelia", "inbox", odd)

        results = desk.fetch(amelia, inbox)

        assert odd in {bytes(r.draft.data) for r in results if isinstance(r, Fetched)}

    def test_the_second_run_lists_only_what_changed(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        inbox = desk.collection(amelia, Service.MAIL, "inbox")
        first = desk.pages(amelia, inbox)
        new = tenant.state.deliver("amelia", "inbox", letter("new"))

        second = desk.pages(amelia, inbox, first[-1].cursor)

        assert first[0].restart
        assert not any(page.restart for page in first[1:] + second)
        assert [page.last for page in first] == [False] * (len(first) - 1) + [True]
        box = tenant.state.user("amelia").mailbox
        assert {c.id for page in second for c in page.changes} == {box.message_id(new)}

    def test_a_moved_message_keeps_its_key_and_is_located(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        message = tenant.state.deliver("amelia", "inbox", letter("moving"))
        box = tenant.state.user("amelia").mailbox
        before = box.message_id(message)
        key = desk.source.keys(amelia, Service.MAIL, [before])[before]

        tenant.state.move_message("amelia", message, "archive")

        after = box.message_id(message)
        archive = desk.collection(amelia, Service.MAIL, "archive")
        assert before != after
        assert desk.source.keys(amelia, Service.MAIL, [after]) == {after: key}
        assert desk.source.locate(amelia, Service.MAIL, [key]) == {key: archive.id}

    def test_a_deleted_message_is_located_nowhere(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        message = tenant.state.deliver("amelia", "inbox", letter("going"))
        id_ = tenant.state.user("amelia").mailbox.message_id(message)
        key = desk.source.keys(amelia, Service.MAIL, [id_])[id_]

        tenant.state.delete_message("amelia", message)

        assert desk.source.locate(amelia, Service.MAIL, [key]) == {key: None}

    def test_marks_do_not_change_the_version_but_content_does(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        inbox = desk.collection(amelia, Service.MAIL, "inbox")
        message = tenant.state.deliver("amelia", "inbox", letter("marked"))
        id_ = tenant.state.user("amelia").mailbox.message_id(message)

        def version() -> str:
            facts = next(i.facts for i in desk.items(amelia, inbox) if i.id == id_)
            return str(desk.source.version(Service.MAIL, facts))

        unread = version()
        tenant.state.flag("amelia", message, isRead=True, categories=["Red"])

        assert version() == unread
        tenant.state.rewrite("amelia", message, letter("another subject"))
        assert version() != unread

    def test_a_sparse_update_holds_only_what_changed(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        inbox = desk.collection(amelia, Service.MAIL, "inbox")
        message = tenant.state.deliver("amelia", "inbox", letter("sparse"))
        cursor = desk.pages(amelia, inbox)[-1].cursor

        tenant.state.flag("amelia", message, isRead=True)

        (change,) = desk.changes(amelia, inbox, cursor)
        assert isinstance(change, Item)
        assert change.facts["isRead"] is True
        assert "subject" not in change.facts

    def test_facts_keep_what_mime_loses(self, desk: Desk) -> None:
        amelia = desk.account("amelia")
        inbox = desk.collection(amelia, Service.MAIL, "inbox")

        facts = desk.items(amelia, inbox)[0].facts

        lost = "isRead isDraft flag categories importance inferenceClassification conversationId"
        assert set(lost.split()) <= set(facts)
        assert not [key for key in facts if key == "id" or key.startswith("@")]

    def test_a_removed_folder_is_gone_and_not_empty(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        tenant.state.create_folder("amelia", "Short-lived")
        folder = desk.collection(amelia, Service.MAIL, "Short-lived")
        tenant.state.delete_folder("amelia", "Short-lived")

        with pytest.raises(ItemGone):
            desk.pages(amelia, folder)

    def test_no_mailbox_sees_more_than_four_requests_at_once(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        tenant.switches.latency = 0.01
        amelia = desk.account("amelia")
        inbox = desk.collection(amelia, Service.MAIL, "inbox")
        for number in range(30):
            tenant.state.deliver("amelia", "inbox", letter(str(number)))

        desk.fetch(amelia, inbox)

        assert tenant.log.most_in_flight(amelia.id) == 4
        assert not [r for r in tenant.log if r.status == 429]

    def test_a_message_costs_one_request(self, tenant: SimulatedTenant, desk: Desk) -> None:
        amelia = desk.account("amelia")
        tenant.state.create_folder("amelia", "Plain")
        for number in range(20):
            tenant.state.deliver("amelia", "Plain", letter(str(number)))
        plain = desk.collection(amelia, Service.MAIL, "Plain")
        items = desk.items(amelia, plain)
        tenant.log.clear()

        desk.fetch(amelia, plain, items)

        assert len(tenant.log) == len(items) == 20

    def test_a_cloud_attachment_is_a_gap(self, desk: Desk) -> None:
        amelia = desk.account("amelia")

        gaps = [
            gap.name
            for folder in desk.source.collections(amelia, Service.MAIL)
            if isinstance(folder, Collection)
            for result in desk.fetch(amelia, folder)
            if isinstance(result, Fetched)
            for gap in result.gaps
        ]

        assert gaps == ["Brief (draft).docx"]


ROOTS = {"msgfolderroot", "searchfolders"}


class TestFiles:
    def test_files_folders_and_what_cannot_be_taken(self, desk: Desk) -> None:
        amelia = desk.account("amelia")
        drive = desk.collection(amelia, Service.FILES)

        changes = desk.changes(amelia, drive)

        folders = {c.id for c in changes if isinstance(c, Folder)}
        kinds = {c.kind for c in changes if isinstance(c, Gap)}
        parents = {c.parent for c in changes if isinstance(c, Folder)}
        parents |= {c.folder for c in changes if isinstance(c, Item)}
        assert kinds == {"onenote", "shortcut", "malware"}
        assert parents - {None} <= folders

    def test_file_bytes_arrive_without_our_token_leaving(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        drive = desk.collection(amelia, Service.FILES)
        tenant.state.put_file(_drive(tenant), "new/report.bin", b"\x00\x01" * 4000)

        results = {r.item.name: r for r in desk.fetch(amelia, drive)}

        assert bytes(results["report.bin"].draft.data) == b"\x00\x01" * 4000
        downloads = tenant.log.where(door="download")
        assert downloads
        assert not [r for r in downloads if "authorization" in r.headers]

    def test_renames_moves_and_deletions_are_told(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        drive, held = desk.collection(amelia, Service.FILES), _drive(tenant)
        file = tenant.state.put_file(held, "a/one.txt", b"one")
        doomed = tenant.state.put_file(held, "a/two.txt", b"two")
        cursor = desk.pages(amelia, drive)[-1].cursor
        before = held.item_id(file.uid)

        tenant.state.rename_item(held, file, "uno.txt")
        tenant.state.delete_item(held, doomed)

        changes = {c.id: c for c in desk.changes(amelia, drive, cursor)}
        assert changes[before].name == "uno.txt"
        assert isinstance(changes[held.item_id(doomed.uid)], Gone)

    def test_an_expired_address_is_asked_for_again(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        drive = desk.collection(amelia, Service.FILES)
        items = desk.items(amelia, drive)
        tenant.expire_downloads()

        results = desk.fetch(amelia, drive, items)

        assert all(isinstance(r, Fetched) for r in results)

    def test_a_rewritten_office_file_is_stored_with_a_note_another_one_is_refused(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        drive = desk.collection(amelia, Service.FILES)
        wrong = [replace(i, name="x.pdf") for i in desk.items(amelia, drive)]

        as_they_are = desk.fetch(amelia, drive)
        as_if_no_office_file = desk.fetch(amelia, drive, wrong)

        noted = [r for r in as_they_are if isinstance(r, Fetched) and r.note]
        refused = [r for r in as_if_no_office_file if not isinstance(r, Fetched)]
        assert [r.note for r in noted] == ["size-differs"]
        assert [(r.item.id, r.error.reason) for r in refused] == [
            (noted[0].item.id, "size-differs")
        ]

    def test_a_file_is_located_in_its_drive(self, tenant: SimulatedTenant, desk: Desk) -> None:
        amelia = desk.account("amelia")
        drive, held = desk.collection(amelia, Service.FILES), _drive(tenant)
        kept = held.item_id(tenant.state.put_file(held, "kept", b"1").uid)
        file = tenant.state.put_file(held, "gone", b"1")
        tenant.state.delete_item(held, file)
        gone = held.item_id(file.uid)

        where = desk.source.locate(amelia, Service.FILES, [kept, gone])

        assert where == {kept: drive.id, gone: None}


def _drive(tenant: SimulatedTenant) -> Any:
    return tenant.state.user("amelia").drives[0]


class TestCalendarsAndContacts:
    def test_events_become_icalendar_with_the_raw_answer_beside(self, desk: Desk) -> None:
        amelia = desk.account("amelia")
        calendar = desk.collection(amelia, Service.CALENDAR)

        results = desk.fetch(amelia, calendar)

        assert results
        for each in results:
            assert isinstance(each, Fetched), each
            assert bytes(each.draft.data).startswith(b"BEGIN:VCALENDAR")
            assert each.facts["raw"]["id"] == each.item.id

    def test_every_run_lists_every_event(self, desk: Desk) -> None:
        amelia = desk.account("amelia")
        calendar = desk.collection(amelia, Service.CALENDAR)

        first = desk.pages(amelia, calendar)
        second = desk.pages(amelia, calendar, first[-1].cursor)

        assert second[0].restart
        assert [p.changes for p in first] == [p.changes for p in second]

    def test_events_are_located_in_their_calendar_or_nowhere(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        calendar = desk.collection(amelia, Service.CALENDAR)
        ids = [i.id for i in desk.items(amelia, calendar)][:2]
        kept, gone = desk.source.keys(amelia, Service.CALENDAR, ids).values()
        tenant.state.delete_event("amelia", ids[1])

        where = desk.source.locate(amelia, Service.CALENDAR, [kept, gone])

        assert where == {kept: calendar.id, gone: None}

    def test_calendars_in_groups_are_found(self, tenant: SimulatedTenant, desk: Desk) -> None:
        amelia = desk.account("amelia")
        agenda = tenant.state.user("amelia").agenda

        found = {c.name for c in desk.source.collections(amelia, Service.CALENDAR)}

        assert found == {calendar.name for calendar in agenda.calendars.values()}

    def test_contacts_become_vcards_and_photos_come_along(self, desk: Desk) -> None:
        amelia = desk.account("amelia")
        folder = desk.collection(amelia, Service.CONTACTS, "contacts")

        cards = [bytes(r.draft.data) for r in desk.fetch(amelia, folder)]

        assert all(card.startswith(b"BEGIN:VCARD") for card in cards)
        assert any(b"PHOTO" in card for card in cards)

    def test_contacts_are_located_in_the_folder_they_are_listed_in(self, desk: Desk) -> None:
        amelia = desk.account("amelia")
        for folder in desk.source.collections(amelia, Service.CONTACTS):
            ids = [i.id for i in desk.items(amelia, folder)]
            keys = desk.source.keys(amelia, Service.CONTACTS, ids)

            where = desk.source.locate(amelia, Service.CONTACTS, list(keys.values()))

            assert set(where.values()) <= {folder.id}


class TestManners:
    def test_every_request_says_who_asks(self, tenant: SimulatedTenant, desk: Desk) -> None:
        amelia = desk.account("amelia")
        desk.fetch(amelia, desk.collection(amelia, Service.MAIL, "inbox"))

        agents = {r.headers.get("user-agent", "") for r in tenant.log.where(door="graph")}

        assert len(agents) == 1
        assert agents.pop().startswith("NONISV|Harbour Light|backupd/")

    def test_every_request_has_an_id_of_its_own(self, tenant: SimulatedTenant, desk: Desk) -> None:
        amelia = desk.account("amelia")
        desk.fetch(amelia, desk.collection(amelia, Service.MAIL, "inbox"))

        ids = [r.headers["client-request-id"] for r in tenant.log.where(door="graph")]

        assert len(set(ids)) == len(ids) > 10
        assert all(str(UUID(each)) == each for each in ids)

    def test_closing_leaves_no_thread_behind(self, tenant: SimulatedTenant, tmp_path: Path) -> None:
        before = set(threading.enumerate())

        with open_desk(tenant, tmp_path) as desk:
            next(iter(desk.source.accounts()))
            desk.source.close()  # and once more on the way out

        assert set(threading.enumerate()) == before

    def test_a_fetch_that_is_left_early_discards_what_nobody_took(
        self, desk: Desk, tenant: SimulatedTenant
    ) -> None:
        amelia = desk.account("amelia")
        inbox = desk.collection(amelia, Service.MAIL, "inbox")
        items = desk.items(amelia, inbox)
        assert len(items) > 4

        results = desk.source.fetch(amelia, inbox, items, desk.landing)
        taken = next(results)
        results.close()

        kept = [draft for draft in desk.landing.drafts if not draft.discarded]
        assert kept == [taken.draft]

    def test_the_secret_is_in_no_error(self, tenant: SimulatedTenant, tmp_path: Path) -> None:
        tenant.cut_off("secret_expired")

        with open_desk(tenant, tmp_path) as desk, pytest.raises(AuthError) as caught:
            list(desk.source.accounts())

        assert tenant.client_secret not in f"{caught.value!r} {caught.value.hint}"
        assert "client_secret_file" in caught.value.hint

    def test_check_finds_a_missing_permission(self, tenant: SimulatedTenant, desk: Desk) -> None:
        tenant.state.app.roles.discard("Calendars.Read")

        findings = {(f.level, f.subject): f for f in desk.source.check()}

        assert "Calendars.Read" in findings["error", "permissions"].message
        assert ("error", "calendar") in findings
        assert {
            ("ok", s) for s in ("tenant", "clock", "sign-in", "mail", "contacts", "files")
        } <= set(findings)
