"""When a series happens: Graph's recurrence patterns, spelled out day by day."""

from __future__ import annotations

import calendar
from datetime import date, timedelta
from itertools import count, islice, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backupd.demo.calls import Json

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_INDEXES = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
_MOST = 5_000
_MONTHS = 12


def days(recurrence: Json, until: date) -> Iterator[date]:
    """The days on which a series begins an occurrence, up to and including `until`."""
    pattern, span = recurrence["pattern"], recurrence["range"]
    first = date.fromisoformat(span["startDate"])
    found: Iterator[date] = (day for day in _candidates(pattern, first) if day >= first)
    if span["type"] == "numbered":
        found = islice(found, span["numberOfOccurrences"])
    elif span["type"] == "endDate":
        last = date.fromisoformat(span["endDate"])
        found = takewhile(lambda day: day <= last, found)
    return islice(takewhile(lambda day: day <= until, found), _MOST)


def _candidates(pattern: Json, first: date) -> Iterator[date]:
    kind, step = pattern["type"], pattern["interval"]
    if kind == "daily":
        return (first + timedelta(days=step * turn) for turn in count())
    if kind == "weekly":
        return _weekly(pattern, first)
    pick = _absolute if kind.startswith("absolute") else _relative
    if kind.endswith("Monthly"):
        return _monthly(pattern, first, step, pick)
    return _monthly(pattern, first.replace(month=pattern["month"], day=1), step * _MONTHS, pick)


def _weekly(pattern: Json, first: date) -> Iterator[date]:
    begin = _DAYS.index(pattern["firstDayOfWeek"])
    week = first - timedelta(days=(first.weekday() - begin) % len(_DAYS))
    wanted = {_DAYS.index(day) for day in pattern["daysOfWeek"]}
    for turn in count():
        monday = week + timedelta(weeks=pattern["interval"] * turn)
        for offset in range(len(_DAYS)):
            day = monday + timedelta(days=offset)
            if day.weekday() in wanted:
                yield day


def _monthly(
    pattern: Json, first: date, step: int, pick: Callable[[Json, int, int], date]
) -> Iterator[date]:
    for turn in count():
        months = first.month - 1 + step * turn
        yield pick(pattern, first.year + months // _MONTHS, months % _MONTHS + 1)


def _absolute(pattern: Json, year: int, month: int) -> date:
    """Outlook moves a day that a month does not have to its last one."""
    return date(year, month, min(pattern["dayOfMonth"], calendar.monthrange(year, month)[1]))


def _relative(pattern: Json, year: int, month: int) -> date:
    wanted = {_DAYS.index(day) for day in pattern["daysOfWeek"]}
    length = calendar.monthrange(year, month)[1]
    fitting = [day for day in range(1, length + 1) if date(year, month, day).weekday() in wanted]
    return date(year, month, fitting[_INDEXES[pattern["index"]]])
