"""What Graph's recurrence patterns mean, day by day, in Microsoft's own words and none of our code."""

from __future__ import annotations

import calendar as months
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from hypothesis import strategies as st

DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Pattern = dict[str, Any]


def meant(pattern: Pattern, start: date) -> Iterator[date]:
    kind = pattern["type"]
    if kind in {"daily", "weekly"}:
        yield from _by_day(pattern, start)
        return
    step = pattern["interval"] * (12 if kind.endswith("Yearly") else 1)
    month = start.year * 12 + start.month - 1
    if kind.endswith("Yearly"):
        month = start.year * 12 + pattern["month"] - 1
    while month // 12 < 9999:
        found = _in_month(pattern, month // 12, month % 12 + 1)
        if found is not None and found >= start:
            yield found
        month += step


def _by_day(pattern: Pattern, start: date) -> Iterator[date]:
    opening = DAYS.index(pattern.get("firstDayOfWeek", "sunday"))
    week = start - timedelta(days=(start.weekday() - opening) % 7)
    for days in range(20_000):
        each = start + timedelta(days=days)
        if pattern["type"] == "daily":
            wanted = days % pattern["interval"] == 0
        else:
            wanted = (each - week).days // 7 % pattern["interval"] == 0
            wanted = wanted and DAYS[each.weekday()] in pattern["daysOfWeek"]
        if wanted:
            yield each


def _in_month(pattern: Pattern, year: int, month: int) -> date | None:
    length = months.monthrange(year, month)[1]
    if pattern["type"].startswith("absolute"):
        return date(year, month, min(pattern["dayOfMonth"], length))
    days = [date(year, month, each) for each in range(1, length + 1)]
    fitting = [each for each in days if DAYS[each.weekday()] in pattern["daysOfWeek"]]
    return (
        fitting[-1]
        if pattern["index"] == "last"
        else fitting[["first", "second", "third", "fourth"].index(pattern["index"])]
    )


PATTERNS: list[Pattern] = [
    {"type": "daily", "interval": 1},
    {"type": "daily", "interval": 3},
    {"type": "weekly", "interval": 1, "daysOfWeek": ["thursday"], "firstDayOfWeek": "sunday"},
    {
        "type": "weekly",
        "interval": 2,
        "daysOfWeek": ["sunday", "monday"],
        "firstDayOfWeek": "sunday",
    },
    {
        "type": "weekly",
        "interval": 2,
        "daysOfWeek": ["sunday", "monday"],
        "firstDayOfWeek": "monday",
    },
    {"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 15},
    {"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 29},
    {"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 30},
    {"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 31},
    {"type": "absoluteMonthly", "interval": 3, "dayOfMonth": 31},
    {"type": "relativeMonthly", "interval": 1, "daysOfWeek": ["wednesday"], "index": "second"},
    {
        "type": "relativeMonthly",
        "interval": 2,
        "daysOfWeek": ["thursday", "friday"],
        "index": "first",
    },
    {"type": "relativeMonthly", "interval": 1, "daysOfWeek": DAYS[:5], "index": "last"},
    {"type": "relativeMonthly", "interval": 1, "daysOfWeek": DAYS, "index": "last"},
    {"type": "absoluteYearly", "interval": 1, "dayOfMonth": 15, "month": 4},
    {"type": "absoluteYearly", "interval": 1, "dayOfMonth": 29, "month": 2},
    {"type": "absoluteYearly", "interval": 1, "dayOfMonth": 31, "month": 12},
    {"type": "absoluteYearly", "interval": 2, "dayOfMonth": 31, "month": 6},
    {
        "type": "relativeYearly",
        "interval": 1,
        "daysOfWeek": ["wednesday"],
        "index": "last",
        "month": 11,
    },
    {
        "type": "relativeYearly",
        "interval": 1,
        "daysOfWeek": ["saturday", "sunday"],
        "index": "third",
        "month": 1,
    },
]


INTERVALS = st.integers(1, 5)
SOME_DAYS = st.lists(st.sampled_from(DAYS), min_size=1, max_size=7, unique=True)
INDEXES = st.sampled_from(["first", "second", "third", "fourth", "last"])
ANY_PATTERN = st.one_of(
    st.fixed_dictionaries({"type": st.just("daily"), "interval": INTERVALS}),
    st.fixed_dictionaries(
        {
            "type": st.just("weekly"),
            "interval": INTERVALS,
            "daysOfWeek": SOME_DAYS,
            "firstDayOfWeek": st.sampled_from(DAYS),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("absoluteMonthly"),
            "interval": INTERVALS,
            "dayOfMonth": st.integers(1, 31),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("relativeMonthly"),
            "interval": INTERVALS,
            "daysOfWeek": SOME_DAYS,
            "index": INDEXES,
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("absoluteYearly"),
            "interval": INTERVALS,
            "dayOfMonth": st.integers(1, 31),
            "month": st.integers(1, 12),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("relativeYearly"),
            "interval": INTERVALS,
            "daysOfWeek": SOME_DAYS,
            "index": INDEXES,
            "month": st.integers(1, 12),
        }
    ),
)
