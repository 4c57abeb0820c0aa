"""A Graph event as iCalendar: the master and its overrides of one UID in one VCALENDAR.

Nothing here asks a clock, a server or a disk: the same event gives the same bytes. What iCalendar
has no property for is kept in X- properties; what had to be assumed is said in X-BACKUPD-NOTE.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from icalendar import Calendar, Event, Timezone, vBinary, vRecur
from icalendar.parser import Contentline

from backupd.errors import ItemUnreadable
from sources.graph import recurrence, spans, zones
from sources.graph.fields import Json, clean, line, mapping, mappings, one_line, stamp, texts
from sources.graph.properties import describe, note, put_json, put_text
from sources.graph.spans import Span, Start

PRODUCT = "-//backupd//Microsoft 365 backup//EN"
_HOSTILE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the libraries raise on input that nobody foresaw."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOLD = 73  # octets behind the blank that a folded line begins with
_ENDLESS = 40
"""Years for which the zone of a series without end date is written out."""

# What an exception takes from its series where it is silent.
_CONTENT = """
    allowNewTimeProposals attendees body bodyPreview categories createdDateTime importance isAllDay
    isOrganizer isReminderOn lastModifiedDateTime location locations onlineMeeting onlineMeetingUrl
    organizer originalEndTimeZone originalStartTimeZone reminderMinutesBeforeStart
    responseRequested sensitivity showAs subject
"""
_INHERITED = frozenset(_CONTENT.split())


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that hangs on an event.

    Attributes:
        content_type: as the source says it, `application/pdf` say; "" when unknown.
        content_id: what the HTML body refers to by `cid:`, where it does.
        inline: shown inside the body, not beside it.
    """

    name: str
    content_type: str
    data: bytes
    content_id: str | None = None
    inline: bool = False


@dataclass(frozen=True, slots=True)
class _Placed:
    """A VEVENT with what its time zones are asked for."""

    component: Event
    times: tuple[Start | None, ...]
    last_year: int


class _Attached(Contentline):
    """An ATTACH line. Folding it as base64 is ten times as fast as letter by letter."""

    def to_ical(self) -> bytes:
        begin = self.rindex(":") + 1
        head: bytes = Contentline(self[:begin]).to_ical()  # type: ignore[no-untyped-call]
        data = self[begin:].encode()
        return b"\r\n ".join([head, *(data[at : at + _FOLD] for at in range(0, len(data), _FOLD))])


class _Calendar(Calendar):
    """A VCALENDAR that may carry large attachments."""

    def content_line(self, name: str, value: object, sorted: bool = True) -> Contentline:  # noqa: A002
        line = super().content_line(name, value, sorted)
        return _Attached(line) if isinstance(value, vBinary) else line  # type: ignore[no-untyped-call]


def event_to_ics(event: Mapping[str, Any], attachments: Sequence[Attachment] = ()) -> bytes:
    """One VCALENDAR, without METHOD, with everything the event says.

    Args:
        event: a Graph event with all its properties: a single instance, or a series master with
            `exceptionOccurrences` and `cancelledOccurrences`. Times may be in any zone.
        attachments: the event's files, written into the master.

    Raises:
        ItemUnreadable: nothing true can be made of it; `reason` is `no-start` or `conversion`.
    """
    try:
        written: bytes = _calendar(event, attachments).to_ical()
    except _HOSTILE as error:
        raise ItemUnreadable(
            f"The event cannot be written as iCalendar ({type(error).__name__}).",
            reason="conversion",
        ) from error
    return written


def _calendar(event: Json, attachments: Sequence[Attachment]) -> Calendar:
    placed = _series(event) if mapping(event, "recurrence") else [_single(event)]
    for each in attachments:
        placed[0].component.add("ATTACH", _attached(each), encode=False)
    calendar = _Calendar()
    calendar.add("PRODID", PRODUCT)
    calendar.add("VERSION", "2.0")
    calendar.add("CALSCALE", "GREGORIAN")
    calendar.subcomponents += _definitions(placed)
    calendar.subcomponents += [each.component for each in placed]
    return calendar


def _single(event: Json) -> _Placed:
    span = spans.single(event)
    return _Placed(_vevent(event, _uid(event), span), (span.start, span.end), span.start.year)


def _series(event: Json) -> list[_Placed]:
    """The master, then its overrides in the order of what they replace."""
    span = spans.series(event)
    try:
        rule = recurrence.rule(mapping(event, "recurrence"), span.start)
    except recurrence.Unclear as unclear:
        master = _unruled(event, span, str(unclear))
    else:
        span = span.moved_to(recurrence.first(rule, span.start))
        master = _ruled(event, span, rule)
    return [master, *_overrides(event, span.start)]


def _ruled(event: Json, span: Span, rule: vRecur) -> _Placed:
    component = _vevent(event, _uid(event), span)
    component.add("RRULE", rule)
    cancelled = {spans.occurrence_date(each) for each in texts(event, "cancelledOccurrences")}
    for day in sorted(each for each in cancelled if each is not None):
        component.add("EXDATE", spans.at(span.start, day))
    if None in cancelled:
        note(component, "a cancelled occurrence could not be read")
    until = rule.get("UNTIL")
    return _Placed(
        component, (span.start, span.end), until.year if until else span.start.year + _ENDLESS
    )


def _unruled(event: Json, span: Span, why: str) -> _Placed:
    """A series whose rule cannot be said: its first occurrence, and the rule as Graph has it."""
    component = _vevent(event, _uid(event), span)
    put_json(component, "X-BACKUPD-RECURRENCE", event["recurrence"])
    put_json(component, "X-BACKUPD-CANCELLED", texts(event, "cancelledOccurrences"))
    note(component, f"only the first occurrence is here: {why}")
    return _Placed(component, (span.start, span.end), span.start.year)


def _overrides(event: Json, master: Start) -> list[_Placed]:
    """The exceptions of a series by the occurrence that each replaces; of twins the latest."""
    found: dict[str, tuple[str, _Placed]] = {}
    for exception in mappings(event, "exceptionOccurrences"):
        full = {key: event[key] for key in _INHERITED if key in event} | dict(exception)
        placed = _override(full, _uid(event), master)
        replaced, age = str(placed.times[0]), line(full, "lastModifiedDateTime")
        if replaced not in found or age >= found[replaced][0]:
            found[replaced] = (age, placed)
    return [found[replaced][1] for replaced in sorted(found)]


def _override(exception: Json, uid: str, master: Start) -> _Placed:
    span = spans.single(exception)
    component = _vevent(exception, uid, span)
    replaced = spans.original(exception, master)
    if replaced is None:
        note(component, "the exception does not say which occurrence it replaces")
        replaced = span.start
    component.add("RECURRENCE-ID", replaced)
    return _Placed(component, (replaced, span.start, span.end), span.start.year)


def _vevent(event: Json, uid: str, span: Span) -> Event:
    component = Event()
    put_text(component, "UID", uid)
    component.add("DTSTART", span.start)
    if span.end is not None:
        component.add("DTEND", span.end)
    _stamps(component, event)
    describe(component, event)
    for each in span.notes:
        note(component, each)
    return component


def _stamps(component: Event, event: Json) -> None:
    created, modified = stamp(event, "createdDateTime"), stamp(event, "lastModifiedDateTime")
    component.add("DTSTAMP", modified or created or _EPOCH)
    if created is not None:
        component.add("CREATED", created)
    if modified is not None:
        component.add("LAST-MODIFIED", modified)


def _uid(event: Json) -> str:
    """The event's UID; of an event without any id, a hash of what it says."""
    given = line(event, "iCalUId") or line(event, "uid") or line(event, "id")
    if given:
        return given
    said = json.dumps(event, sort_keys=True, default=str)
    return f"{hashlib.sha256(said.encode()).hexdigest()}@backupd.invalid"


def _attached(attachment: Attachment) -> vBinary:
    params = {"FMTTYPE": one_line(clean(attachment.content_type)) or "application/octet-stream"}
    params["FILENAME"] = one_line(clean(attachment.name)) or "unnamed"
    params["SIZE"] = str(len(attachment.data))
    if attachment.content_id:
        params["X-CONTENT-ID"] = one_line(clean(attachment.content_id))
    if attachment.inline:
        params["X-INLINE"] = "TRUE"
    return vBinary(attachment.data, params)


def _definitions(placed: Sequence[_Placed]) -> list[Timezone]:
    """A VTIMEZONE for every TZID, over the years in which the event happens."""
    years: dict[str, set[int]] = {}
    for each in placed:
        for when in each.times:
            if isinstance(when, datetime) and isinstance(when.tzinfo, ZoneInfo):
                last = max(when.year, each.last_year)
                years.setdefault(when.tzinfo.key, set()).update((when.year, last))
    return [_definition(name, min(found), max(found)) for name, found in sorted(years.items())]


def _definition(name: str, first: int, last: int) -> Timezone:
    first = max(first - 1, date.min.year + 1)
    return zones.definition(name, first, min(last, first + _ENDLESS + 1, date.max.year - 1))
