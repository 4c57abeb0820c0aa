"""Calendars arrive at real CalDAV servers: whole, once, and without a word to anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from dateutil.rrule import rrulestr
from graph_events import event, series
from icalendar import Calendar
from parcels import Checked, parcel, shelf
from servers.dav import SERVERS, Place, listed, place, put_all, states

from backupd.errors import AuthError
from backupd.model import Service
from backupd.ports import Claim, Parcel, Put, Shelf
from sources.graph.ical import Attachment, event_to_ics
from targets.dav.caldav import CalDav

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:icalendar")

Pair = tuple[Parcel, bytes]
SETTLED = {"restored", "repaired", "present"}


@pytest.fixture(scope="module", params=SERVERS)
def there(request: pytest.FixtureRequest) -> Iterator[Place]:
    with place(request.param) as made:
        yield made


@pytest.fixture
def target(there: Place) -> Iterator[CalDav]:
    made = CalDav(there.endpoint("caldav"))
    yield made
    made.close()


def calendar(name: str, **more: Any) -> Shelf:
    return shelf(Service.CALENDAR, name, **more)


def ics(uid: str, *lines: str, start: str = "20260302T100000Z") -> bytes:
    body = [f"UID:{uid}", "DTSTAMP:20260101T000000Z", f"DTSTART:{start}", *lines]
    if not any(each.startswith(("DTEND", "DURATION")) for each in lines):
        body.append("DURATION:PT1H")
    whole = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//t//t//EN", "BEGIN:VEVENT", *body]
    return "".join(f"{each}\r\n" for each in [*whole, "END:VEVENT", "END:VCALENDAR"]).encode()


def fetched(there: Place, put: Put) -> bytes:
    with there.client() as client:
        answer = client.get(put.where)
    assert answer.status_code == 200
    return answer.content


def names(there: Place, folder: str) -> set[str]:
    with there.client() as client:
        answer = client.request("PROPFIND", folder, headers={"Depth": "1"})
    hrefs = re.findall(r"href>([^<]*)<", answer.text)
    return {each.rpartition("/")[2] for each in hrefs} - {""}


def claims(pairs: list[Pair], puts: dict[str, Put]) -> list[Claim]:
    return [Claim(each, puts[each.key]) for each, _ in pairs if puts[each.key].where]


MEETING = ics(
    "meeting@t", "SUMMARY:Budget", "ORGANIZER;CN=Boss:mailto:u1@x.test",
    "ATTENDEE;CN=Two;RSVP=TRUE;PARTSTAT=NEEDS-ACTION:mailto:u2@x.test",
)  # fmt: skip


def graph_items(where: Shelf, mark: str = "g") -> list[Pair]:
    weekly = {"type": "weekly", "interval": 1, "daysOfWeek": ["monday"], "firstDayOfWeek": "monday"}
    moved = event(
        type="exception", seriesMasterId="AAMkAG=", originalStart="2026-03-09T08:00:00Z",
        start={"dateTime": "2026-03-10T12:00:00.0000000", "timeZone": "UTC"},
        end={"dateTime": "2026-03-10T13:00:00.0000000", "timeZone": "UTC"},
    )  # fmt: skip
    told = {"contentType": "html", "content": "<p>Look in C:\\Notes;</p> a, b"}
    people = [
        {"emailAddress": {"name": "Two", "address": "u2@x.test"}, "type": "required"},
        {"emailAddress": {"name": 'Ünï, "Q"', "address": "q@x.test"}, "type": "optional"},
    ]
    made = {
        "single": event_to_ics(event(iCalUId=f"{mark}1", body=told, isReminderOn=True,
                                     reminderMinutesBeforeStart=15, categories=["A,b", "ü"])),
        "series": event_to_ics(series(
            weekly, {"type": "numbered", "numberOfOccurrences": 6}, iCalUId=f"{mark}2",
            exceptionOccurrences=[moved],
            cancelledOccurrences=["OID.AAMkAG=.2026-03-16"])),
        "allday": event_to_ics(event(
            iCalUId=f"{mark}3", isAllDay=True,
            start={"dateTime": "2026-03-02T00:00:00.0000000", "timeZone": "UTC"},
            end={"dateTime": "2026-03-03T00:00:00.0000000", "timeZone": "UTC"})),
        "people": event_to_ics(event(
            iCalUId=f"{mark}4", attendees=people, organizer=people[0], isOrganizer=False,
            responseRequested=True)),
        "file": event_to_ics(event(iCalUId=f"{mark}5"), [Attachment("a.bin", "image/png", b"\x89" * 200_000)]),
        "long": event_to_ics(event(
            iCalUId=mark + "0400" * 60, subject="",
            body={"contentType": "text", "content": "größer " * 2000})),
    }  # fmt: skip
    return [(parcel(where, f"{name}.ics", data, key=name), data) for name, data in made.items()]


def test_what_graph_wrote_arrives_and_reads_back_the_same(there: Place, target: CalDav) -> None:
    where = calendar("Graph ☃ <b>&amp;")
    pairs = graph_items(where)
    puts = put_all(target, where, pairs)
    assert {put.state for put in puts.values()} == {"restored"}
    proofs = states(target.read_back(where, claims(pairs, puts)))
    assert {state for state, _ in proofs.values()} == {"same"}, proofs
    assert set(proofs) == set(puts)
    text = Calendar.from_ical(fetched(there, puts["single"])).walk("VEVENT")[0]
    assert "C:\\Notes" in str(text["DESCRIPTION"]) or "C:\\\\Notes" in str(text["DESCRIPTION"])


def test_a_series_happens_when_it_did_before(there: Place, target: CalDav) -> None:
    where = calendar("Series")
    pairs = [each for each in graph_items(where, "days") if each[0].key == "series"]
    puts = put_all(target, where, pairs)
    held = Calendar.from_ical(fetched(there, puts["series"])).walk("VEVENT")
    (master,) = (each for each in held if "RECURRENCE-ID" not in each)
    (override,) = (each for each in held if "RECURRENCE-ID" in each)
    start = master["DTSTART"].dt
    days = list(rrulestr(master["RRULE"].to_ical().decode(), dtstart=start))
    days = [each for each in days if each not in {out.dt for out in master["EXDATE"].dts}]
    days = [
        override["DTSTART"].dt if each == override["RECURRENCE-ID"].dt else each for each in days
    ]
    shown = [f"{each.astimezone(UTC):%m-%d %H}" for each in days]
    assert shown == ["03-02 08", "03-10 12", "03-23 08", "03-30 07", "04-06 07"]


def test_a_second_run_puts_nothing_even_without_a_ledger(there: Place, target: CalDav) -> None:
    where = calendar("Twice")
    pairs = graph_items(where, "twice")
    first = put_all(target, where, pairs)
    before = names(there, first["single"].where.rpartition("/")[0] + "/")
    for look in (True, False):
        again = CalDav(there.endpoint("caldav"))
        seen = len(there.recorder.requests)
        puts = put_all(again, where, pairs, look=look)
        assert {put.state for put in puts.values()} == {"present"}
        assert {key: put.where for key, put in puts.items()} == {
            key: put.where for key, put in first.items()
        }
        assert {put.digest for put in puts.values()} == {put.digest for put in first.values()}
        if look:
            assert not [r for r in there.recorder.requests[seen:] if r.method == "PUT"]
        again.close()
    assert names(there, first["single"].where.rpartition("/")[0] + "/") == before


def test_every_real_calendar_is_accounted_for(there: Place, target: CalDav, corpus: Path) -> None:
    where = calendar("Corpus")
    pairs = []
    for path in listed(corpus / "ics", ".ics"):
        data = path.read_bytes()
        pairs.append((parcel(where, path.name, data, key=path.name), data))
    puts = put_all(target, where, pairs)
    quarantined = {key: put.why for key, put in puts.items() if put.state == "quarantined"}
    assert {put.state for put in puts.values()} <= {*SETTLED, "quarantined"}
    assert all(quarantined.values())
    proofs = states(target.read_back(where, claims(pairs, puts)))
    lost = {key: told for key, told in proofs.items() if told[0] != "same"}
    assert not lost
    assert len(proofs) + len(quarantined) == len(pairs)
    assert len(proofs) > 50
    assert_quiet(there)
    if there.name == "cyrus":  # the others were asked for it above
        twice = put_all(target, where, pairs, look=True)
        assert not {key for key, put in twice.items() if put.state in {"restored", "repaired"}}


def assert_quiet(there: Place) -> None:
    """No request that the server ever saw could make it write to somebody."""
    for each in there.recorder.written():
        if each.headers.get("User-Agent") != "backupd":
            continue  # the hand of a person
        assert each.headers.get("Schedule-Reply") == "F"
        assert each.headers.get("Scheduling-Enabled") == "F"
        for said in re.sub(rb"\r\n[ \t]", b"", each.body).decode().split("\r\n"):
            name = re.split("[;:]", said, maxsplit=1)[0].upper()
            assert name != "METHOD"
            if name in {"ATTENDEE", "ORGANIZER"}:
                assert "SCHEDULE-AGENT=CLIENT" in said
                assert "RSVP" not in said.partition(":")[0].upper()


def test_what_a_person_changed_is_never_overwritten(there: Place, target: CalDav) -> None:
    where = calendar("Changed")
    data = ics("changed@t", "SUMMARY:as it was")
    pair = (parcel(where, "a.ics", data), data)
    (put,) = put_all(target, where, [pair]).values()
    with there.client() as client:
        edited = data.replace(b"as it was", b"edited here")
        kind = {"Content-Type": "text/calendar; charset=utf-8"}
        assert client.put(put.where, content=edited, headers=kind).status_code < 300
    again = CalDav(there.endpoint("caldav"))
    for look in (True, False):
        (second,) = put_all(again, where, [pair], look=look).values()
        assert second.state == "quarantined"
        assert "SUMMARY" in second.why
    again.close()
    assert b"edited here" in fetched(there, put)
    proofs = states(target.read_back(where, [Claim(pair[0], put)]))
    assert proofs[pair[0].key] == ("changed", "SUMMARY")


def test_what_is_gone_is_missing(there: Place, target: CalDav) -> None:
    where = calendar("Gone")
    pairs = [(parcel(where, f"{n}.ics", d), d) for n, d in ((1, ics("g1@t")), (2, ics("g2@t")))]
    puts = put_all(target, where, pairs)
    with there.client() as client:
        assert client.delete(puts[pairs[0][0].key].where).status_code < 300
    found = [state for state, _ in states(target.read_back(where, claims(pairs, puts))).values()]
    assert found == ["missing", "same"]


def test_an_item_that_somebody_imported_before_is_found_by_its_uid(
    there: Place, target: CalDav
) -> None:
    where = calendar("Imported")
    target.make_collection(where)
    folder = target._known().take(where).url
    same, other = ics("imported@t", "SUMMARY:x"), ics("other@t", "SUMMARY:theirs")
    with there.client() as client:
        kind = {"Content-Type": "text/calendar; charset=utf-8"}
        for name, data in (("hand.ics", same), ("hand2.ics", other)):
            assert client.put(folder + name, content=data, headers=kind).status_code < 300
    ours = ics("other@t", "SUMMARY:ours")
    pairs = [(parcel(where, "a.ics", same), same), (parcel(where, "b.ics", ours), ours)]
    puts = put_all(target, where, pairs, look=True)
    assert puts[pairs[0][0].key].state == "present"
    assert puts[pairs[0][0].key].where.endswith("hand.ics")
    second = puts[pairs[1][0].key]
    if there.name == "sabre":  # takes a UID twice
        assert second.state == "restored"
    else:
        assert second.state == "repaired"
        assert "UID" in second.why
    assert b"ours" in fetched(there, second)
    with there.client() as client:
        assert b"theirs" in client.get(folder + "hand2.ics").content


def test_namesakes_of_one_run_both_arrive(there: Place, target: CalDav) -> None:
    where = calendar("Namesakes")
    one, two = ics("twin@t", "SUMMARY:one"), ics("twin@t", "SUMMARY:two")
    pairs = [(parcel(where, "1.ics", one), one), (parcel(where, "2.ics", two), two)]
    one_by_one = CalDav(there.endpoint("caldav", connections=1))
    puts = put_all(one_by_one, where, pairs)
    one_by_one.close()
    assert [put.state for put in puts.values()] == ["restored", "repaired"]
    assert {
        state for state, _ in states(target.read_back(where, claims(pairs, puts))).values()
    } == {"same"}


@pytest.mark.parametrize("how", ["", "DTEND:20260302T100000Z", "DURATION:PT0S"])
def test_an_event_without_length_arrives(there: Place, target: CalDav, how: str) -> None:
    where = calendar("Short")
    data = ics(f"short{len(how)}@t", how or "X-N:1", "SUMMARY:s")
    if not how:
        data = data.replace(b"DURATION:PT1H\r\n", b"")
    pair = (parcel(where, f"{len(how)}.ics", data), data)
    (put,) = put_all(target, where, [pair]).values()
    assert put.state == ("repaired" if there.name == "cyrus" else "restored")
    assert ("minute" in put.why) is (there.name == "cyrus")
    assert states(target.read_back(where, [Claim(pair[0], put)]))[pair[0].key][0] == "same"
    (twice,) = put_all(target, where, [pair], look=True).values()
    assert twice.state == "present"


HOSTILE = ("../../etc", "a/b", "<x>&\"'", "\u202eevil", "x" * 500, " ", "\x00\x08\ud800", "Ünï ☃")


def test_a_hostile_name_is_only_a_name(there: Place, target: CalDav) -> None:
    again = CalDav(there.endpoint("caldav"))
    for n, name in enumerate(HOSTILE):
        where = Shelf(Service.CALENDAR, f"calendar/{name!r}", (name,), 1, 1)
        data = ics(f"hostile{n}@t")
        (put,) = put_all(target, where, [(parcel(where, "a.ics", data), data)]).values()
        assert put.state == "restored"
        path = put.where.removeprefix(there.recorder.url)
        assert path.startswith(there.calendars)
        assert path.removeprefix(there.calendars).count("/") == 1
        assert again._known().take(where).url == target._known().take(where).url
    again.close()


def test_broken_items_end_in_quarantine_and_the_run_goes_on(there: Place, target: CalDav) -> None:
    where = calendar("Broken")
    items = {
        "nothing": b"", "text": b"hello", "open": b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n",
        "two": ics("1@t").replace(b"END:VCALENDAR\r\n", b"") + ics("2@t").split(b"EN\r\n", 1)[1],
        "good": ics("good@t"), "bare": ics("bare@t").replace(b"\r\n", b"\n"),
        "nouid": ics("x").replace(b"UID:x\r\n", b""), "bom": b"\xef\xbb\xbf" + ics("bom@t"),
        "control": ics("control@t", "SUMMARY:a\x08b\x00"), "latin": ics("l@t", "SUMMARY:ä").decode().encode("latin-1"),
    }  # fmt: skip
    pairs = [(parcel(where, name, data, key=name), data) for name, data in items.items()]
    puts = put_all(target, where, pairs)
    assert {key: put.state for key, put in puts.items()} == {
        "nothing": "quarantined", "text": "quarantined", "open": "quarantined", "two": "quarantined",
        "good": "restored", "bare": "restored", "nouid": "repaired", "bom": "restored",
        "control": "repaired", "latin": "repaired",
    }  # fmt: skip
    proofs = states(target.read_back(where, claims(pairs, puts)))
    assert {state for state, _ in proofs.values()} == {"same"}
    twice = put_all(target, where, pairs, look=True)
    assert {put.state for put in twice.values()} == {"present", "quarantined"}
    for each, data in pairs:
        wanted = puts[each.key].state
        assert target.examine(each, Checked(each, data)).state == wanted


def test_bytes_that_are_not_those_that_were_fetched_are_damaged(target: CalDav) -> None:
    where = calendar("Damaged")
    each = parcel(where, "a.ics", ics("damaged@t"))
    (put,) = put_all(target, where, [(each, ics("other@t"))]).values()
    assert put.state == "damaged"


def test_a_wrong_password_is_told_as_such(there: Place) -> None:
    target = CalDav(there.endpoint("caldav", secret=lambda: "wrong-secret"))
    with pytest.raises(AuthError) as caught:
        list(target.preflight())
    assert "wrong-secret" not in f"{caught.value} {caught.value.hint}"
    target.close()


def test_preflight_leaves_nothing_behind(there: Place, target: CalDav) -> None:
    with there.client() as client:
        before = client.request("PROPFIND", there.calendars, headers={"Depth": "1"}).text
        findings = list(target.preflight())
        after = client.request("PROPFIND", there.calendars, headers={"Depth": "1"}).text
    assert {each.level for each in findings} <= {"ok", "warning"}
    assert re.findall("href>([^<]*)<", before) == re.findall("href>([^<]*)<", after)


def test_a_canary_is_put_quietly_and_taken_away(there: Place) -> None:
    quirks = {"canary": "u2@x.test", "canary_wait": 0}
    target = CalDav(there.endpoint("caldav", quirks=quirks))
    seen = len(there.recorder.requests)
    (finding,) = (each for each in target.preflight() if "trial" in each.message)
    assert "u2@x.test" in finding.hint
    sent = [each for each in there.recorder.requests[seen:] if each.method in {"PUT", "DELETE"}]
    assert [each.method for each in sent[:2]] == ["PUT", "DELETE"]
    assert sent[0].path == sent[1].path
    assert b"mailto:u2@x.test" in sent[0].body
    assert_quiet(there)
    target.close()


def test_two_calendars_of_one_name_stay_two(target: CalDav) -> None:
    one = Shelf(Service.CALENDAR, "calendar/Team", ("Team",), 1, 1)
    two = Shelf(Service.CALENDAR, "calendar/Team~2", ("Team",), 1, 1)
    assert target._known().take(one).url != target._known().take(two).url


def test_a_calendar_of_the_same_name_is_used(there: Place, target: CalDav) -> None:
    with there.client() as client:
        made = there.calendars + "own/"
        body = """<C:mkcalendar xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:set><D:prop>
        <D:displayname>My Own</D:displayname></D:prop></D:set></C:mkcalendar>"""
        kind = {"Content-Type": "application/xml"}
        assert client.request("MKCALENDAR", made, content=body, headers=kind).status_code == 201
    assert target._known().take(calendar("my own")).url.endswith("/own/")


def test_the_default_calendar_goes_where_the_server_keeps_its_own(
    there: Place, target: CalDav
) -> None:
    where = calendar("Kalender", special="calendar")
    url = target._known().take(where).url
    assert url.endswith("/Default/") is (there.name == "cyrus")  # the others name none
