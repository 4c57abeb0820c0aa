"""Events as iCalendar: nothing is lost, nothing is invented, nothing can break out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from graph_events import BERLIN, components, event, lines, only, said, series
from graph_patterns import ANY_PATTERN, Pattern
from hypothesis import example, given, settings
from hypothesis import strategies as st
from icalendar import Calendar, Event

from backupd.errors import ItemUnreadable
from sources.graph.ical import Attachment, event_to_ics

# --- properties --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "status", "transparent", "busy"),
    [
        ("free", "CONFIRMED", "TRANSPARENT", "FREE"),
        ("tentative", "TENTATIVE", "OPAQUE", "TENTATIVE"),
        ("busy", "CONFIRMED", "OPAQUE", "BUSY"),
        ("oof", "CONFIRMED", "OPAQUE", "OOF"),
        ("workingElsewhere", "CONFIRMED", "TRANSPARENT", "WORKINGELSEWHERE"),
    ],
)
def test_how_an_event_shows(shown: str, status: str, transparent: str, busy: str) -> None:
    found = only(event(showAs=shown))
    assert (found["STATUS"], found["TRANSP"]) == (status, transparent)
    assert found["X-MICROSOFT-CDO-BUSYSTATUS"] == busy


def test_enum_values_of_tomorrow_are_kept() -> None:
    found = only(event(showAs="napping", sensitivity="cosmic", importance="urgent"))
    assert found["X-BACKUPD-SHOW-AS"] == "napping"
    assert (found["CLASS"], found["X-BACKUPD-SENSITIVITY"]) == ("PRIVATE", "cosmic")
    assert found["X-BACKUPD-IMPORTANCE"] == "urgent"


@pytest.mark.parametrize(
    ("sensitivity", "wanted"),
    [
        ("normal", "PUBLIC"),
        ("personal", "PRIVATE"),
        ("private", "PRIVATE"),
        ("confidential", "CONFIDENTIAL"),
    ],
)
def test_sensitivity_is_the_class(sensitivity: str, wanted: str) -> None:
    assert only(event(sensitivity=sensitivity))["CLASS"] == wanted


def test_people_come_with_role_and_answer() -> None:
    def person(name: str, address: str, kind: str, response: str) -> dict[str, Any]:
        return {
            "type": kind,
            "status": {"response": response},
            "emailAddress": {"name": name, "address": address},
        }

    found = only(
        event(
            organizer={"emailAddress": {"name": "Olga", "address": "olga@example.org"}},
            responseRequested=True,
            attendees=[
                person('A "x"', "a@example.org", "required", "accepted"),
                person("B", "b@example.org", "optional", "tentativelyAccepted"),
                person("Room 1", "room@example.org", "resource", "none"),
                person(
                    "Old",
                    "/o=ExchangeLabs/ou=Exchange/cn=Recipients/cn=old",
                    "required",
                    "declined",
                ),
                {"type": None, "status": None, "emailAddress": None},
            ],
        )
    )
    assert found["ORGANIZER"] == "mailto:olga@example.org"
    first, second, room, old = found["ATTENDEE"]
    assert (first, first.params["CN"], first.params["PARTSTAT"]) == (
        "mailto:a@example.org",
        'A "x"',
        "ACCEPTED",
    )
    assert (second.params["ROLE"], second.params["PARTSTAT"]) == ("OPT-PARTICIPANT", "TENTATIVE")
    assert (room.params["CUTYPE"], room.params["RSVP"]) == ("RESOURCE", "TRUE")
    assert str(old).startswith("invalid:")
    assert old.params["X-BACKUPD-ADDRESS"] == "/o=ExchangeLabs/ou=Exchange/cn=Recipients/cn=old"
    assert b"METHOD" not in event_to_ics(event())


def test_an_own_event_without_guests_has_no_organizer() -> None:
    mine = {"emailAddress": {"name": "Olga", "address": "olga@example.org"}}
    assert "ORGANIZER" not in only(event(organizer=mine, isOrganizer=True, attendees=[]))
    assert "ORGANIZER" in only(event(organizer=mine, isOrganizer=False, attendees=[]))


def test_an_html_body_is_kept_and_can_be_read_without_html() -> None:
    html = "<html><head><style>p{}</style></head><body>Dear all,<br>see <b>C:\\Notes</b>; bring &euro;5<p>Olga</p></body></html>"
    written = lines(event(body={"contentType": "html", "content": html}))
    assert "DESCRIPTION:Dear all\\,\\nsee C:\\\\Notes\\; bring €5\\nOlga" in written
    (kept,) = [each for each in written if each.startswith("X-ALT-DESC;FMTTYPE=text/html:")]
    assert "C:\\\\Notes</b>\\; bring" in kept


def test_reminders_are_alarms() -> None:
    (alarm,) = only(event(isReminderOn=True, reminderMinutesBeforeStart=15)).walk("VALARM")
    assert alarm["TRIGGER"].dt == timedelta(minutes=-15)
    assert not only(event(isReminderOn=False, reminderMinutesBeforeStart=15)).walk("VALARM")
    assert (
        "left out"
        in only(event(isReminderOn=True, reminderMinutesBeforeStart=2**31 - 1))["X-BACKUPD-NOTE"]
    )


def test_places_meetings_and_categories() -> None:
    found = only(
        event(
            location={
                "displayName": "Harry's Bar",
                "coordinates": {"latitude": 47.6, "longitude": -122.1},
            },
            locations=[
                {
                    "displayName": "Harry's Bar",
                    "address": {"street": "4567 Main", "city": "Redmond"},
                },
                {"displayName": "Home"},
            ],
            onlineMeeting={"joinUrl": "https://teams.example.com/l/meetup?x=1,2"},
            categories=["red", "a,b"],
            importance="high",
        )
    )
    assert found["LOCATION"] == "Harry's Bar"
    assert json.loads(said(found, "X-MICROSOFT-LOCATIONS"))[0]["LocationCity"] == "Redmond"
    assert found["GEO"].to_ical() == "47.6;-122.1"
    assert found["CONFERENCE"] == "https://teams.example.com/l/meetup?x=1,2"
    assert [str(each) for each in found["CATEGORIES"].cats] == ["red", "a,b"]
    assert found["PRIORITY"] == 1


def test_attachments_hang_on_the_master_byte_for_byte() -> None:
    data = bytes(range(256)) * 40
    (found,) = components(
        event_to_ics(
            event(), [Attachment('a";\n.pdf', "application/pdf", data, "cid:1", inline=True)]
        )
    )
    assert found["ATTACH"].params["FILENAME"] == 'a"; .pdf'
    assert found["ATTACH"].params["X-INLINE"] == "TRUE"
    assert found["ATTACH"].ical_value == data


def test_no_line_is_longer_than_rfc_5545_allows() -> None:
    big = event(subject="ü" * 500, body={"contentType": "html", "content": "<p>" + "ö€" * 999})
    written = event_to_ics(big, [Attachment("a", "b/c", b"x" * 9_999)])
    assert max(map(len, written.split(b"\r\n"))) <= 75


# --- determinism and hostility -------------------------------------------------------------------


def test_the_same_event_gives_the_same_bytes_whatever_the_order_of_its_fields() -> None:
    source = series(
        {"type": "daily", "interval": 1},
        cancelledOccurrences=["OID.x.2026-03-09", "OID.x.2026-03-05"],
    )
    turned = dict(reversed(source.items())) | {
        "cancelledOccurrences": ["OID.x.2026-03-05", "OID.x.2026-03-09"]
    }
    assert event_to_ics(source) == event_to_ics(turned)
    assert b"DTSTAMP:20260201T101112Z" in event_to_ics(source)


@pytest.mark.parametrize(
    "start",
    [
        None,
        {},
        {"dateTime": None},
        {"dateTime": "soon"},
        {"dateTime": "2026-13-45T99:00:00"},
        [],
        7,
    ],
)
def test_an_event_without_a_start_is_unreadable(start: Any) -> None:
    with pytest.raises(ItemUnreadable) as caught:
        event_to_ics(event(start=start))
    assert caught.value.reason == "no-start"


def test_an_end_before_the_start_is_dropped_and_said() -> None:
    found = only(event(end={"dateTime": "2025-01-01T00:00:00", "timeZone": "UTC"}))
    assert "DTEND" not in found
    assert found["X-BACKUPD-NOTE"] == "it ended before it began"


@pytest.mark.parametrize(
    "when", ["0001-01-01T00:00:00", "9999-12-31T23:59:59", "1604-02-29T12:00:00"]
)
@pytest.mark.parametrize("zone", [BERLIN, "Pacific Standard Time", "Tokyo Standard Time"])
@pytest.mark.parametrize("whole_day", [False, True])
def test_absurd_dates_survive(when: str, zone: str, whole_day: bool) -> None:
    written = {"dateTime": when, "timeZone": "UTC"}
    found = only(event(start=written, end=written, originalStartTimeZone=zone, isAllDay=whole_day))
    assert abs(found["DTSTART"].dt.year - int(when[:4])) <= 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["\x00\x1b", "\ud800", "UTC", BERLIN, "2026-03-02T08:00:00", "9999-12-31", "html"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELD_NAMES = """
    iCalUId id subject body bodyPreview start end isAllDay originalStartTimeZone originalEndTimeZone
    recurrence cancelledOccurrences exceptionOccurrences showAs sensitivity importance categories
    attendees organizer location locations onlineMeeting onlineMeetingUrl isReminderOn isCancelled
    reminderMinutesBeforeStart lastModifiedDateTime createdDateTime responseStatus isOrganizer
"""


@given(st.dictionaries(st.sampled_from(FIELD_NAMES.split()), JSON, max_size=8))
@example(
    {
        "recurrence": {
            "pattern": {"type": "daily"},
            "range": {"type": "endDate", "endDate": "9999-12-31"},
        }
    }
)
@settings(max_examples=400)
def test_whatever_a_field_holds_the_event_is_written_or_unreadable(fields: dict[str, Any]) -> None:
    try:
        written = event_to_ics(event() | fields)
    except ItemUnreadable:
        return
    (master, *_) = components(written)
    assert master["UID"]


MOMENTS = st.datetimes().map(lambda each: each.strftime("%Y-%m-%dT%H:%M:%S").zfill(19))
PLACED = st.fixed_dictionaries(
    {
        "dateTime": MOMENTS,
        "timeZone": st.sampled_from(["UTC", BERLIN, "Nowhere", "Pacific Standard Time"]),
    }
)
EXCEPTIONS = st.lists(
    st.fixed_dictionaries({"originalStart": MOMENTS, "start": PLACED, "end": PLACED}), max_size=2
)


@given(
    ANY_PATTERN,
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["noEnd", "endDate", "numbered"]),
            "endDate": st.dates().map(str),
            "numberOfOccurrences": st.integers(0, 999),
        }
    ),
    st.fixed_dictionaries(
        {
            "start": PLACED,
            "end": PLACED,
            "isAllDay": st.booleans(),
            "exceptionOccurrences": EXCEPTIONS,
        }
    ),
)
@settings(max_examples=150)
def test_a_series_anywhere_in_time_is_written_and_can_be_parsed(
    pattern: Pattern, bounds: dict[str, Any], fields: dict[str, Any]
) -> None:
    try:
        written = event_to_ics(series(pattern, bounds) | fields)
    except ItemUnreadable:
        written = b""
    if written:
        assert components(written)
    else:  # only where the calendar itself ends
        assert "9999" in str(fields)


def test_texts_cannot_add_lines_or_properties() -> None:
    evil = "x\r\nATTENDEE:mailto:evil@example.org\nBEGIN:VALARM\u2028\x85\x0bY"
    source = event(
        subject=evil,
        iCalUId=evil,
        location={"displayName": evil},
        categories=[evil],
        onlineMeeting={"joinUrl": evil},
    )
    source |= {
        "showAs": evil,
        "body": {"contentType": "html", "content": evil},
        "originalStartTimeZone": evil,
    }
    source["attendees"] = [{"emailAddress": {"name": evil, "address": evil}}]
    found = only(source)
    assert str(found["ATTENDEE"]).startswith("invalid:")
    assert not found.walk("VALARM")


def test_a_structure_without_bottom_is_unreadable_not_a_crash() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ItemUnreadable) as caught:
        event_to_ics(event(recurrence={"pattern": deep}))
    assert caught.value.reason == "conversion"


def test_an_enormous_body_is_kept_whole_in_a_few_seconds() -> None:
    html = "<div>" * 50_000 + "<a x='" * 20_000 + "wörd " * 100_000
    found = only(event(body={"contentType": "html", "content": html}))
    assert str(found["X-ALT-DESC"]) == html.strip()


# --- the corpus ----------------------------------------------------------------------------------


def graph_events(found: Any) -> Iterator[dict[str, Any]]:
    """Every object in a Graph answer that looks like an event."""
    if isinstance(found, dict):
        if isinstance(found.get("start"), dict) and "dateTime" in found["start"]:
            yield found
        for value in found.values():
            yield from graph_events(value)
    elif isinstance(found, list):
        for value in found:
            yield from graph_events(value)


def answers(corpus: Path) -> list[Any]:
    files = sorted((corpus / "graph-json").glob("*.json"))
    texts = [
        each.read_text("utf-8", "replace") for each in files if not each.name.endswith(".meta.json")
    ]
    found = []
    for text in texts:
        try:
            found.append(json.loads(text, strict=False))
        except ValueError:
            continue  # shortened by the documentation it comes from
    return found


def test_every_event_that_graph_ever_showed_us_is_written(corpus: Path) -> None:
    found = list(graph_events(answers(corpus)))
    assert len(found) >= 10
    for each in found:
        (written, *_) = components(event_to_ics(each))
        subject = each.get("subject")
        assert subject is None or written.get("SUMMARY", "") == " ".join(subject.split())


def as_graph(found: Event) -> dict[str, Any] | None:
    """A real event as Graph would hold it; None where its times are not simple."""
    start = getattr(found.get("DTSTART"), "dt", None)
    if not isinstance(start, datetime) or start.tzinfo is None or not 1900 < start.year < 2100:
        return None
    written = {
        "dateTime": start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.0000000"),
        "timeZone": "UTC",
    }
    return event(
        iCalUId=str(found.get("UID", "x")),
        subject=str(found.get("SUMMARY", "")),
        body={"contentType": "text", "content": str(found.get("DESCRIPTION", ""))},
        location={"displayName": str(found.get("LOCATION", ""))},
        start=written,
        end=None,
        originalStartTimeZone=str(found["DTSTART"].params.get("TZID", "UTC")),
    )


def test_real_calendars_go_through_unharmed(corpus: Path) -> None:
    seen = 0
    for path in sorted((corpus / "ics").glob("*.ics")):
        if path.stat().st_size > 50_000:
            continue  # the parser takes seconds for the large ones
        try:
            parsed = Calendar.from_ical(path.read_bytes(), multiple=True)
            found = [each for calendar in parsed for each in calendar.walk("VEVENT")]
            sources = [as_graph(each) for each in found if isinstance(each, Event)]
        except (AttributeError, KeyError, TypeError, ValueError, Warning):
            continue  # what icalendar cannot read is none of our calendars
        for source in filter(None, sources):
            written, seen = only(source), seen + 1
            assert (
                written["DTSTART"].dt.astimezone(UTC).isoformat()[:19]
                == source["start"]["dateTime"][:19]
            )
            assert written.get("SUMMARY", "").split() == source["subject"].split()
            wanted = "".join(each for each in source["body"]["content"] if each.isprintable())
            assert "".join(written.get("DESCRIPTION", "").split()) == "".join(wanted.split())
    assert seen >= 50
