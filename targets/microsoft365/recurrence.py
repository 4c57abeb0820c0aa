"""RRULE in Graph's patterns, where the two can say the same; nothing that is only similar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any

from dateutil.rrule import rrule, rruleset, rrulestr
from icalendar import vRecur

from backupd.errors import ItemRefused

Start = date | datetime
Parts = Mapping[str, Sequence[Any]]

DAYS = {
    "MO": "monday", "TU": "tuesday", "WE": "wednesday", "TH": "thursday", "FR": "friday",
    "SA": "saturday", "SU": "sunday",
}  # fmt: skip
_IN_ORDER = tuple(DAYS.values())
_INDEX = {1: "first", 2: "second", 3: "third", 4: "fourth", -1: "last"}
_SHORTEST = {2: 28, 4: 30, 6: 30, 9: 30, 11: 30}
_UNKNOWN = frozenset({"BYHOUR", "BYMINUTE", "BYSECOND", "BYYEARDAY", "BYWEEKNO", "RSCALE", "SKIP"})
_ALWAYS = 28
"""A day that every month has; later ones Outlook moves to the month's end, and a rule leaves out."""
_MONTHS = 12
_MOST = 999
_MIDNIGHT = time()


def refused(why: str) -> ItemRefused:
    """An item whose repetition Microsoft 365 cannot express."""
    return ItemRefused(
        f"It repeats in a way that Microsoft 365 does not know: {why}.",
        hint="Enter it by hand, or keep it in another calendar.",
        reason="recurrence",
    )


def pattern(rule: vRecur, start: Start) -> dict[str, Any]:
    """Graph's `pattern` for a rule whose first occurrence is `start`, in its own zone.

    Raises ItemRefused (reason `recurrence`).
    """
    parts = {str(key).upper(): value for key, value in rule.items()}
    if unknown := sorted(_UNKNOWN & parts.keys()):
        raise refused(unknown[0])
    kind = str(_one(parts, "FREQ") or "").upper()
    if kind not in _PATTERNS:
        raise refused(f"FREQ={kind}")
    interval = _number(parts, "INTERVAL") or 1
    if not 1 <= interval <= _MOST:
        raise refused(f"INTERVAL={interval}")
    return {"interval": interval, **_PATTERNS[kind](parts, start)}


def bounds(rule: vRecur, start: Start, zone_name: str) -> dict[str, Any]:
    """Graph's `range`. Raises ItemRefused for a rule that ends before it begins."""
    day = _day(start)
    made: dict[str, Any] = {"startDate": day.isoformat(), "recurrenceTimeZone": zone_name}
    parts = {str(key).upper(): value for key, value in rule.items()}
    count, until = _number(parts, "COUNT"), _one(parts, "UNTIL")
    if count is not None:
        if not 1 <= count <= _MOST:
            raise refused(f"COUNT={count}")
        return {**made, "type": "numbered", "numberOfOccurrences": count}
    if until is None:
        return {**made, "type": "noEnd"}
    last = _last_day(until, start)
    if last < day:
        raise refused("it ends before it begins")
    return {**made, "type": "endDate", "endDate": last.isoformat()}


def occurs(rule: vRecur, start: Start) -> Callable[[Start], bool]:
    """Whether an occurrence begins at a wall time (or day) in the zone of the series."""
    expanded = _expanded(rule, start)

    def asked(when: Start) -> bool:
        wall = _wall(when)
        try:
            return bool(expanded.between(wall, wall, inc=True))
        except (ValueError, OverflowError):
            return False

    return asked


def _expanded(rule: vRecur, start: Start) -> rrule | rruleset:
    parts = vRecur({key: value for key, value in rule.items() if str(key).upper() != "UNTIL"})
    until = _one({str(k).upper(): v for k, v in rule.items()}, "UNTIL")
    text = parts.to_ical().decode()  # type: ignore[no-untyped-call]
    if until is not None:
        last = datetime.combine(_last_day(until, start), time(23, 59, 59))
        text += f";UNTIL={last:%Y%m%dT%H%M%S}"
    try:
        found: rrule | rruleset = rrulestr(text, dtstart=_wall(start))
    except (ValueError, TypeError, OverflowError) as error:
        raise refused("its rule cannot be read") from error
    return found


def _wall(when: Start) -> datetime:
    if isinstance(when, datetime):
        return when.replace(tzinfo=None)
    return datetime.combine(when, _MIDNIGHT)


def _day(when: Start) -> date:
    return when.date() if isinstance(when, datetime) else when


def _last_day(until: Start, start: Start) -> date:
    """The last day on which an occurrence may begin: Graph's end is a day, a rule's a moment."""
    if not isinstance(until, datetime) or not isinstance(start, datetime):
        return _day(until)
    local = _local(until, start.tzinfo)
    early = local.time() < start.time()
    return local.date() - timedelta(days=early)


def _local(until: datetime, zone: tzinfo | None) -> datetime:
    if until.tzinfo is None or zone is None:
        return until.replace(tzinfo=None)
    try:
        return until.astimezone(zone).replace(tzinfo=None)
    except OverflowError:
        return until.replace(tzinfo=None)


def _daily(parts: Parts, start: Start) -> dict[str, Any]:
    _only(parts, "BYDAY")
    if "BYDAY" not in parts:
        return {"type": "daily"}
    if (_number(parts, "INTERVAL") or 1) > 1:
        raise refused("every n-th day, on some weekdays only")
    return _weekly(parts, start)


def _weekly(parts: Parts, start: Start) -> dict[str, Any]:
    _only(parts, "BYDAY")
    found = _weekdays(parts)
    if any(place for place, _ in found):
        raise refused("BYDAY with a number in a week")
    days = [name for _, name in found] or [_IN_ORDER[_day(start).weekday()]]
    opening = DAYS.get(str(_one(parts, "WKST") or "MO").upper(), "monday")
    return {"type": "weekly", "daysOfWeek": _sorted(days), "firstDayOfWeek": opening}


def _monthly(parts: Parts, start: Start) -> dict[str, Any]:
    _only(parts, "BYDAY", "BYMONTHDAY", "BYSETPOS")
    if "BYDAY" in parts:
        return {"type": "relativeMonthly", **_nth(parts)}
    return {"type": "absoluteMonthly", "dayOfMonth": _day_of_month(parts, start, _ALWAYS)}


def _yearly(parts: Parts, start: Start) -> dict[str, Any]:
    _only(parts, "BYDAY", "BYMONTHDAY", "BYSETPOS", "BYMONTH")
    month = _number(parts, "BYMONTH") if "BYMONTH" in parts else _day(start).month
    if month is None or not 1 <= month <= _MONTHS:
        raise refused("several months of a year")
    if "BYDAY" in parts:
        if "BYMONTH" not in parts:
            raise refused("weekdays of a year without a month")
        return {"type": "relativeYearly", "month": month, **_nth(parts)}
    day = _day_of_month(parts, start, _SHORTEST.get(month, 31))
    return {"type": "absoluteYearly", "month": month, "dayOfMonth": day}


_PATTERNS: Mapping[str, Callable[[Parts, Start], dict[str, Any]]] = {
    "DAILY": _daily, "WEEKLY": _weekly, "MONTHLY": _monthly, "YEARLY": _yearly,
}  # fmt: skip


def _only(parts: Parts, *known: str) -> None:
    more = sorted(key for key in parts if key.startswith("BY") and key not in known)
    if more:
        raise refused(more[0])


def _weekdays(parts: Parts) -> list[tuple[int, str]]:
    """Each weekday with its number, 0 for none."""
    found = []
    for each in parts.get("BYDAY", ()):
        name = DAYS.get(str(getattr(each, "weekday", each)).upper()[-2:])
        if name is None:
            raise refused(f"BYDAY={each}")
        text = str(each).lstrip("+")[:-2]
        found.append((int(text) if text.lstrip("-").isdecimal() else 0, name))
    return found


def _sorted(days: Sequence[str]) -> list[str]:
    return sorted(set(days), key=_IN_ORDER.index)


def _nth(parts: Parts) -> dict[str, Any]:
    """The n-th of some weekdays in a month: said with the day, or by BYSETPOS for any of several."""
    if "BYMONTHDAY" in parts:
        raise refused("weekdays that fall on certain days of the month")
    found = _weekdays(parts)
    places = {place for place, _ in found}
    if places == {0} and "BYSETPOS" in parts:
        place = _number(parts, "BYSETPOS")
    elif len(found) == 1 and "BYSETPOS" not in parts:
        place = found[0][0]
    else:
        raise refused("several n-th weekdays of a month")
    if place not in _INDEX:
        raise refused(f"the weekday with number {place} of a month")
    return {"daysOfWeek": _sorted([name for _, name in found]), "index": _INDEX[place]}


def _day_of_month(parts: Parts, start: Start, shortest: int) -> int:
    """The day, as Outlook means it: in a month that is too short, the last one."""
    days = [int(each) for each in parts.get("BYMONTHDAY", (_day(start).day,))]
    last_of = [int(each) for each in parts.get("BYSETPOS", ())] == [-1]
    if days == [-1] and "BYSETPOS" not in parts:
        return 31
    if last_of and len(days) > 1 and days == list(range(shortest, days[-1] + 1)):
        return days[-1]
    if len(days) != 1 or "BYSETPOS" in parts or not 1 <= days[0] <= 31:  # noqa: PLR2004
        raise refused("several days of a month")
    if days[0] > shortest:
        raise refused(f"day {days[0]}, and not at all in months without it")
    return days[0]


def _one(parts: Parts, name: str) -> Any:
    value = parts.get(name)
    if isinstance(value, list | tuple):
        return value[0] if len(value) == 1 else None
    return value


def _number(parts: Parts, name: str) -> int | None:
    value = _one(parts, name)
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None
