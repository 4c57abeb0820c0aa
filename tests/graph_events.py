"""Graph events for tests, and what a calendar program reads from the calendars made of them."""

from __future__ import annotations

from datetime import date, datetime
from itertools import islice
from typing import Any

from dateutil.rrule import rruleset, rrulestr
from graph_patterns import Pattern
from icalendar import Calendar, Event

from sources.graph.ical import Attachment, event_to_ics

BERLIN = "W. Europe Standard Time"


def event(**fields: Any) -> dict[str, Any]:
    """A meeting in Berlin as Graph writes it, with `fields` instead of its own."""
    return {
        "id": "AAMkAG=",
        "iCalUId": "040000008200E00074C5B7101A82E008",
        "type": "singleInstance",
        "subject": "Budget",
        "isAllDay": False,
        "start": {"dateTime": "2026-03-02T08:00:00.0000000", "timeZone": "UTC"},
        "end": {"dateTime": "2026-03-02T09:30:00.0000000", "timeZone": "UTC"},
        "originalStartTimeZone": BERLIN,
        "originalEndTimeZone": BERLIN,
        "lastModifiedDateTime": "2026-02-01T10:11:12.1234567Z",
        "createdDateTime": "2026-01-31T10:11:12Z",
    } | fields


def series(pattern: Pattern, bounds: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    written = {"type": "noEnd", "startDate": "2026-03-02", "recurrenceTimeZone": BERLIN} | (
        bounds or {}
    )
    return event(type="seriesMaster", recurrence={"pattern": pattern, "range": written}) | fields


def components(ics: bytes) -> list[Event]:
    return [each for each in Calendar.from_ical(ics).walk("VEVENT") if isinstance(each, Event)]


def only(source: dict[str, Any]) -> Event:
    (found,) = components(event_to_ics(source))
    return found


def lines(source: dict[str, Any], *attachments: Attachment) -> list[str]:
    return event_to_ics(source, attachments).decode().replace("\r\n ", "").split("\r\n")


def said(component: Event, name: str) -> str:
    """An X- property as text (the parser leaves the escaping in what it does not know)."""
    raw = str(component[name]).replace("\\\\", "\0")
    for written, meant in (("\\,", ","), ("\\;", ";"), ("\\n", "\n"), ("\0", "\\")):
        raw = raw.replace(written, meant)
    return raw


def occurrences(master: Event) -> rruleset:
    """What a calendar program makes of DTSTART, RRULE and EXDATE."""
    start = master["DTSTART"].dt
    found = rruleset()
    naive = not isinstance(start, datetime)
    begin = datetime.combine(start, datetime.min.time()) if naive else start
    found.rrule(rrulestr(master["RRULE"].to_ical().decode(), dtstart=begin))
    exdates = master.get("EXDATE", [])
    for each in exdates if isinstance(exdates, list) else [exdates]:
        for out in each.dts:
            found.exdate(datetime.combine(out.dt, datetime.min.time()) if naive else out.dt)
    return found


def first_days(source: dict[str, Any], count: int) -> list[date]:
    (master, *_) = components(event_to_ics(source))
    return [each.date() for each in islice(occurrences(master), count)]
