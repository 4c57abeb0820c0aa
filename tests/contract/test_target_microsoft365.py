"""Everything goes back into Microsoft 365, once, and nobody is told: on the simulated tenant and real Dovecot."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina
from aiohttp import web
from household import Household
from parcels import loaded, parcel, shelf
from servers import process
from servers.dovecot import Dovecot, dovecot
from small_server import small_server
from tenant_client import TenantClient, q

import targets
from backupd.config import TargetSection
from backupd.demo.addressbook import contact_json
from backupd.demo.agenda import cancelled_json, event_json, exceptions_json
from backupd.demo.drive import ROOT
from backupd.demo.faults import Fault
from backupd.demo.tenant import SimulatedTenant
from backupd.errors import AuthError, BackupdError, ConfigError, TransientError, UserError
from backupd.model import Service
from backupd.ports import Claim, Parcel, Put, Shelf, Target
from sources.graph.ical import Attachment, event_to_ics
from sources.graph.vcard import contact_to_vcard
from targets.endpoint import Application, Endpoint
from targets.microsoft365.calendar import Calendars
from targets.microsoft365.contacts import Contacts
from targets.microsoft365.files import Files
from targets.microsoft365.mail import Mail

ROLES = {"Calendars.ReadWrite", "Contacts.ReadWrite", "Files.ReadWrite.All"}
ONEDRIVE = shelf(Service.FILES, "OneDrive")
DATED = {"modified": "2019-03-04T05:06:07Z", "created": "2018-01-02T03:04:05Z"}
BIG = bytes(range(251)) * 90_000  # 22 MB: three pieces


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """As many tries as ever, without the pauses between them."""
    with stamina.set_testing(True, attempts=6, cap=True):
        yield


@pytest.fixture(scope="module")
def tenant() -> Iterator[SimulatedTenant]:
    with SimulatedTenant(messages=3) as running:
        running.state.app.roles |= ROLES
        running.switches.resource_units = 1_000_000
        yield running


class Mover:
    """A new account of the tenant, and targets for it."""

    made = 0

    def __init__(self, tenant: SimulatedTenant, state: Path) -> None:
        Mover.made += 1
        self.tenant, self.alias = tenant, f"mover{Mover.made}"
        self.user = tenant.state.add_user(self.alias, f"Mover {Mover.made}")
        app = Application(
            tenant.tenant_id, tenant.client_id, lambda: tenant.client_secret, None, None,
            tenant.graph_url, tenant.login_url,
        )  # fmt: skip
        self.endpoint = Endpoint("back", "", account=self.user.upn, username=self.user.upn, app=app, connections=16, state=state)  # fmt: skip
        tenant.faults.clear()
        tenant.log.clear()

    def put(
        self, kind: type, where: Shelf, *items: tuple[Parcel, bytes], look: bool = False
    ) -> list[Claim]:
        target: Target = kind(self.endpoint)
        try:
            target.make_collection(where)
            return [Claim(each, end) for each, end in target.put(where, loaded(items), look=look)]
        finally:
            target.close()

    def proofs(self, kind: type, where: Shelf, *claims: Claim, deep: bool = True) -> list[str]:
        target: Target = kind(self.endpoint)
        try:
            asked = [replace(each, deep=deep) for each in claims]
            return [f"{each.state} {each.what}".strip() for each in target.read_back(where, asked)]
        finally:
            target.close()

    def files(self) -> dict[str, bytes]:
        drive = self.user.drives[0]
        found = {}
        for item in drive.items.values():
            if item.uid != ROOT and item.content is not None:
                found[drive.path(item)] = b"".join(item.content.read(0, item.content.size))
        return found


@pytest.fixture
def mover(tenant: SimulatedTenant, tmp_path: Path) -> Mover:
    return Mover(tenant, tmp_path)


def states(claims: list[Claim]) -> set[str]:
    return {each.put.state for each in claims}


def whys(claims: list[Claim]) -> dict[str, str]:
    return {each.parcel.path: each.put.why for each in claims if each.put.why}


def file(name: str, data: bytes, where: Shelf = ONEDRIVE) -> tuple[Parcel, bytes]:
    inner = tuple(name.split("/"))
    return parcel(where, inner[-1], data, inner=inner, about=DATED), data


def household() -> list[tuple[Parcel, bytes]]:
    names = ("Über größer.txt", "🎉 party.txt", "#1 100% & a+b; c'?.txt", "l" * 200 + ".txt")
    small = [file(f"a/b c/{name}", name.encode()) for name in names]
    return [*small, file("top.txt", b"top"), file("a/empty", b""), file("a/big.bin", BIG)]


class TestFiles:
    def test_files_arrive_with_their_folders_and_dates(self, mover: Mover) -> None:
        claims = mover.put(Files, ONEDRIVE, *household())
        assert states(claims) <= {"restored", "repaired"}
        assert whys(claims).keys() == {"files/OneDrive/a/b c/#1 100% & a+b; c'?.txt"}
        arrived = mover.files()
        assert arrived["a/big.bin"] == BIG
        assert arrived["a/empty"] == b""
        assert len(arrived) == 7
        modified = {item.modified.isoformat() for item in mover.user.drives[0].items.values() if item.content}  # fmt: skip
        assert modified == {"2019-03-04T05:06:07+00:00"}
        assert set(mover.proofs(Files, ONEDRIVE, *claims)) == {"same"}
        assert set(mover.proofs(Files, ONEDRIVE, *claims, deep=False)) == {"same"}

    def test_a_second_restore_puts_nothing(self, mover: Mover) -> None:
        mover.put(Files, ONEDRIVE, *household())
        before = mover.files()
        mover.tenant.log.clear()
        assert states(mover.put(Files, ONEDRIVE, *household(), look=True)) == {"present"}
        assert mover.files() == before
        assert {each.method for each in mover.tenant.log if each.door == "graph"} == {"GET"}

    def test_another_file_of_the_name_stays_and_the_backup_goes_beside_it(
        self, mover: Mover
    ) -> None:
        mover.tenant.state.put_file(mover.user.drives[0], "a/TOP.txt", b"somebody's work")
        twin = file("a/top.txt", b"from the backup")
        (first,) = mover.put(Files, ONEDRIVE, twin)
        assert first.put.state == "repaired"
        assert "another file had its name" in first.put.why
        assert states(mover.put(Files, ONEDRIVE, twin)) == {"present"}
        assert sorted(mover.files().values()) == [b"from the backup", b"somebody's work"]

    def test_a_second_drive_gets_a_folder_of_its_own(self, mover: Mover) -> None:
        library = shelf(Service.FILES, "Case library")
        mover.put(Files, library, file("x.txt", b"x", library))
        assert mover.files() == {"Case library/x.txt": b"x"}

    def test_an_upload_goes_on_where_it_was_cut(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("reset", route="up", skip=1, times=1))
        mover.tenant.faults.add(Fault("cut", route="up", method="PUT", skip=1, times=1))
        (claim,) = mover.put(Files, ONEDRIVE, file("big.bin", BIG))
        assert claim.put.state == "restored"
        assert mover.files() == {"big.bin": BIG}
        taken = [each for each in mover.tenant.log.where(door="upload", method="PUT") if each.status in {201, 202}]  # fmt: skip
        ranges = [each.headers["content-range"] for each in taken]
        assert 416 not in {each.status for each in mover.tenant.log.where(door="upload")}
        assert len(ranges) == len(set(ranges)) == 3, ranges

    def test_an_upload_session_that_ended_begins_again(
        self, mover: Mover, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mover.tenant.switches, "upload_lifetime", 0.0)
        mover.tenant.faults.add(Fault("error", route="none"))
        with pytest.raises(TransientError, match="sessions end"):
            mover.put(Files, ONEDRIVE, file("big.bin", BIG))
        monkeypatch.undo()
        assert states(mover.put(Files, ONEDRIVE, file("big.bin", BIG), look=True)) == {"restored"}

    def test_a_lost_answer_makes_no_second_file(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("cut", method="PUT", route="drives/*/content", times=1))
        mover.tenant.faults.add(Fault("cut", method="PUT", route="up", skip=2, times=1))
        claims = mover.put(Files, ONEDRIVE, file("small.txt", b"small"), file("big.bin", BIG))
        assert states(claims) <= {"present", "restored"}
        assert mover.files() == {"small.txt": b"small", "big.bin": BIG}
        dates = {item.modified.year for item in mover.user.drives[0].items.values() if item.content}
        assert dates == {2019}

    def test_the_token_never_goes_to_an_upload_address(self, mover: Mover) -> None:
        mover.put(Files, ONEDRIVE, file("big.bin", BIG))
        uploads = mover.tenant.log.where(door="upload")
        assert uploads
        assert all("authorization" not in each.headers for each in uploads)

    def test_a_full_drive_ends_the_run(self, mover: Mover) -> None:
        mover.user.drives[0].quota = 1_000_000
        for big in (b"x" * 2_000_000, BIG):
            with pytest.raises(UserError) as caught:
                mover.put(Files, ONEDRIVE, file("big.bin", big))
            assert caught.value.reason == "quota"

    def test_throttling_is_obeyed(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("throttle", route="drives/*", times=1, retry_after=1))
        mover.tenant.faults.add(Fault("unavailable", route="drives/*", times=2))
        claims = mover.put(Files, ONEDRIVE, *(file(f"{n}.txt", b"%d" % n) for n in range(12)))
        assert states(claims) == {"restored"}
        assert len(mover.files()) == 12

    def test_the_whole_drive_of_a_person_comes_back_or_says_why_not(self, mover: Mover) -> None:
        origin = mover.tenant.state.drive("amelia")
        items = []
        for item in origin.items.values():
            if item.content is None or item.content.size > 5_000_000 or item.malware:
                continue
            data = b"".join(item.content.read(0, item.content.size))
            items.append(file(origin.path(item), data))
        claims = mover.put(Files, ONEDRIVE, *items)
        assert len(claims) == len(items)
        refused = {path.rpartition("/")[2] for path in whys([c for c in claims if c.put.state == "quarantined"])}  # fmt: skip
        assert refused == {"bottom.txt"}  # its path is longer than OneDrive takes
        digests = {hashlib.sha256(each).hexdigest() for each in mover.files().values()}
        stored = [each for each in claims if each.put.state != "quarantined"]
        assert digests == {each.parcel.sha256 for each in stored}
        assert set(mover.proofs(Files, ONEDRIVE, *stored)) == {"same"}
        assert states(mover.put(Files, ONEDRIVE, *items)) == {"present", "quarantined"}

    def test_what_was_changed_or_removed_there_is_told(self, mover: Mover) -> None:
        claims = mover.put(Files, ONEDRIVE, file("a.txt", b"aaaa"), file("b.txt", b"bbbb"))
        state, drive = mover.tenant.state, mover.user.drives[0]
        state.put_file(drive, "a.txt", b"abab")
        state.delete_item(drive, "b.txt")
        said = mover.proofs(Files, ONEDRIVE, *claims)
        assert said == ["changed the content differs", "missing is not there"]


BOOK = shelf(Service.CONTACTS, "Contacts", special="contacts")
WITNESSES = shelf(Service.CONTACTS, "Witnesses: harbour", "Interpreters")


def address_book(tenant: SimulatedTenant) -> list[tuple[Parcel, bytes]]:
    """Everything that the tenant's own address book holds, as the backup keeps it."""
    book = tenant.state.user("amelia").contacts
    found = []
    for contact in book.contacts.values():
        row = contact_json(book, contact)
        data = contact_to_vcard(row, contact.photo, "image/png")
        found.append((parcel(BOOK, f"{contact.uid}.vcf", data, key=row["id"]), data))
    return found


def real(corpus: Path, suffix: str, where: Shelf) -> list[tuple[Parcel, bytes]]:
    files = sorted((corpus / suffix).iterdir())
    return [(parcel(where, each.name, each.read_bytes()), each.read_bytes()) for each in files]


class TestContacts:
    def test_the_whole_address_book_comes_back_and_says_the_same(self, mover: Mover) -> None:
        items = address_book(mover.tenant)
        claims = mover.put(Contacts, BOOK, *items)
        assert states(claims) == {"restored", "repaired"}
        assert list(whys(claims).values()) == [
            "1 detail moved into the notes"
        ]  # an Exchange address
        assert set(mover.proofs(Contacts, BOOK, *claims)) == {"same"}
        full = next(c for c in mover.user.contacts.contacts.values() if c.data["surname"] == "Dupont-Ōtani" and c.photo)  # fmt: skip
        origin = next(c for c in mover.tenant.state.user("amelia").contacts.contacts.values() if c.data["surname"] == "Dupont-Ōtani")  # fmt: skip
        assert full.photo == origin.photo
        for address in ("homeAddress", "businessAddress"):  # where an empty part says nothing
            assert full.data[address].items() <= origin.data[address].items()
        kept = set(origin.data) - {
            "emailAddresses",
            "personalNotes",
            "homeAddress",
            "businessAddress",
        }
        assert {k: full.data[k] for k in kept} == {k: origin.data[k] for k in kept}

    def test_a_second_restore_puts_nothing(self, mover: Mover) -> None:
        items = address_book(mover.tenant)
        mover.put(Contacts, BOOK, *items)
        mover.tenant.log.clear()
        assert states(mover.put(Contacts, BOOK, *items, look=True)) == {"present"}
        assert {each.method for each in mover.tenant.log if each.door == "graph"} == {"GET"}

    def test_into_the_mailbox_that_still_has_them_nothing_is_put(self, mover: Mover) -> None:
        amelia = mover.tenant.state.user("amelia")
        mover.endpoint = replace(mover.endpoint, account=amelia.upn)
        before = len(amelia.contacts.contacts)
        assert states(mover.put(Contacts, BOOK, *address_book(mover.tenant)[:4], look=True)) == {
            "present"
        }
        assert len(amelia.contacts.contacts) == before

    def test_folders_lie_where_they_lay(self, mover: Mover) -> None:
        data = b"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:A\r\nN:;A;;;\r\nUID:a\r\nEND:VCARD\r\n"
        for _ in range(2):
            mover.put(Contacts, WITNESSES, (parcel(WITNESSES, "a.vcf", data), data), look=True)
        folders = {each.name: each for each in mover.user.contacts.folders.values()}
        inner = folders["Interpreters"]
        assert inner.parent == folders["Witnesses: harbour"].uid
        assert len(mover.user.contacts.in_folder(inner)) == 1

    def test_a_lost_answer_makes_no_second_contact(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("cut", method="POST", route="*/contacts", times=2))
        items = address_book(mover.tenant)[:6]
        claims = mover.put(Contacts, BOOK, *items)
        assert states(claims) == {"restored"}
        assert len(mover.user.contacts.contacts) == 6

    def test_a_picture_that_a_killed_run_left_out_is_added(self, mover: Mover) -> None:
        items = [each for each in address_book(mover.tenant) if b"PHOTO" in each[1]]
        fault = mover.tenant.faults.add(Fault("bad_gateway", method="PUT", route="*/photo/*"))
        with pytest.raises(TransientError):
            mover.put(Contacts, BOOK, *items)
        mover.tenant.faults.remove(fault)
        claims = mover.put(Contacts, BOOK, *items, look=True)
        assert {each.put.state for each in claims} <= {"restored", "repaired"}
        assert len(mover.user.contacts.contacts) == len(items)
        assert all(each.photo for each in mover.user.contacts.contacts.values())

    def test_every_real_contact_ends_somewhere(self, mover: Mover, corpus: Path) -> None:
        items = real(corpus, "vcf", BOOK)
        claims = mover.put(Contacts, BOOK, *items)
        assert len(claims) == len(items)
        assert states(claims) <= {"restored", "repaired", "quarantined"}
        stored = [each for each in claims if each.put.state != "quarantined"]
        assert len(stored) > 0.7 * len(items), whys(claims)
        assert {each.partition(" ")[0] for each in mover.proofs(Contacts, BOOK, *stored)} == {
            "same"
        }
        again = mover.put(Contacts, BOOK, *items, look=True)
        assert states(again) <= {"present", "quarantined"}

    def test_what_somebody_changed_there_is_told_and_stays(self, mover: Mover) -> None:
        items = address_book(mover.tenant)[:2]
        claims = mover.put(Contacts, BOOK, *items)
        contact = next(iter(mover.user.contacts.contacts.values()))
        mover.tenant.state.put_contact(mover.user, {"jobTitle": "President"}, contact)
        assert "changed differs in jobTitle" in mover.proofs(Contacts, BOOK, *claims)
        again = mover.put(Contacts, BOOK, *items, look=True)
        assert sorted(each.put.state for each in again) == ["present", "quarantined"]
        assert "jobTitle" in " ".join(whys(again).values())


DIARY = shelf(Service.CALENDAR, "Calendar", special="calendar")
COURT = shelf(Service.CALENDAR, "Court dates / Gericht")


def agenda(tenant: SimulatedTenant) -> list[tuple[Parcel, bytes]]:
    """Every event of the tenant's own calendars, as the backup keeps it."""
    held = tenant.state.user("amelia").agenda
    found = []
    for event in held.events.values():
        row = event_json(held, event)
        if event.recurring:
            row["cancelledOccurrences"] = cancelled_json(held, event)
            row["exceptionOccurrences"] = exceptions_json(held, event)
        files = [Attachment(x.name, x.content_type, x.content) for x in event.attachments if x.kind == "file"]  # fmt: skip
        data = event_to_ics(row, files)
        found.append((parcel(DIARY, f"{event.uid}.ics", data, key=row["id"]), data))
    return found


def ics(*lines: str, uid: str = "u1") -> tuple[Parcel, bytes]:
    inside = ["BEGIN:VEVENT", f"UID:{uid}", "DTSTAMP:20260101T000000Z", *lines, "END:VEVENT"]
    data = "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//t//t", *inside, "END:VCALENDAR", ""]).encode()  # fmt: skip
    return parcel(DIARY, f"{uid}.ics", data), data


WEEKLY = ("SUMMARY:Weekly", "DTSTART;TZID=Europe/Rome:20261005T090000",
          "DTEND;TZID=Europe/Rome:20261005T100000", "RRULE:FREQ=WEEKLY;COUNT=12")  # fmt: skip
MEETING = ("SUMMARY:Board of Ann", "DTSTART:20261005T090000Z", "DTEND:20261005T100000Z",
           "ORGANIZER;CN=Boss:mailto:boss@example.org", "DESCRIPTION:The minutes\\, please",
           "ATTENDEE;CN=Ann;RSVP=TRUE;PARTSTAT=ACCEPTED:mailto:ann@example.org")  # fmt: skip
SERIES = (*WEEKLY, "EXDATE;TZID=Europe/Rome:20261012T090000,20261109T090000", "END:VEVENT",
          "BEGIN:VEVENT", "UID:u1", "DTSTAMP:20260101T000000Z", "SUMMARY:Moved",
          "RECURRENCE-ID;TZID=Europe/Rome:20261026T090000", "DTSTART;TZID=Europe/Rome:20261027T110000",
          "DTEND;TZID=Europe/Rome:20261027T113000", "LOCATION:Elsewhere")  # fmt: skip


YEARLY = ("SUMMARY:Fair", "DTSTART;VALUE=DATE:20240314", "DTEND;VALUE=DATE:20240316",
          "RRULE:FREQ=YEARLY;UNTIL=20300314", "EXDATE;VALUE=DATE:20250314", "END:VEVENT",
          "BEGIN:VEVENT", "UID:u1", "DTSTAMP:20260101T000000Z", "SUMMARY:Great fair",
          "RECURRENCE-ID;VALUE=DATE:20270314", "DTSTART;VALUE=DATE:20270315",
          "DTEND;VALUE=DATE:20270317")  # fmt: skip


class TestCalendars:
    def test_a_series_of_whole_days_keeps_its_days(self, mover: Mover) -> None:
        (claim,) = mover.put(Calendars, DIARY, ics(*YEARLY))
        assert claim.put.state == "restored", claim.put.why
        (series,) = mover.user.agenda.events.values()
        assert [day.isoformat() for day in series.cancelled] == ["2025-03-14"]
        assert series.moved[0].data["start"]["dateTime"].startswith("2027-03-15T00:00:00")
        assert mover.proofs(Calendars, DIARY, claim) == ["same"]

    def test_an_attachment_whose_answer_was_lost_is_there_once(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("cut", method="POST", route="*/attachments", times=1))
        items = [each for each in agenda(mover.tenant) if b"Agenda.pdf" in each[1]]
        assert states(mover.put(Calendars, DIARY, *items)) <= {"restored", "repaired"}
        (event,) = mover.user.agenda.events.values()
        assert [each.name for each in event.attachments] == ["Agenda.pdf"]
        assert "Attendees:" in event.data["body"]["content"]
        assert "Strategy: harbour workers</body>" not in event.data["body"]["content"]

    def test_large_attachments_go_in_pieces(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("cut", route="up", method="PUT", skip=1, times=1))
        data = bytes(range(256)) * 16_000
        held = base64.b64encode(data).decode()
        item = ics(*WEEKLY, f"ATTACH;ENCODING=BASE64;VALUE=BINARY;FILENAME=big.bin:{held}")
        (claim,) = mover.put(Calendars, DIARY, item)
        assert claim.put.state == "restored", claim.put.why
        (event,) = mover.user.agenda.events.values()
        assert [(each.name, each.content) for each in event.attachments] == [("big.bin", data)]
        assert mover.proofs(Calendars, DIARY, claim) == ["same"]

    @pytest.mark.parametrize("kind", ["empty", "cleanly_short", "broken_json", "reset"])
    def test_an_answer_that_says_nothing_is_no_proof(self, mover: Mover, kind: str) -> None:
        mover.tenant.faults.add(Fault(kind, method="POST", route="*/events", times=2))
        claims = mover.put(Calendars, DIARY, *(ics(*WEEKLY, uid=f"u{n}") for n in range(3)))
        assert states(claims) == {"restored"}
        assert len(mover.user.agenda.events) == 3
        assert set(mover.proofs(Calendars, DIARY, *claims)) == {"same"}

    def test_one_event_that_the_server_fails_over_does_not_end_the_run(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("error", method="POST", route="*/events", times=30, skip=1))
        claims = mover.put(Calendars, DIARY, *(ics(*WEEKLY, uid=f"u{n}") for n in range(3)))
        assert sorted(states(claims)) == ["quarantined", "restored"]
        assert "fails over it" in " ".join(whys(claims).values())

    def test_every_event_of_the_tenant_comes_back_and_says_the_same(self, mover: Mover) -> None:
        items = agenda(mover.tenant)
        claims = mover.put(Calendars, DIARY, *items)
        assert states(claims) == {"restored", "repaired"}, whys(claims)
        assert 1 < mover.tenant.log.most_in_flight(mover.user.id) <= 4
        assert 429 not in {each.status for each in mover.tenant.log}
        assert set(mover.proofs(Calendars, DIARY, *claims)) == {"same"}
        (series,) = (each for each in mover.user.agenda.events.values() if each.data["subject"] == "Monday meeting")  # fmt: skip
        origin = next(each for each in mover.tenant.state.user("amelia").agenda.events.values() if each.data["subject"] == "Monday meeting")  # fmt: skip
        assert series.cancelled == origin.cancelled
        assert [x.original for x in series.moved] == [x.original for x in origin.moved]
        assert series.moved[0].data["subject"] == "Monday meeting (moved to Tuesday)"
        assert series.data["recurrence"] == origin.data["recurrence"]
        assert any(each.attachments for each in mover.user.agenda.events.values())

    def test_a_second_restore_puts_nothing(self, mover: Mover) -> None:
        items = agenda(mover.tenant)
        mover.put(Calendars, DIARY, *items)
        mover.tenant.log.clear()
        assert states(mover.put(Calendars, DIARY, *items, look=True)) == {"present"}
        assert {each.method for each in mover.tenant.log if each.door == "graph"} == {"GET"}
        assert mover.tenant.log.most_in_flight(mover.user.id) <= 4

    def test_into_the_mailbox_that_still_has_them_nothing_is_put(self, mover: Mover) -> None:
        amelia = mover.tenant.state.user("amelia")
        mover.endpoint = replace(mover.endpoint, account=amelia.upn)
        before = len(amelia.agenda.events)
        main = {f"{x.uid}.ics" for x in amelia.agenda.in_calendar(amelia.agenda.calendar())}
        items = [each for each in agenda(mover.tenant) if each[0].path.rpartition("/")[2] in main]
        claims = mover.put(Calendars, DIARY, *items, look=True)
        assert len(amelia.agenda.events) == before
        assert sum(each.put.state == "present" for each in claims) >= len(claims) - 2, whys(claims)

    def test_no_invitation_ever_leaves(self, mover: Mover) -> None:
        mover.tenant.state.outbox.clear()
        items = [*agenda(mover.tenant), ics(*MEETING)]
        claims = mover.put(Calendars, DIARY, *items)
        assert mover.tenant.state.outbox == []
        assert all(not each.data["attendees"] for each in mover.user.agenda.events.values())
        told = {each.parcel.path.rpartition("/")[2]: each for each in claims}["u1.ics"].put
        assert told.why == "1 attendee moved into the text"
        (board,) = (
            x for x in mover.user.agenda.events.values() if x.data["subject"] == "Board of Ann"
        )
        for words in ("The minutes, please", "Organizer: Boss", "Ann &lt;ann@example.org&gt; (accepted)"):  # fmt: skip
            assert words in board.data["body"]["content"]

    def test_the_outbox_is_no_dummy(self, mover: Mover) -> None:
        mover.tenant.state.outbox.clear()
        when = {"dateTime": "2026-11-02T08:00:00", "timeZone": "UTC"}
        people = [{"emailAddress": {"address": "ann@example.org"}, "type": "required"}]
        with TenantClient(mover.tenant) as client:
            body = {"subject": "x", "start": when, "end": when, "attendees": people}
            made = client.send("POST", f"users/{mover.user.id}/events", json=body)
            event = f"users/{mover.user.id}/events/{q(made.json()['id'])}"
            client.send("PATCH", event, json={"subject": "y"})
            client.send("DELETE", event)
        sent = [(each.kind, each.recipients) for each in mover.tenant.state.outbox]
        assert sent == [(k, ("ann@example.org",)) for k in ("request", "update", "cancel")]

    @pytest.mark.parametrize("setting", [{"keep_attendees": True}, {"scheduling": "agent"}])
    def test_there_is_no_switch_for_people(self, mover: Mover, setting: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="cannot keep people"):
            Calendars(replace(mover.endpoint, **setting))

    def test_a_series_keeps_its_zone_and_its_exceptions(self, mover: Mover) -> None:
        (claim,) = mover.put(Calendars, DIARY, ics(*SERIES))
        assert claim.put.state == "restored", claim.put.why
        (series,) = mover.user.agenda.events.values()
        assert series.data["originalStartTimeZone"] == "W. Europe Standard Time"
        assert [day.isoformat() for day in series.cancelled] == ["2026-10-12", "2026-11-09"]
        (moved,) = series.moved
        assert moved.original.isoformat() == "2026-10-26T08:00:00+00:00"
        assert moved.data["start"]["dateTime"].startswith("2026-10-27T10:00:00")
        assert moved.data["location"]["displayName"] == "Elsewhere"
        assert mover.proofs(Calendars, DIARY, claim) == ["same"]

    def test_a_series_that_a_killed_run_left_half_done_is_completed(self, mover: Mover) -> None:
        fault = mover.tenant.faults.add(Fault("bad_gateway", method="DELETE", route="*/events/*", skip=1))  # fmt: skip
        with pytest.raises(TransientError):
            mover.put(Calendars, DIARY, ics(*SERIES))
        mover.tenant.faults.remove(fault)
        (claim,) = mover.put(Calendars, DIARY, ics(*SERIES), look=True)
        assert claim.put.state == "restored"
        assert len(mover.user.agenda.events) == 1
        assert mover.proofs(Calendars, DIARY, claim) == ["same"]
        assert states(mover.put(Calendars, DIARY, ics(*SERIES), look=True)) == {"present"}

    @pytest.mark.parametrize("conflict", [False, True])
    def test_a_lost_answer_makes_no_second_event(
        self, mover: Mover, conflict: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mover.tenant.switches, "transaction_conflict", conflict)
        mover.tenant.faults.add(Fault("cut", method="POST", route="*/events", times=2))
        claims = mover.put(Calendars, DIARY, *(ics(*WEEKLY, uid=f"u{n}") for n in range(4)))
        assert states(claims) == {"restored"}
        again = mover.put(Calendars, DIARY, *(ics(*WEEKLY, uid=f"u{n}") for n in range(4)))
        assert len(mover.user.agenda.events) == 4
        assert states(again) == {"restored"}  # without a look it is the transactionId that saves us

    @pytest.mark.parametrize(
        ("rule", "why"),
        [
            ("FREQ=HOURLY", "FREQ=HOURLY"),
            ("FREQ=MONTHLY;BYDAY=5MO", "number 5"),
            ("FREQ=MONTHLY;BYMONTHDAY=1,15", "several days"),
            ("FREQ=YEARLY;BYWEEKNO=20", "BYWEEKNO"),
            ("FREQ=WEEKLY;BYDAY=TU", "first day"),
        ],
    )
    def test_what_graph_cannot_repeat_is_kept_with_a_reason(
        self, mover: Mover, rule: str, why: str
    ) -> None:
        (claim,) = mover.put(Calendars, DIARY, ics(*WEEKLY[:-1], f"RRULE:{rule}"))
        assert claim.put.state == "quarantined"
        assert why in claim.put.why
        assert not mover.user.agenda.events

    def test_calendars_are_made_once(self, mover: Mover) -> None:
        for _ in range(2):
            mover.put(Calendars, COURT, ics(*WEEKLY), look=True)
        assert [each.name for each in mover.user.agenda.calendars.values()] == ["Calendar", "Court dates / Gericht"]  # fmt: skip
        assert len(mover.user.agenda.events) == 1

    def test_every_real_event_ends_somewhere(self, mover: Mover, corpus: Path) -> None:
        mover.tenant.state.outbox.clear()
        items = real(corpus, "ics", DIARY)
        claims = mover.put(Calendars, DIARY, *items)
        assert len(claims) == len(items)
        assert states(claims) <= {"restored", "repaired", "quarantined"}
        stored = [each for each in claims if each.put.state != "quarantined"]
        assert {each.partition(" ")[0] for each in mover.proofs(Calendars, DIARY, *stored)} == {
            "same"
        }
        assert mover.tenant.state.outbox == []
        again = mover.put(Calendars, DIARY, *items, look=True)
        assert states(again) <= {"present", "quarantined"}
        assert len(mover.user.agenda.events) == len(stored)


@dataclass
class TokenDoor:
    """Entra ID for Exchange: tokens that the IMAP server takes, for as long as a test wants."""

    server: Dovecot
    lifetime: int = 3600
    asked: list[dict[str, str]] = field(default_factory=list)
    user: str = ""
    behind: str = ""
    """Who hands out tokens for everything but Exchange."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.asked.append(form)
        if "outlook" not in form["scope"]:
            async with httpx.AsyncClient() as client:
                theirs = await client.post(f"{self.behind}{request.path}", data=form)
            return web.Response(body=theirs.content, status=theirs.status_code)
        token = self.server.token(self.user, lifetime=self.lifetime)
        return web.json_response({"access_token": token, "expires_in": self.lifetime})


class Post:
    """A mailbox at the real IMAP server, reached with tokens alone."""

    made = 0

    def __init__(self, server: Dovecot, door: TokenDoor, url: str, state: Path) -> None:
        Post.made += 1
        self.server, self.door, self.user = server, door, f"post{Post.made}"
        door.user, door.lifetime = self.user, 3600
        door.asked.clear()
        app = Application("t", "c", lambda: "s3cret", None, None, "http://127.0.0.1:1/v1.0", url)
        self.endpoint = Endpoint("back", "microsoft365-mail", account=self.user, username=self.user, host="127.0.0.1", port=server.imaps, ca_file=server.cert, app=app, state=state)  # fmt: skip

    def put(
        self, where: Shelf, items: Iterable[tuple[Parcel, bytes]], *, look: bool = False
    ) -> list[Claim]:
        target = Mail(self.endpoint)
        try:
            target.make_collection(where)
            return [Claim(each, end) for each, end in target.put(where, loaded(items), look=look)]
        finally:
            target.close()


@pytest.fixture(scope="module")
def exchange() -> Iterator[tuple[Dovecot, TokenDoor, str]]:
    with dovecot() as server:
        door = TokenDoor(server)
        with small_server(door.answer) as url:
            yield server, door, url


@pytest.fixture
def post(exchange: tuple[Dovecot, TokenDoor, str], tmp_path: Path) -> Post:
    return Post(*exchange, tmp_path)


INBOX = shelf(Service.MAIL, "Posteingang", special="inbox")
SENT = shelf(Service.MAIL, "Gesendete Elemente", special="sentitems")


def letters(tenant: SimulatedTenant, where: Shelf) -> list[tuple[Parcel, bytes]]:
    """Every message of the tenant's own mailbox that it hands out."""
    found = []
    for folder in tenant.state.user("amelia").mailbox.folders.values():
        for number, message in folder.messages.items():
            if not folder.is_search and not message.fault:
                data = message.content.mime()
                about = {"received": "2026-10-01T10:00:00Z", "seen": True}
                found.append((parcel(where, f"{folder.uid}-{number}.eml", data, about=about), data))
    return found


class TestMail:
    def test_mail_goes_in_with_an_applications_token_and_comes_back_the_same(
        self, post: Post, tenant: SimulatedTenant
    ) -> None:
        items = letters(tenant, INBOX)
        claims = post.put(INBOX, items)
        assert states(claims) <= {"restored", "repaired"}
        target = Mail(post.endpoint)
        assert {each.state for each in target.read_back(INBOX, claims)} == {"same"}
        target.close()
        assert {each["scope"] for each in post.door.asked} == {"https://outlook.office365.com/.default"}  # fmt: skip
        assert states(post.put(INBOX, items, look=True)) == {"present"}

    def test_folders_are_found_by_what_they_are_for(
        self, post: Post, tenant: SimulatedTenant
    ) -> None:
        post.put(SENT, letters(tenant, SENT)[:2])
        assert list(post.server.maildir(post.user).glob(".Sent/cur/*"))

    def test_a_token_that_ends_in_the_middle_is_replaced(
        self, post: Post, tenant: SimulatedTenant
    ) -> None:
        post.door.lifetime = 2
        items = [*letters(tenant, INBOX)[:8], *letters(tenant, INBOX)[8:16]]

        def interrupted() -> Iterator[tuple[Parcel, bytes]]:
            yield from items[:8]
            time.sleep(2.5)
            post.server.restart()  # every session is gone, and the first token is worth nothing
            yield from items[8:]

        assert states(post.put(INBOX, interrupted())) <= {"restored", "repaired"}
        assert len(post.door.asked) >= 2
        found = list(post.server.maildir(post.user).glob("[cn]??/*"))
        assert len(found) == len(items)

    def test_a_refused_login_says_what_has_to_be_granted(self, post: Post) -> None:
        post.door.user = "somebody-else"
        target = Mail(post.endpoint)
        with pytest.raises(AuthError) as caught:
            list(target.preflight())
        assert "IMAP.AccessAsApp" in caught.value.hint
        assert "Add-MailboxPermission" in " ".join(target.steps())
        target.close()


class TestWiring:
    """By the configuration, as a person writes it."""

    def test_a_section_becomes_all_four_services(self, mover: Mover, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text(mover.tenant.client_secret)
        section = TargetSection(
            name="back", type="microsoft365", tenant_id=mover.tenant.tenant_id,
            client_id=mover.tenant.client_id, client_secret_file=secret,
            graph_url=mover.tenant.graph_url, login_url=mover.tenant.login_url,
        )  # fmt: skip
        target = targets.connect(section, targets.Request(mover.user.upn, tmp_path))
        assert target.services == frozenset(Service)
        for where, item in ((DIARY, ics(*WEEKLY)), (ONEDRIVE, file("x", b"x"))):
            target.make_collection(where)
            ((_, end),) = target.put(where, loaded([item]), look=True)
            assert end.state == "restored"
        target.close()

    def test_keep_attendees_is_refused_with_the_reason(self, tmp_path: Path) -> None:
        section = TargetSection(
            name="back", type="microsoft365", tenant_id="t", client_id="c", keep_attendees=True
        )
        with pytest.raises(ConfigError, match="cannot keep people"):
            targets.connect(section, targets.Request("a@example.org", tmp_path))

    def test_a_certificate_works_in_place_of_a_secret(self, mover: Mover, tmp_path: Path) -> None:
        certificate, key = process.certificate(tmp_path)
        mover.tenant.register_certificate(certificate.read_bytes())
        assert mover.endpoint.app
        app = replace(mover.endpoint.app, certificate=certificate, key=key, secret=lambda: "")
        mover.endpoint = replace(mover.endpoint, app=app)
        assert states(mover.put(Files, ONEDRIVE, file("x", b"x"))) == {"restored"}


JOURNEY = """
[targets.back]
type = "microsoft365"
tenant_id = "{tenant.tenant_id}"
client_id = "{tenant.client_id}"
client_secret_file = "{folder}/client_secret"
graph_url = "{tenant.graph_url}"
login_url = "{login}"
mail = {{ host = "127.0.0.1", port = {mail.imaps}, ca_file = "{mail.cert}" }}
"""


def test_an_account_goes_back_into_the_tenant_as_somebody_else(
    mover: Mover, exchange: tuple[Dovecot, TokenDoor, str], tmp_path: Path
) -> None:
    """Backed up, restored by the command line as a person would, and proven."""
    tenant, (server, door, url) = mover.tenant, exchange
    door.user, door.lifetime, door.behind = mover.user.upn, 3600, tenant.login_url
    origin = tenant.state.directory.users[1].upn
    house = Household(tmp_path / "house", tenant, [origin])
    house.configure(JOURNEY.format(tenant=tenant, folder=house.folder, login=url, mail=server))
    house.backup()
    tenant.state.outbox.clear()
    said = house.command("restore", "--to", "back", "--account", origin, "--as", mover.user.upn, "--json")  # fmt: skip
    assert said.returncode == 0, said.stdout[-2000:] + said.stderr[-2000:]
    done = json.loads(said.stdout)["restore"]
    assert done["states"].keys() <= {"restored", "repaired"}
    assert done["services"].keys() == set(Service)
    assert {state for each in done["collections"] for state in each["proofs"]} == {"same"}
    assert mover.files()
    assert mover.user.agenda.events
    assert mover.user.contacts.contacts
    assert not tenant.state.outbox


class TestAccess:
    def test_an_application_that_may_only_read_is_told_what_it_needs(self, mover: Mover) -> None:
        mover.tenant.state.app.roles -= ROLES
        try:
            with pytest.raises(AuthError) as caught:
                mover.put(Files, shelf(Service.FILES, "Other"), file("x", b"x"))
        finally:
            mover.tenant.state.app.roles |= ROLES
        assert "Files.ReadWrite.All" in caught.value.hint

    @pytest.mark.parametrize("kind", [Calendars, Contacts, Files])
    def test_the_preflight_says_what_may_not_be_written(self, mover: Mover, kind: type) -> None:
        target = kind(mover.endpoint)
        assert {each.level for each in target.preflight()} == {"ok"}
        mover.tenant.state.app.roles -= ROLES
        reader = kind(mover.endpoint)
        found = [each for each in reader.preflight() if each.level == "error"]
        mover.tenant.state.app.roles |= ROLES
        assert "ReadWrite" in found[0].message
        target.close()
        reader.close()

    @pytest.mark.parametrize("kind", [Calendars, Contacts, Files])
    def test_an_account_that_does_not_exist_is_told(self, mover: Mover, kind: type) -> None:
        target = kind(replace(mover.endpoint, account="nobody@harbourlight.example"))
        with pytest.raises(UserError, match="nobody@harbourlight"):
            list(target.preflight())
        target.close()

    def test_a_wrong_secret_is_told_at_once(self, mover: Mover) -> None:
        app = replace(mover.endpoint.app, secret=lambda: "wrong")  # type: ignore[type-var]
        target = Files(replace(mover.endpoint, app=app))
        with pytest.raises(AuthError, match="AADSTS7000215"):
            list(target.preflight())
        target.close()

    def test_a_token_that_is_refused_early_is_renewed(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("expired_token", route="users/*/drive", times=1))
        assert states(mover.put(Files, ONEDRIVE, file("x", b"x"))) == {"restored"}

    def test_a_section_without_an_application_says_what_is_missing(self, mover: Mover) -> None:
        with pytest.raises(ConfigError) as caught:
            Files(replace(mover.endpoint, app=None))
        assert "tenant_id" in caught.value.hint


ODD = [
    b"",
    b"[]",
    b"<html>busy</html>",
    b'{"value": 7}',
    b'{"value": [7, null, {}], "id": 5, "@odata.nextLink": 3}',
    b'{"id": {"a": 1}, "value": [{"id": null, "name": 3, "displayName": [], "file": 4}]}',
    b'{"id": "x", "quota": [], "name": null, "recurrence": {"pattern": 4}, "uploadUrl": 9}',
    b'{"id": "x", "start": {"dateTime": 5}, "exceptionOccurrences": 3, "cancelledOccurrences": "no"}',
    b'{"value": [{"id": "x", "singleValueExtendedProperties": [7]}], "body": "text", "location": 1}',
]


@pytest.mark.parametrize("kind", [Calendars, Contacts, Files])
def test_no_answer_of_a_server_makes_it_stumble(mover: Mover, kind: type) -> None:
    data = b"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:A\r\nN:;A;;;\r\nUID:a\r\nEND:VCARD\r\n"
    item = {
        Calendars: ics(*SERIES),
        Contacts: (parcel(BOOK, "a.vcf", data), data),
        Files: file("a/b.txt", b"b"),
    }[kind]
    where = {Calendars: COURT, Contacts: WITNESSES, Files: ONEDRIVE}[kind]

    said = [b""]

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(body=said[0], status=201 if request.method == "POST" else 200)

    claim = Claim(item[0], Put("restored", "users/x/events/y", digest="0 event=1"))
    with small_server(answer) as url:
        app = replace(mover.endpoint.app, graph_url=f"{url}/v1.0")  # type: ignore[type-var]
        for said[0] in ODD:
            target = kind(replace(mover.endpoint, app=app))
            for work in (
                target.preflight,
                lambda target=target: target.put(where, loaded([item]), look=True),
                lambda target=target: target.read_back(where, [claim]),
            ):
                with suppress(BackupdError):
                    list(work())
            target.close()


def test_a_list_that_leads_elsewhere_gets_no_token(mover: Mover) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Authorization", ""))
        link = f"http://localhost:{request.url.port}/v1.0/more"
        return web.json_response({"value": [], "@odata.nextLink": link})

    with small_server(answer) as url:
        app = replace(mover.endpoint.app, graph_url=f"{url}/v1.0")  # type: ignore[type-var]
        target = Contacts(replace(mover.endpoint, app=app))
        with pytest.raises(UserError, match="leads to localhost"):
            list(target.preflight())
        target.close()
    assert len(asked) == 1
