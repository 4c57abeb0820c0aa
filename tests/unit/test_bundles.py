"""Files for an import: within its limits, the same in every run, and nothing cut off is lost."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import icalendar
import pytest
from parcels import loaded, parcel, shelf

from backupd.model import Service
from backupd.ports import PRESENT, QUARANTINED, REPAIRED, RESTORED, Claim, Parcel, Put, Shelf
from targets.bundles import Bundles
from targets.endpoint import Endpoint
from targets.proton import calendar, contacts
from targets.proton.imports import CALENDAR

WORK = shelf(Service.CALENDAR, "Work")
PEOPLE = shelf(Service.CONTACTS, "Contacts")


def event(n: int, *lines: str, start: str = "20240305T090000Z", uid: str | None = None) -> bytes:
    body = [f"UID:{uid or f'{n}@example.org'}", "DTSTAMP:20240301T000000Z", f"DTSTART:{start}"]
    whole = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:x", "METHOD:REQUEST", "BEGIN:VEVENT", *body]
    if not any(each.startswith("SUMMARY") for each in lines):
        whole.append(f"SUMMARY:Event {n}")
    return "\r\n".join([*whole, *lines, "END:VEVENT", "END:VCALENDAR", ""]).encode()


def card(n: int, name: str = "") -> bytes:
    return (
        f"BEGIN:VCARD\r\nVERSION:3.0\r\nUID:c{n}\r\nFN:{name or f'Person {n}'}\r\nN:;;;;\r\nEND:VCARD\r\n"
    ).encode()


def place(tmp_path: Path) -> Endpoint:
    return Endpoint(name="proton", type="proton-calendar", state=tmp_path)


def put(target: Bundles, where: Shelf, items: Iterable[bytes]) -> list[tuple[Parcel, Put]]:
    pairs = [(parcel(where, f"{n}", data), data) for n, data in enumerate(items)]
    return list(target.put(where, loaded(pairs), look=False))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(folder)): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file()
    }


def proofs(target: Bundles, where: Shelf, answers: Iterable[tuple[Parcel, Put]]) -> set[str]:
    return {
        f"{x.state} {x.what}".strip()
        for x in target.read_back(where, [Claim(*each) for each in answers])
    }


def test_a_second_run_leaves_the_same_files_and_repeats_nothing(tmp_path: Path) -> None:
    for expected in (RESTORED, PRESENT):
        before = snapshot(tmp_path)
        answers = put(calendar(place(tmp_path)), WORK, [event(n) for n in range(50)])
        assert {end.state for _, end in answers} == {expected}
        assert proofs(calendar(place(tmp_path)), WORK, answers) == {"same"}
        if expected == PRESENT:
            assert snapshot(tmp_path) == before
    assert list(before) == ["import/calendar-Work-001.ics"]


def test_what_is_new_in_a_later_run_is_added_to_the_last_file(tmp_path: Path) -> None:
    put(calendar(place(tmp_path)), WORK, [event(1)])
    answers = put(calendar(place(tmp_path)), WORK, [event(1), event(2)])
    assert [end.state for _, end in answers] == [PRESENT, RESTORED]
    whole = icalendar.Calendar.from_ical((tmp_path / "import/calendar-Work-001.ics").read_bytes())
    assert [str(each["UID"]) for each in whole.walk("VEVENT")] == ["1@example.org", "2@example.org"]


def test_no_file_is_larger_than_the_import_takes(tmp_path: Path) -> None:
    limits = replace(CALENDAR, max_bytes=3_000, max_items=10)
    target = Bundles(place(tmp_path), Service.CALENDAR, limits, lambda files: list(map(str, files)))
    answers = put(target, WORK, [event(n, "DESCRIPTION:" + "x" * 200 * (n % 3)) for n in range(40)])
    assert len(answers) == 40
    assert proofs(target, WORK, answers) == {"same"}
    assert len(target.files()) > 4
    assert [str(each) for each in target.files()] == target.steps()
    for each in target.files():
        assert each.stat().st_size <= 3_000
        assert each.read_bytes().count(b"BEGIN:VEVENT") <= 10


def test_what_is_too_long_is_shortened_told_and_kept_whole_beside(tmp_path: Path) -> None:
    long = event(
        1, "SUMMARY:" + "s\\, " * 200, "DESCRIPTION:" + "ä" * 4_000, "LOCATION:" + "l" * 300
    )
    target = calendar(place(tmp_path))
    answers = put(target, WORK, [long, event(2)])
    assert [end.state for _, end in answers] == [REPAIRED, RESTORED]
    why = answers[0][1].why
    assert "SUMMARY shortened from 600 to 255 characters" in why
    assert "DESCRIPTION shortened from 4000 to 3000 characters" in why
    kept = re.search(r"full/\S+\.ics", why)
    assert kept
    assert (target.folder / kept[0]).read_bytes() == long
    found = icalendar.Calendar.from_ical(target.files()[0].read_bytes()).walk("VEVENT")[0]
    assert (len(found["SUMMARY"]), len(found["DESCRIPTION"]), len(found["LOCATION"])) == (
        255,
        3_000,
        255,
    )
    assert proofs(target, WORK, answers) == {"same"}


def test_a_uid_that_is_too_long_is_replaced_the_same_in_every_run(tmp_path: Path) -> None:
    for expected in (REPAIRED, PRESENT):
        answers = put(calendar(place(tmp_path)), WORK, [event(1, uid="u" * 300)])
        assert [end.state for _, end in answers] == [expected]


def test_nothing_in_the_files_invites_anybody(tmp_path: Path) -> None:
    people = ("ORGANIZER:mailto:a@example.org", "ATTENDEE;RSVP=TRUE:mailto:b@example.org")
    target = calendar(place(tmp_path))
    put(target, WORK, [event(1, *people)])
    whole = target.files()[0].read_bytes()
    assert b"METHOD" not in whole
    assert b"RSVP" not in whole
    assert b"mailto:b@example.org" in whole


@pytest.mark.parametrize(
    ("start", "rule", "expected"),
    [
        ("16040229", "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "19960229"),
        ("19500305T090000Z", "RRULE:FREQ=YEARLY", "19780305T090000Z"),
        ("19500305T090000Z", "RRULE:FREQ=YEARLY;COUNT=30", ""),
        ("19500305T090000Z", "COMMENT:once", ""),
        ("20500305T090000Z", "RRULE:FREQ=YEARLY", ""),
    ],
)
def test_an_event_outside_the_years_begins_later_when_it_comes_back_or_is_refused(
    tmp_path: Path, start: str, rule: str, expected: str
) -> None:
    target = calendar(place(tmp_path))
    kind = ";VALUE=DATE" if "T" not in start else ""
    data = event(1, rule, start=start).replace(b"DTSTART:", f"DTSTART{kind}:".encode())
    [(_, end)] = put(target, WORK, [data])
    assert end.state == (REPAIRED if expected else QUARANTINED)
    if expected:
        assert f"DTSTART{kind}:{expected}".encode() in target.files()[0].read_bytes()


def test_two_items_with_one_uid_are_both_kept(tmp_path: Path) -> None:
    twins = [event(1), event(1, "LOCATION:elsewhere")]
    target = calendar(place(tmp_path))
    answers = put(target, WORK, twins)
    assert [end.why for _, end in answers] == ["", "another item has its UID"]
    assert proofs(target, WORK, answers) == {"same"}
    assert {end.state for _, end in put(calendar(place(tmp_path)), WORK, twins)} == {PRESENT}


def test_time_zones_are_in_a_file_once(tmp_path: Path) -> None:
    zone = (
        "BEGIN:VTIMEZONE\r\nTZID:Europe/Paris\r\nBEGIN:STANDARD\r\nDTSTART:19701025T030000\r\n"
        "TZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT"
    )
    items = [
        event(n)
        .replace(b"BEGIN:VEVENT", zone.encode())
        .replace(b"DTSTART:20240305T090000Z", b"DTSTART;TZID=Europe/Paris:20240305T090000")
        for n in range(3)
    ]
    target = calendar(place(tmp_path))
    answers = put(target, WORK, items)
    assert target.files()[0].read_bytes().count(b"BEGIN:VTIMEZONE") == 1
    assert proofs(target, WORK, answers) == {"same"}


def test_calendars_with_one_name_have_files_of_their_own(tmp_path: Path) -> None:
    target = calendar(place(tmp_path))
    for path in ("calendar/Work", "calendar/work~1"):
        put(target, replace(WORK, path=path), [event(1)])
    assert len(target.files()) == 2
    assert any("“Work”" in each for each in target.steps())


def test_contacts_of_all_folders_go_into_one_series(tmp_path: Path) -> None:
    target = contacts(place(tmp_path))
    first = put(target, PEOPLE, [card(n) for n in range(5)])
    put(target, shelf(Service.CONTACTS, "Other"), [card(9, "x" * 300)])
    assert [each.name for each in target.files()] == ["contacts-001.vcf"]
    assert target.files()[0].read_bytes().count(b"BEGIN:VCARD") == 6
    assert proofs(target, PEOPLE, first) == {"same"}
    assert any("contacts-001.vcf" in each for each in target.steps())


def test_a_file_that_lost_an_item_is_found_out(tmp_path: Path) -> None:
    target = calendar(place(tmp_path))
    answers = put(target, WORK, [event(1), event(2)])
    file = target.files()[0]
    file.write_bytes(file.read_bytes().replace(b"Event 1", b"Other 1"))
    assert proofs(target, WORK, answers[:1]) == {"changed SUMMARY"}
    file.unlink()
    assert proofs(target, WORK, answers) == {"missing"}


def test_looking_first_writes_nothing(tmp_path: Path) -> None:
    target = calendar(place(tmp_path))
    data = event(1, "SUMMARY:" + "s" * 300)
    [(one, reader)] = loaded([(parcel(WORK, "1", data), data)])
    assert "shortened" in target.examine(one, reader).why
    assert list(tmp_path.iterdir()) == []


def test_every_real_item_fits_or_is_refused_with_a_reason(corpus: Path, tmp_path: Path) -> None:
    for where, suffix, target in (
        (WORK, "ics", calendar(place(tmp_path))),
        (PEOPLE, "vcf", contacts(place(tmp_path))),
    ):
        paths = sorted((corpus / suffix).iterdir())
        pairs = [(parcel(where, each.name, each.read_bytes()), each.read_bytes()) for each in paths]
        answers = list(target.put(where, loaded(pairs), look=True))
        assert len(answers) == len(paths)
        kept = [each for each in answers if each[1].state != QUARANTINED]
        assert all(end.why for _, end in answers if end.state == QUARANTINED)
        assert len(kept) > len(paths) * 0.5
        assert proofs(target, where, kept) == {"same"}
        make = calendar if suffix == "ics" else contacts
        again = make(place(tmp_path)).put(where, loaded(pairs), look=True)
        assert {end.state for _, end in again} == {PRESENT, QUARANTINED}
