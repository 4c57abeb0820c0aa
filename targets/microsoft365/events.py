"""iCalendar as Graph events: people are text already when they come here, and nobody is invited."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from icalendar import Component, vRecur

from backupd.errors import ItemRefused
from targets.dav.lines import Block, Line
from targets.microsoft365 import recurrence, zones
from targets.microsoft365.recurrence import Start

SUBJECT, PLACE = 255, 255
"""Characters that Exchange keeps of a subject, and of the name of a place."""
ATTACHMENT = 150_000_000
"""Bytes of the largest file that can be attached to an event."""

_SHOWN = {
    "FREE": "free", "TENTATIVE": "tentative", "BUSY": "busy", "OOF": "oof",
    "WORKINGELSEWHERE": "workingElsewhere",
}  # fmt: skip
_SENSITIVITY = {"PRIVATE": "private", "CONFIDENTIAL": "confidential"}
_PERSONAL = frozenset({"personal", "private", "confidential"})
_ESCAPED = re.compile(r"\\([\\;,nN])")
_BODY_END = re.compile(r"</body>", re.IGNORECASE)
_MARGIN = timedelta(days=1)
_INLINE = "urn:sha256:"
"""What stands for a file inside an item that was read."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that hangs on an event."""

    name: str
    kind: str
    data: bytes


@dataclass(slots=True)
class Made:
    """An event in Graph's words.

    Attributes:
        body: of the event, or of the master of a series.
        changed: occurrences that differ, whole, by the start that they replace.
        cancelled: the starts of occurrences that do not happen.
    """

    body: dict[str, Any] = field(default_factory=dict)
    changed: dict[Start, dict[str, Any]] = field(default_factory=dict)
    cancelled: list[Start] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """What is worth a word, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


def convert(calendar: Component, told: Sequence[str] | None) -> Made:
    """The one event of a calendar. Raises ItemRefused for what Graph cannot express.

    Args:
        told: for each component that is an event, in order, the people in it as text; None for
            the event as it was, with nothing moved into its body.
    """
    if any(each.name in {"VTODO", "VJOURNAL", "VFREEBUSY"} for each in calendar.subcomponents):
        raise ItemRefused(
            "It is no event but a task or a journal entry.",
            hint="It stays in the backup; calendars of Microsoft 365 hold events only.",
            reason="no-event",
        )
    events = [each for each in calendar.subcomponents if each.name == "VEVENT"]
    masters = [each for each in events if "RECURRENCE-ID" not in each]
    if len(masters) != 1:
        raise ItemRefused("It is a single occurrence without its series.", reason="no-master")
    people = None if told is None else dict(zip(map(id, events), told, strict=False))
    return _Conversion(str(calendar.get("X-WR-TIMEZONE", "")), people).made(masters[0], events)


def attach(made: Made, calendars: Iterable[Block]) -> None:
    """Add the files that lie inside an item; those that are too large are left out with a word."""
    for block in (each for calendar in calendars for each in calendar.blocks):
        for each in block.lines:
            if each.name == "ATTACH" and each.is_binary:
                _attach(made, each)


def _attach(made: Made, each: Line) -> None:
    params = each.params
    said = params.get("FILENAME") or params.get("X-FILENAME") or params.get("X-APPLE-FILENAME")
    name = " ".join(str(said or "attachment").split())[:200]
    try:
        data = base64.b64decode("".join(each.value.split()), validate=True)
    except ValueError:
        made.note(f"the attachment {name} cannot be read: left out")
        return
    if len(data) > ATTACHMENT:
        made.note(f"the attachment {name} is larger than {ATTACHMENT // 1_000_000} MB: left out")
        return
    kind = str(params.get("FMTTYPE") or "application/octet-stream")
    made.files.append(File(name, kind, data))


class _Conversion:
    """The conversion of one item."""

    def __init__(self, zone_name: str, told: Mapping[int, str] | None) -> None:
        self._floating: tzinfo = zones.zone(zone_name) or UTC if zone_name else UTC
        self._told = told
        self._made = Made()

    def made(self, master: Component, events: Sequence[Component]) -> Made:
        """The event with all its occurrences."""
        made = self._made
        made.body = self._described(master)
        start = self._start(master)
        rule = master.get("RRULE")
        if rule is None and "RDATE" not in master:
            made.body |= self._span(master, start)
            if len(events) > 1:
                raise recurrence.refused("it has exceptions, but no rule")
        else:
            self._repeat(master, start, [each for each in events if each is not master])
        return made

    def _repeat(self, master: Component, start: Start, others: Sequence[Component]) -> None:
        rule = master.get("RRULE")
        if not isinstance(rule, vRecur) or "RDATE" in master or "EXRULE" in master:
            raise recurrence.refused("several rules, or single dates beside a rule")
        zone_name = self._zone_name(start)
        self._made.body |= self._span(master, start, zone_name)
        self._made.body["recurrence"] = {
            "pattern": recurrence.pattern(rule, start),
            "range": recurrence.bounds(rule, start, zone_name),
        }
        occurs = recurrence.occurs(rule, start)
        if not occurs(start):
            raise recurrence.refused("its first day is none that its rule makes")
        self._except(master, start, occurs)
        for each in others:
            self._change(each, start, occurs)

    def _except(self, master: Component, start: Start, occurs: Callable[[Start], bool]) -> None:
        """The occurrences that are left out, as far as the rule makes them at all."""
        for when in _dates(master.get("EXDATE")):
            original = self._like(when, start)
            if occurs(original) and original not in self._made.cancelled:
                self._made.cancelled.append(original)

    def _change(self, each: Component, start: Start, occurs: Callable[[Start], bool]) -> None:
        if "RANGE" in getattr(each["RECURRENCE-ID"], "params", {}):
            raise recurrence.refused("an exception for all later occurrences")
        when = _moment(each, "RECURRENCE-ID")
        original = self._like(when, start) if isinstance(when, date) else None
        if original is None or not occurs(original):
            raise recurrence.refused("an exception on a day that its rule does not make")
        if original in self._made.cancelled:
            self._made.cancelled.remove(original)
        began = self._start(each)
        self._made.changed[original] = {**self._described(each), **self._span(each, began)}

    def _like(self, when: Start, start: Start) -> Start:
        """A start as the series has it: in its zone, or a day."""
        if not isinstance(start, datetime):
            return when.date() if isinstance(when, datetime) else when
        if not isinstance(when, datetime):
            return datetime.combine(when, start.time(), start.tzinfo)
        aware = when if when.tzinfo else when.replace(tzinfo=start.tzinfo)
        return aware.astimezone(start.tzinfo)

    # When

    def _start(self, event: Component) -> Start:
        found = _moment(event, "DTSTART")
        if not isinstance(found, date):
            raise ItemRefused("It has no start.", reason="no-start")
        return self._anchored(found)

    def _anchored(self, when: Start) -> Start:
        if isinstance(when, datetime) and when.tzinfo is None:
            if self._floating is UTC:
                self._made.note("its times have no zone: they are taken for UTC")
            return when.replace(tzinfo=self._floating)
        return when

    def _zone_name(self, start: Start) -> str:
        """The zone in which a series repeats."""
        if not isinstance(start, datetime) or start.tzinfo is None:
            return "UTC"
        found = zones.windows(start.tzinfo, start)
        if found is None and isinstance(start.tzinfo, ZoneInfo):
            return start.tzinfo.key  # Graph knows many by this name as well
        if found is None:
            raise ItemRefused("It repeats in a time zone that nobody knows.", reason="zone")
        return found

    def _span(self, event: Component, start: Start, zone_name: str = "") -> dict[str, Any]:
        end = self._end(event, start)
        if not isinstance(start, datetime):
            days = end.date() if isinstance(end, datetime) else end
            last = max(days, start + _MARGIN)
            return {"isAllDay": True, "start": _midnight(start), "end": _midnight(last)}
        if not isinstance(end, datetime):
            end = datetime.combine(end, time(), start.tzinfo)
        if end < start:
            self._made.note("it ended before it began: its end is its start now")
            end = start
        name = zone_name or self._single_zone(start, end)
        rules = zones.zone(name) or start.tzinfo
        return {"isAllDay": False, "start": _written(start, name, rules), "end": _written(end, name, rules)}  # fmt: skip

    def _single_zone(self, start: datetime, end: datetime) -> str:
        """The zone of an event that does not repeat; UTC where a wall time would name two moments."""
        if start.fold or end.fold or not isinstance(start.tzinfo, ZoneInfo):
            return (
                "UTC"  # which is exact, and quicker than to compare rules that only this item has
            )
        return zones.windows(start.tzinfo, start) or "UTC"

    def _end(self, event: Component, start: Start) -> Start:
        found = _moment(event, "DTEND")
        if isinstance(found, date):
            return self._anchored(found)
        length = _moment(event, "DURATION")
        if isinstance(length, timedelta):
            return start + length
        return start if isinstance(start, datetime) else start + _MARGIN

    # What

    def _described(self, event: Component) -> dict[str, Any]:
        """Everything but when. There is no place in it for attendees."""
        shown = self._shown(event)
        return {
            "subject": self._cut(_text(event, "SUMMARY"), SUBJECT, "subject"),
            "body": self._body(event),
            "location": {"displayName": self._cut(_text(event, "LOCATION"), PLACE, "place")},
            "showAs": shown,
            "sensitivity": _sensitivity(event),
            "importance": _importance(event),
            "categories": list(dict.fromkeys(_categories(event))),
            "responseRequested": False,
            **self._reminder(event),
        }

    def _cut(self, text: str, most: int, what: str) -> str:
        line = " ".join(text.split())
        if len(line) <= most:
            return line
        self._made.note(f"its {what} was longer than Exchange keeps it")
        return line[: most - 1] + "…"

    def _shown(self, event: Component) -> str:
        if _text(event, "STATUS").upper() == "CANCELLED" and self._told is not None:
            self._made.note("it was cancelled, which cannot be said: it is shown as free")
            return "free"
        busy = _SHOWN.get(_text(event, "X-MICROSOFT-CDO-BUSYSTATUS").upper())
        if busy:
            return busy
        if _text(event, "STATUS").upper() == "TENTATIVE":
            return "tentative"
        return "free" if _text(event, "TRANSP").upper() == "TRANSPARENT" else "busy"

    def _body(self, event: Component) -> dict[str, str]:
        """The text, in HTML where the backup has it so, with people and links behind it."""
        plain, rich = _text(event, "DESCRIPTION"), _rich(event)
        told = self._told.get(id(event), "") if self._told else ""
        links = [each for each in self._links(event) if each not in plain and each not in rich]
        more = [part for part in (told, "\n".join(links)) if part and self._told is not None]
        if not rich:
            plain = plain.removesuffix(told).rstrip() if told else plain
            return {"contentType": "text", "content": "\n\n".join(filter(None, (plain, *more)))}
        added = "".join(f"<p>{html.escape(each).replace(chr(10), '<br>')}</p>" for each in more)
        found = list(_BODY_END.finditer(rich))
        at = found[-1].start() if found else len(rich)
        return {"contentType": "html", "content": f"{rich[:at]}{added}{rich[at:]}"}

    def _links(self, event: Component) -> Iterator[str]:
        for name in ("URL", "CONFERENCE"):
            for each in _all(event, name):
                yield str(each)
        for each in _all(event, "ATTACH"):
            if not str(each).startswith(_INLINE):
                yield str(each)

    def _reminder(self, event: Component) -> dict[str, Any]:
        """The nearest reminder ahead of the start: an event of Outlook has one."""
        start = _moment(event, "DTSTART")
        found = {_ahead(each, event, start) for each in event.walk("VALARM")}
        ahead = sorted(each for each in found if each is not None and each >= 0)
        if found and not ahead:
            self._made.note("its reminder comes when it has begun: left out")
        if len(ahead) > 1:
            self._made.note("only the nearest of its reminders is kept")
        if not ahead:
            return {"isReminderOn": False}
        return {"isReminderOn": True, "reminderMinutesBeforeStart": ahead[0]}


def _ahead(alarm: Component, event: Component, start: Any) -> int | None:
    """How many minutes before the start an alarm goes off; None for one without a time."""
    trigger = alarm.get("TRIGGER")
    when = getattr(trigger, "dt", None)
    if isinstance(when, datetime) and isinstance(start, datetime):
        aware = start if start.tzinfo else start.replace(tzinfo=UTC)
        return int((aware - (when if when.tzinfo else when.replace(tzinfo=UTC))) / timedelta(minutes=1))  # fmt: skip
    if not isinstance(when, timedelta):
        return None
    if str(getattr(trigger, "params", {}).get("RELATED", "")).upper() == "END":
        end = _moment(event, "DTEND")
        when += end - start if isinstance(end, type(start)) else timedelta()
    return int(-when / timedelta(minutes=1))


def _sensitivity(event: Component) -> str:
    said = _text(event, "X-BACKUPD-SENSITIVITY").lower()
    return said if said in _PERSONAL else _SENSITIVITY.get(_text(event, "CLASS").upper(), "normal")


def _importance(event: Component) -> str:
    said = _text(event, "PRIORITY").strip()
    priority = int(said) if said.isdecimal() else 0
    return "normal" if priority in {0, 5} else "high" if priority < 5 else "low"  # noqa: PLR2004


def _categories(event: Component) -> Iterator[str]:
    for each in _all(event, "CATEGORIES"):
        yield from (str(one) for one in getattr(each, "cats", [each]) if str(one).strip())


def _rich(event: Component) -> str:
    """The body in HTML, which no property of iCalendar is for; it comes still escaped."""
    for each in _all(event, "X-ALT-DESC"):
        if "html" in str(getattr(each, "params", {}).get("FMTTYPE", "")).lower():
            return _ESCAPED.sub(lambda x: "\n" if x[1] in "nN" else x[1], str(each)).strip()
    return ""


def _all(event: Component, name: str) -> Sequence[Any]:
    found = event.get(name)
    return found if isinstance(found, list) else () if found is None else (found,)


def _text(event: Component, name: str) -> str:
    found = _all(event, name)
    value = found[0] if found else ""
    raw = (
        value.to_ical() if hasattr(value, "to_ical") and not isinstance(value, str | int) else value
    )
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)


def _moment(component: Component, name: str) -> Any:
    found = _all(component, name)
    return getattr(found[0], "dt", None) if found else None


def _dates(held: Any) -> Iterator[Start]:
    for each in held if isinstance(held, list) else [held] if held is not None else []:
        for one in getattr(each, "dts", ()):
            if isinstance(one.dt, date):
                yield one.dt


def _midnight(day: date) -> dict[str, str]:
    return {"dateTime": f"{day.isoformat()}T00:00:00", "timeZone": "UTC"}


def _written(when: datetime, name: str, rules: tzinfo | None) -> dict[str, str]:
    local = when.astimezone(rules).replace(tzinfo=None, microsecond=0)
    return {"dateTime": local.isoformat(), "timeZone": name}
