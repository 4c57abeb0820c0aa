"""Graph's recurrence patterns as RRULE.

The two disagree in places, and each is settled here: several weekdays with an index need BYSETPOS,
the 29th to 31st fall on a short month's last day in Outlook and nowhere in RRULE, an end date is a
whole day in the series' own zone, and the first occurrence may lie after the start that is given.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

from dateutil.rrule import rrule, rrulestr
from icalendar import vRecur

from sources.graph.fields import Json, day, mapping, number, texts, word

Parts = dict[str, Any]
Start = date | datetime
"""A wall time or, for a whole-day event, a date."""

_CODES = {
    "monday": "MO",
    "tuesday": "TU",
    "wednesday": "WE",
    "thursday": "TH",
    "friday": "FR",
    "saturday": "SA",
    "sunday": "SU",
}
_IN_ORDER = tuple(_CODES.values())
_INDEX = {"": 1, "first": 1, "second": 2, "third": 3, "fourth": 4, "last": -1}
_LONGEST_INTERVAL = 9999
_DAYS, _MONTHS = 31, 12
_SHORTEST_MONTH = {2: 28, 4: 30, 6: 30, 9: 30, 11: 30}


class Unclear(ValueError):
    """The recurrence cannot be written as RRULE; the message says why."""


def rule(recurrence: Json, start: Start) -> vRecur:
    """The RRULE for a series whose first wall time, in its own zone, is `start`.

    Raises:
        Unclear: a part is missing, unknown or out of range.
    """
    pattern = mapping(recurrence, "pattern")
    kind = word(pattern, "type")
    if kind not in _PATTERNS:
        raise Unclear(f"pattern type {kind or 'missing'}")
    parts = _PATTERNS[kind](pattern, start) | _interval(pattern)
    return vRecur(parts | _range(mapping(recurrence, "range"), start))


def first(recur: vRecur, start: Start) -> Start:
    """The first occurrence at or after `start`; `start` itself when there is none."""
    wall = start if isinstance(start, datetime) else datetime.combine(start, time())
    endless = vRecur({key: value for key, value in recur.items() if key not in {"UNTIL", "COUNT"}})
    naive = wall.replace(tzinfo=None)
    found = _expanded(endless, naive).after(naive, inc=True)
    if found is None:
        return start
    return found.replace(tzinfo=wall.tzinfo) if isinstance(start, datetime) else found.date()


def _expanded(recur: vRecur, start: datetime) -> rrule:
    written: bytes = recur.to_ical()  # type: ignore[no-untyped-call]
    expanded = rrulestr(written.decode(), dtstart=start)
    if not isinstance(expanded, rrule):
        raise Unclear("not one rule")
    return expanded


def _interval(pattern: Json) -> Parts:
    interval = number(pattern, "interval") or 1
    if not 1 <= interval <= _LONGEST_INTERVAL:
        raise Unclear(f"interval {interval}")
    return {"INTERVAL": interval} if interval > 1 else {}


def _daily(_pattern: Json, _start: Start) -> Parts:
    return {"FREQ": "DAILY"}


def _weekly(pattern: Json, start: Start) -> Parts:
    days = _days(pattern) or [_IN_ORDER[start.weekday()]]
    opening = _CODES.get(word(pattern, "firstDayOfWeek"), "SU")
    return {"FREQ": "WEEKLY", "BYDAY": days, "WKST": opening}


def _absolute_monthly(pattern: Json, start: Start) -> Parts:
    return {"FREQ": "MONTHLY", **_month_day(_day_of_month(pattern, start), 28)}


def _relative_monthly(pattern: Json, _start: Start) -> Parts:
    return {"FREQ": "MONTHLY", **_nth(pattern)}


def _absolute_yearly(pattern: Json, start: Start) -> Parts:
    month = _month(pattern, start)
    shortest = _SHORTEST_MONTH.get(month, 31)
    return {
        "FREQ": "YEARLY",
        "BYMONTH": month,
        **_month_day(_day_of_month(pattern, start), shortest),
    }


def _relative_yearly(pattern: Json, start: Start) -> Parts:
    return {"FREQ": "YEARLY", "BYMONTH": _month(pattern, start), **_nth(pattern)}


_PATTERNS: dict[str, Callable[[Json, Start], Parts]] = {
    "daily": _daily,
    "weekly": _weekly,
    "absolutemonthly": _absolute_monthly,
    "relativemonthly": _relative_monthly,
    "absoluteyearly": _absolute_yearly,
    "relativeyearly": _relative_yearly,
}


def _days(pattern: Json) -> list[str]:
    named = {each.lower() for each in texts(pattern, "daysOfWeek")}
    if unknown := sorted(named - _CODES.keys()):
        raise Unclear(f"day of week {unknown[0]}")
    return [code for name, code in _CODES.items() if name in named]


def _nth(pattern: Json) -> Parts:
    """The n-th of some weekdays. BYDAY=2MO,2TU would be two days; BYSETPOS picks one."""
    days, index = _days(pattern), word(pattern, "index")
    if not days or index not in _INDEX:
        raise Unclear(f"index {index}" if days else "no day of week")
    place = _INDEX[index]
    return {"BYDAY": f"{place}{days[0]}"} if len(days) == 1 else {"BYDAY": days, "BYSETPOS": place}


def _day_of_month(pattern: Json, start: Start) -> int:
    wanted = number(pattern, "dayOfMonth") or start.day
    if not 1 <= wanted <= _DAYS:
        raise Unclear(f"day of month {wanted}")
    return wanted


def _month(pattern: Json, start: Start) -> int:
    wanted = number(pattern, "month") or start.month
    if not 1 <= wanted <= _MONTHS:
        raise Unclear(f"month {wanted}")
    return wanted


def _month_day(wanted: int, shortest: int) -> Parts:
    """A day of the month, or the month's last when it is shorter, as Outlook has it."""
    if wanted <= shortest:
        return {"BYMONTHDAY": wanted}
    return {"BYMONTHDAY": list(range(shortest, wanted + 1)), "BYSETPOS": -1}


def _range(bounds: Json, start: Start) -> Parts:
    kind, count, end = (
        word(bounds, "type"),
        number(bounds, "numberOfOccurrences"),
        day(bounds.get("endDate")),
    )
    if kind == "noend":
        return {}
    if kind == "numbered" and count and count > 0:
        return {"COUNT": count}
    if kind == "enddate" and end is not None:
        return _until(end, start)
    raise Unclear(f"range type {kind or 'missing'}")


def _until(end: date, start: Start) -> Parts:
    """The whole of the day `end` in the series' zone; RFC 5545 wants a time in UTC."""
    if end < (start.date() if isinstance(start, datetime) else start):
        raise Unclear("it ends before it begins")
    if not isinstance(start, datetime):
        return {"UNTIL": end}
    try:
        return {"UNTIL": datetime.combine(end, time(23, 59, 59), start.tzinfo).astimezone(UTC)}
    except OverflowError:
        return {}  # the end of the calendar is no end
