"""The occurrences of series in a window of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backupd.demo import recurrence
from backupd.demo.agenda import Agenda, Event, event_json, exceptions_json
from backupd.demo.ids import Kind
from backupd.demo.zones import graph_time, parse_time, zone

if TYPE_CHECKING:
    from backupd.demo.calls import Json

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Window:
    """A span of time that a client looks at."""

    start: datetime
    end: datetime

    def shows(self, row: Json) -> bool:
        """Whether something overlaps the window."""
        begins, ends = parse_time(row["start"]), parse_time(row["end"])
        return begins < self.end and (ends > self.start or begins >= self.start)


def occurrences(agenda: Agenda, event: Event, window: Window) -> list[Json]:
    """What a single event or a series shows in a window; moved occurrences as they are now."""
    if not event.recurring:
        row = event_json(agenda, event)
        return [row] if window.shows(row) else []
    moved = [row for row in exceptions_json(agenda, event) if window.shows(row)]
    return [*_regular(agenda, event, window), *moved]


def _regular(agenda: Agenda, event: Event, window: Window) -> list[Json]:
    """The occurrences that are as the series says."""
    master = event_json(agenda, event)
    begins, ends = parse_time(master["start"]), parse_time(master["end"])
    where = zone(event.data["recurrence"]["range"]["recurrenceTimeZone"])
    if event.data.get("isAllDay"):
        where = UTC
    local = begins.astimezone(where)
    originals = {occurrence.original for occurrence in event.moved}
    rows = []
    for day in recurrence.days(event.data["recurrence"], window.end.date() + _DAY):
        start = local.replace(year=day.year, month=day.month, day=day.day)
        if day in event.cancelled or start.astimezone(UTC) in originals:
            continue
        rows.append(_occurrence(agenda, event, start, start + (ends - begins)))
    return [row for row in rows if window.shows(row)]


def _occurrence(agenda: Agenda, event: Event, start: datetime, end: datetime) -> Json:
    master = event_json(agenda, event)
    return master | {
        "id": agenda.ids.rest(Kind.OCCURRENCE, event.uid, start.date().toordinal()),
        "type": "occurrence",
        "seriesMasterId": master["id"],
        "recurrence": None,
        "occurrenceId": f"OID.{master['id']}.{start.date().isoformat()}",
        "start": graph_time(start),
        "end": graph_time(end),
    }


def find(agenda: Agenda, name: str) -> Json:
    """A single event, master, exception or occurrence by its own id; raises KeyError."""
    try:
        found = agenda.ids.parse(name)
    except ValueError:
        raise KeyError(name) from None
    if found.kind is Kind.OCCURRENCE:
        return _by_day(agenda, found.uid, found.incarnation or 1)
    for event in agenda.events.values():
        for row, moved in zip(exceptions_json(agenda, event), event.moved, strict=True):
            if moved.uid == found.uid:
                return row
    raise KeyError(name)


def _by_day(agenda: Agenda, uid: int, ordinal: int) -> Json:
    event = agenda.events[uid]
    day = datetime.fromordinal(ordinal).replace(tzinfo=UTC)
    wanted = agenda.ids.rest(Kind.OCCURRENCE, uid, ordinal)
    rows = _regular(agenda, event, Window(day - _DAY, day + 2 * _DAY)) if event.recurring else []
    for row in rows:
        if row["id"] == wanted:
            return row
    raise KeyError(uid)
