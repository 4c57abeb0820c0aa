"""Calendars and events of a mailbox."""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.demo.changes import Change, ChangeLog, Stream
from backupd.demo.ids import IdSpace, Kind
from backupd.demo.moments import EPOCH, fine_stamp, now, stamp

if TYPE_CHECKING:
    from datetime import date, datetime

    from backupd.demo.calls import Json
    from backupd.demo.mime_facts import Part


@dataclass
class Calendar:
    """One calendar; `group` is the number of its calendar group."""

    uid: int
    name: str
    group: int
    color: str = "auto"
    default: bool = False
    editable: bool = True


@dataclass
class Occurrence:
    """An occurrence that differs from its series: `original` is when it would have begun (UTC)."""

    uid: int
    original: datetime
    data: Json


@dataclass
class Event:
    """A single event or the master of a series: `data` is Graph's JSON without ids and keys."""

    uid: int
    calendar: int
    data: Json
    moved: list[Occurrence] = field(default_factory=list)
    cancelled: list[date] = field(default_factory=list)
    attachments: list[Part] = field(default_factory=list)
    incarnation: int = 0
    version: int = 0
    modified: datetime = EPOCH
    extended: dict[str, str] = field(default_factory=dict)

    @property
    def recurring(self) -> bool:
        """Whether this is a master."""
        return bool(self.data.get("recurrence"))


def events_in(calendar: int) -> Stream:
    """The stream of changes of one calendar."""
    return ("events", calendar)


class Agenda:
    """The calendars of one owner."""

    def __init__(self, ids: IdSpace, log: ChangeLog) -> None:
        self.ids = ids
        self.log = log
        self.calendars: dict[int, Calendar] = {}
        self.groups: dict[int, str] = {}
        self.events: dict[int, Event] = {}
        self._numbers = itertools.count(1)
        self.default_group = self.create_group("My Calendars")
        self.create_calendar("Calendar", default=True)

    def create_group(self, name: str) -> int:
        """Make a calendar group; its number."""
        uid = next(self._numbers)
        self.groups[uid] = name
        return uid

    def create_calendar(self, name: str, *, group: int = 0, default: bool = False) -> Calendar:
        """Make a calendar."""
        uid = next(self._numbers)
        calendar = Calendar(uid, name, group or self.default_group, default=default)
        self.calendars[uid] = calendar
        return calendar

    def calendar(self, name: str | int | None = None) -> Calendar:
        """Find by number, id or display name; the default one for None; raises KeyError."""
        if isinstance(name, int):
            return self.calendars[name]
        for calendar in self.calendars.values():
            if calendar.default if name is None else calendar.name == name:
                return calendar
        try:
            found = self.ids.parse(name or "")
        except ValueError:
            raise KeyError(name) from None
        return self.calendars[found.uid]

    def event(self, name: str | int) -> Event:
        """Find a single event or master by number or current id; raises KeyError."""
        if isinstance(name, int):
            return self.events[name]
        try:
            found = self.ids.parse(name)
        except ValueError:
            raise KeyError(name) from None
        event = self.events[found.uid]
        if found.kind is not Kind.EVENT or found.incarnation not in {None, event.incarnation}:
            raise KeyError(name)
        return event

    def in_calendar(self, calendar: Calendar) -> list[Event]:
        """Singles and masters of one calendar, oldest first."""
        return [event for event in self.events.values() if event.calendar == calendar.uid]

    def put(self, calendar: Calendar, data: Json, event: Event | None = None) -> Event:
        """Make an event, or replace the properties of one."""
        if event is None:
            event = Event(next(self._numbers), calendar.uid, deepcopy(data))
            self.events[event.uid] = event
        else:
            event.data |= deepcopy(data)
        self.touch(event)
        return event

    def move_occurrence(self, event: Event, original: datetime, **changes: object) -> Occurrence:
        """Change one occurrence of a series; `original` in UTC."""
        occurrence = Occurrence(next(self._numbers), original, dict(changes))
        event.moved = [kept for kept in event.moved if kept.original != original] + [occurrence]
        self.touch(event)
        return occurrence

    def cancel_occurrence(self, event: Event, day: date) -> None:
        """Drop one occurrence of a series; `day` in the zone of the recurrence."""
        event.cancelled.append(day)
        self.touch(event)

    def delete(self, event: Event) -> None:
        """Remove an event or a whole series."""
        del self.events[event.uid]
        gone = Change(event.uid, event.incarnation, gone=True)
        self.log.note(events_in(event.calendar), gone)

    def touch(self, event: Event) -> None:
        """Give an event a new change key."""
        event.version += 1
        event.modified = now() if event.version > 1 else EPOCH
        self.log.note(events_in(event.calendar), Change(event.uid, event.incarnation))


def event_json(agenda: Agenda, event: Event, *, immutable: bool = False) -> Json:
    """A single event or master as Graph shows it in a list."""
    key = agenda.ids.change_key(event.uid, event.version)
    row: Json = {
        "@odata.etag": f'W/"{key}"',
        "id": event_id(agenda, event, immutable=immutable),
        "createdDateTime": fine_stamp(EPOCH),
        "lastModifiedDateTime": fine_stamp(event.modified),
        "changeKey": key,
        "type": "seriesMaster" if event.recurring else "singleInstance",
        "seriesMasterId": None,
        "hasAttachments": any(not part.inline for part in event.attachments),
    }
    return row | event.data


def event_id(agenda: Agenda, event: Event, *, immutable: bool = False) -> str:
    """The id of an event as it is now."""
    if immutable:
        return agenda.ids.immutable(Kind.EVENT, event.uid)
    return agenda.ids.rest(Kind.EVENT, event.uid, event.incarnation)


def exceptions_json(agenda: Agenda, event: Event, *, immutable: bool = False) -> list[Json]:
    """The `exceptionOccurrences` of a master."""
    master = event_json(agenda, event, immutable=immutable)
    return [
        master
        | {
            "id": agenda.ids.rest(Kind.EVENT, occurrence.uid),
            "type": "exception",
            "seriesMasterId": master["id"],
            "originalStart": stamp(occurrence.original),
            "recurrence": None,
            "occurrenceId": f"OID.{master['id']}.{occurrence.original.date().isoformat()}",
        }
        | occurrence.data
        for occurrence in event.moved
    ]


def cancelled_json(agenda: Agenda, event: Event) -> list[str]:
    """The `cancelledOccurrences` of a master."""
    master = event_id(agenda, event)
    return [f"OID.{master}.{day.isoformat()}" for day in event.cancelled]
