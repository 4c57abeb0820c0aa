"""Whatever a calendar item says, after a profile it makes no server and no program write to anybody."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import ItemRefused
from targets.dav import events, meaning
from targets.dav.prepared import Prepared
from targets.quiet import PROFILES, way

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:icalendar")

EVERY = [(profile, keep) for profile in sorted(PROFILES) for keep in (False, True)]


def prepared(data: bytes, profile: str, *, keep: bool = False) -> Prepared:
    return events.prepare("key", data, way(profile, keep_attendees=keep))


def lines(data: bytes) -> list[str]:
    return re.sub(rb"\r\n[ \t]", b"", data).decode().split("\r\n")


def assert_quiet(data: bytes, profile: str, *, keep: bool) -> None:
    inside = []
    for each in lines(data):
        head = re.match(r'(?:[^":]|"[^"]*")*', each)
        assert head is not None
        name, *params = (part.upper() for part in head[0].split(";"))
        if name in {"BEGIN", "END"}:
            inside = [*inside, each] if name == "BEGIN" else inside[:-1]
        assert name != "METHOD"
        assert not any(
            part.startswith(("RSVP", "SCHEDULE-STATUS", "SCHEDULE-FORCE")) for part in params
        )
        if name in {"ATTENDEE", "ORGANIZER"}:
            assert profile != "strip" or keep
            assert "SCHEDULE-AGENT=CLIENT" in params
            assert "BEGIN:VALARM" not in inside
        assert (name, each[-6:].upper()) != ("ACTION", ":EMAIL")


def event(*more: str, top: str = "METHOD:REQUEST") -> bytes:
    body = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:x", top, "BEGIN:VEVENT", "UID:u",
            "DTSTAMP:20260101T000000Z", "DTSTART:20260102T100000Z", "DTEND:20260102T110000Z", *more,
            "END:VEVENT", "END:VCALENDAR"]  # fmt: skip
    return "".join(f"{each}\r\n" for each in body).encode()


PEOPLE = (
    'ORGANIZER;CN="Boss; the, one":mailto:boss@x.test',
    "ATTENDEE;CN=Ann;PARTSTAT=ACCEPTED;RSVP=TRUE;SCHEDULE-AGENT=SERVER;SCHEDULE-STATUS=1.2:mailto:ann@x.test",
    "attendee;rsvp=true;SCHEDULE-FORCE-SEND=REQUEST:MAILTO:bob@x.test",
)
MAIL_ALARM = (
    "BEGIN:VALARM", "ACTION:EMAIL", "TRIGGER:-PT15M", "SUMMARY:Soon", "DESCRIPTION:It begins",
    "ATTENDEE:mailto:third@x.test", "END:VALARM",
)  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "keep"), [("strip", False), ("sabre", False), ("nextcloud", True)]
)
def test_every_real_calendar_is_quiet_and_says_what_it_said(
    corpus: Path, profile: str, keep: bool
) -> None:
    seen = 0
    for path in sorted((corpus / "ics").glob("*.ics")):
        if path.stat().st_size > 60_000:
            continue  # many events in one file, which are refused
        try:
            made = prepared(path.read_bytes(), profile, keep=keep)
        except ItemRefused:
            continue
        seen += 1
        assert_quiet(made.data, profile, keep=keep)
        if not made.notes:
            assert meaning.differences(events.meaning_of(path.read_bytes()), made.digest) in {
                "", "X- properties",
            }, path.name  # fmt: skip
    assert seen > 60


@pytest.mark.parametrize(("profile", "keep"), EVERY)
def test_loud_things_go_in_every_profile(profile: str, keep: bool) -> None:
    data = event(*PEOPLE, *MAIL_ALARM, "SUMMARY:RSVP, METHOD:REQUEST")
    made = prepared(data, profile, keep=keep)
    assert_quiet(made.data, profile, keep=keep)
    text = "\n".join(lines(made.data))
    assert "SUMMARY:RSVP\\, METHOD:REQUEST" in text
    assert text.count("X-NC-DISABLE-SCHEDULING:true") == (profile == "nextcloud")
    assert "DESCRIPTION:It begins" in text
    assert "third@x.test" not in text
    assert "a reminder by mail became one on the screen" in made.notes


def test_stripped_people_can_still_be_read() -> None:
    made = prepared(event(*PEOPLE, "DESCRIPTION:Bring cake"), "strip")
    (told,) = (each for each in lines(made.data) if each.startswith("DESCRIPTION"))
    assert told == (
        "DESCRIPTION:Bring cake\\n\\nOrganizer: Boss\\; the\\, one <boss@x.test>\\nAttendees:\\n"
        "- Ann <ann@x.test> (accepted)\\n- bob@x.test"
    )
    assert "X-BACKUPD-ATTENDEE;CN=Ann;PARTSTAT=ACCEPTED:mailto:ann@x.test" in lines(made.data)
    assert made.notes == ("2 attendees moved into the text",)


def test_marking_people_is_no_repair() -> None:
    assert prepared(event(*PEOPLE), "sabre").notes == ()


def test_an_unknown_profile_strips() -> None:
    assert "\r\nATTENDEE" not in prepared(event(*PEOPLE), "unheard-of").data.decode()


def test_a_line_that_only_some_servers_see_is_no_way_in() -> None:
    data = event("SUMMARY:x\rATTENDEE;RSVP=TRUE:mailto:v@x.test\rMETHOD:REQUEST")
    for profile, keep in EVERY:
        made = prepared(data, profile, keep=keep)
        assert b"\r" not in made.data.replace(b"\r\n", b"")
        assert_quiet(made.data, profile, keep=keep)


def test_overrides_are_as_quiet_as_their_series() -> None:
    master = event(*PEOPLE, "RRULE:FREQ=DAILY;COUNT=3")
    override = event(*PEOPLE, "RECURRENCE-ID:20260103T100000Z").split(b"METHOD:REQUEST\r\n")[1]
    both = master.replace(b"END:VCALENDAR\r\n", b"") + override
    for profile, keep in EVERY:
        made = prepared(both, profile, keep=keep)
        assert_quiet(made.data, profile, keep=keep)
        assert made.data.count(b"BEGIN:VEVENT") == 2


def test_lines_that_nobody_touches_travel_byte_for_byte() -> None:
    odd = 'X-ODD;P="a;b:c":\\N C:\\\\Notes \\, raw'
    long = "DESCRIPTION:" + "ü" * 300
    folded = re.sub(r"(.{60})", "\\1\r\n ", long)
    made = prepared(event(odd, folded, *PEOPLE), "sabre")
    assert odd in lines(made.data)
    assert folded.encode() in made.data


NAMES = st.sampled_from(
    ["ATTENDEE", "ORGANIZER", "SUMMARY", "DESCRIPTION", "X-A", "attendee", "METHOD"]
)
PARAMS = st.sampled_from(
    ["", ";RSVP=TRUE", ";CN=a", ';CN="a;b:c"', ";rsvp=false", ";SCHEDULE-STATUS=2.0", ";BARE", ";X=^n",
     ";SCHEDULE-AGENT=NONE", ';CN="RSVP=TRUE"', ";SCHEDULE-FORCE-SEND=REPLY"]
)  # fmt: skip
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=30)


@given(st.lists(st.tuples(NAMES, st.lists(PARAMS, max_size=3), VALUES), max_size=6), st.data())
def test_no_line_that_anybody_can_write_stays_loud(
    made: list[tuple[str, list[str], str]], data: st.DataObject
) -> None:
    profile, keep = data.draw(st.sampled_from(EVERY))
    written = [f"{name}{''.join(params)}:{value}" for name, params, value in made]
    try:
        ready = prepared(event(*written), profile, keep=keep)
    except ItemRefused:
        return
    assert_quiet(ready.data, profile, keep=keep)
    again = prepared(ready.data, profile, keep=keep)
    assert meaning.same(again.digest, ready.digest)
    assert again.notes == ()


@given(st.binary(max_size=300))
def test_no_input_is_too_odd(data: bytes) -> None:
    for whole in (data, event(*data.decode("latin-1").split("\n"))):
        with suppress(ItemRefused):
            assert_quiet(prepared(whole, "strip").data, "strip", keep=False)
