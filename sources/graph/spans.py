"""Where an event lies in time, and in which zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from backupd.errors import ItemUnreadable
from sources.graph import zones
from sources.graph.fields import Json, day, flag, line, mapping, moment, stamp

Start = date | datetime


@dataclass(frozen=True, slots=True)
class Span:
    """Start and end as iCalendar wants them.

    Attributes:
        start: an aware datetime in the event's own zone, or a date for a whole-day event.
        end: of the same kind, exclusive; None when the event gives none that lies behind `start`.
        notes: what had to be assumed.
    """

    start: Start
    end: Start | None
    notes: tuple[str, ...]

    def moved_to(self, start: Start) -> Span:
        """The same length, beginning at `start`."""
        if self.end is None:
            return Span(start, None, self.notes)
        return Span(start, start + (self.end - self.start), self.notes)


def single(event: Json) -> Span:
    """The span of an event that stands for itself, an exception of a series included.

    Raises:
        ItemUnreadable: it has no start (reason `no-start`).
    """
    names = [line(event, "originalStartTimeZone"), line(mapping(event, "start"), "timeZone")]
    zone, notes = _first_known(names)
    ends_in, _ = _first_known([line(event, "originalEndTimeZone")])
    span = _span(event, zone or zones.UTC_NAME, ends_in or zone or zones.UTC_NAME, notes)
    if _second_time_round(span.start) or _second_time_round(span.end):
        return _span(event, zones.UTC_NAME, zones.UTC_NAME, notes)
    return span


def _second_time_round(when: Start | None) -> bool:
    """Whether `when` lies in the hour that the clock repeats: only UTC can name it."""
    return isinstance(when, datetime) and when.fold == 1


def series(event: Json) -> Span:
    """The span of a series' first occurrence, in the zone in which the series recurs.

    Raises:
        ItemUnreadable: it has no start (reason `no-start`).
    """
    bounds = mapping(mapping(event, "recurrence"), "range")
    names = [line(bounds, "recurrenceTimeZone"), line(event, "originalStartTimeZone")]
    zone, notes = _first_known(names)
    if zone is None:
        zone = _without_zone(event, any(names), day(bounds.get("startDate")))
    return _span(event, zone, zone, notes)


def _without_zone(event: Json, named: bool, first_day: date | None) -> str:
    """The zone of a series that names none, or only unknown ones."""
    written = zones.iana(line(mapping(event, "start"), "timeZone"))
    if written is not None and not (named and written == zones.UTC_NAME):
        return written
    start = _instant(mapping(event, "start"))
    return zones.stand_in(start, first_day) if start else zones.UTC_NAME


def _first_known(names: list[str]) -> tuple[str | None, tuple[str, ...]]:
    """The IANA name of the first zone that is known, with a note for each before it that is not."""
    notes: list[str] = []
    for name in filter(None, names):
        found = zones.iana(name)
        if found is not None:
            return found, tuple(notes)
        notes.append(f"the time zone {name} is unknown")
    return None, tuple(notes)


def _span(event: Json, zone: str, ends_in: str, notes: tuple[str, ...]) -> Span:
    whole_day = flag(event, "isAllDay")
    start = _place(mapping(event, "start"), zone, whole_day)
    if start is None:
        raise ItemUnreadable("The event has no readable start.", reason="no-start")
    end = _place(mapping(event, "end"), ends_in, whole_day)
    if end is not None and end < start:
        return Span(start, None, (*notes, "it ended before it began"))
    if whole_day and end in {None, start}:
        end = _day_after(start)
    return Span(start, end, notes)


def _day_after(start: date) -> date | None:
    return start + timedelta(days=1) if start < date.max else None


def _place(written: Json, zone: str, whole_day: bool) -> Start | None:
    instant = _instant(written)
    if instant is None:
        return None
    # A whole day is written as midnight of the zone it is given in; only when it is not, the
    # midnight is that of the zone the event was made in.
    if whole_day and (instant.hour, instant.minute) == (0, 0):
        return instant.date()
    local = shifted(instant, zones.zone(zone))
    return local.date() if whole_day else local


def _instant(written: Json) -> datetime | None:
    """Graph's dateTimeTimeZone as an aware time in the zone that it is written in."""
    read = moment(written.get("dateTime"))
    if read is None or read.tzinfo is not None:
        return read
    return read.replace(tzinfo=zones.zone(zones.iana(line(written, "timeZone")) or zones.UTC_NAME))


def shifted(instant: datetime, zone: tzinfo) -> datetime:
    """`instant` in `zone`; unchanged where that lies outside the calendar."""
    try:
        return instant.astimezone(zone)
    except OverflowError:
        return instant


def occurrence_date(name: str) -> date | None:
    """The day in an occurrence's name, `OID.<series>.YYYY-MM-DD`, in the series' zone."""
    return day(name.rpartition(".")[2])


def at(master: Start, when: date) -> Start:
    """The occurrence on the day `when` of a series that begins at `master`."""
    return datetime.combine(when, master.timetz()) if isinstance(master, datetime) else when


def original(exception: Json, master: Start) -> Start | None:
    """Which occurrence of the series an exception replaces; None when it does not say.

    Only the day is taken from the exception: the time is the series' own, so that it meets the
    occurrence that the rule makes, even where the zone had to be guessed.
    """
    named = occurrence_date(line(exception, "occurrenceId"))
    if named is not None:
        return at(master, named)
    began = stamp(exception, "originalStart")
    if began is None:
        return None
    if isinstance(master, datetime):
        return at(master, shifted(began, master.tzinfo or UTC).date())
    zone, _ = _first_known([line(exception, "originalStartTimeZone")])
    midnight = (began.hour, began.minute) == (0, 0)
    return began.date() if midnight else shifted(began, zones.zone(zone or zones.UTC_NAME)).date()
