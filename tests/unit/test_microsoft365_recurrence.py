"""Rules in Graph's patterns: what Graph said once it says again, and nothing is only similar."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from graph_patterns import ANY_PATTERN, PATTERNS, Pattern, meant
from hypothesis import given
from hypothesis import strategies as st
from icalendar import vRecur

from backupd.errors import ItemRefused
from sources.graph import recurrence as from_graph
from targets.microsoft365 import zones
from targets.microsoft365.recurrence import bounds, occurs, pattern

ROME = ZoneInfo("Europe/Rome")


def rule(text: str) -> vRecur:
    return vRecur.from_ical(text)


def round_trip(said: Pattern, begin: date) -> None:
    """A pattern through the rule that the backup keeps, and back."""
    kept = from_graph.rule({"pattern": said, "range": {"type": "noEnd"}}, begin)
    first = from_graph.first(kept, begin)
    text = kept.to_ical().decode()
    again = pattern(rule(text), first)
    assert list(islice(meant(again, first), 30)) == list(islice(meant(said, first), 30)), text


@pytest.mark.parametrize("said", PATTERNS, ids=str)
def test_every_pattern_of_graph_comes_back(said: Pattern) -> None:
    round_trip(said, date(2026, 11, 5))


@given(ANY_PATTERN, st.dates(date(2000, 1, 1), date(2040, 1, 1)))
def test_any_pattern_of_graph_comes_back(said: Pattern, begin: date) -> None:
    round_trip(said, begin)


RULES = [
    "FREQ=DAILY", "FREQ=DAILY;INTERVAL=3", "FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR", "FREQ=WEEKLY",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=TH,SU;WKST=SU", "FREQ=MONTHLY", "FREQ=MONTHLY;BYMONTHDAY=5",
    "FREQ=MONTHLY;BYDAY=1TH", "FREQ=MONTHLY;BYDAY=TH;BYSETPOS=1", "FREQ=YEARLY",
    "FREQ=MONTHLY;BYDAY=TH,FR;BYSETPOS=1", "FREQ=YEARLY;BYMONTH=11;BYDAY=1TH",
    "FREQ=YEARLY;BYMONTH=11;BYMONTHDAY=5",
]  # fmt: skip


@pytest.mark.parametrize("text", RULES)
def test_a_rule_and_its_pattern_fall_on_the_same_days(text: str) -> None:
    begin = date(2026, 11, 5)  # the first Thursday
    by_rule = islice(rrulestr(text, dtstart=datetime(2026, 11, 5)), 25)  # noqa: DTZ001
    by_pattern = islice(meant(pattern(rule(text), begin), begin), 25)
    assert [each.date() for each in by_rule] == list(by_pattern)


@pytest.mark.parametrize(
    "text",
    [
        "FREQ=HOURLY", "FREQ=MONTHLY;BYDAY=5TH", "FREQ=MONTHLY;BYDAY=1TH,3TH", "FREQ=MONTHLY;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYMONTHDAY=-2", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "FREQ=YEARLY;BYYEARDAY=100",
        "FREQ=YEARLY;BYMONTH=1,7", "FREQ=WEEKLY;BYDAY=1TH", "FREQ=DAILY;INTERVAL=2;BYDAY=TH",
        "FREQ=DAILY;BYHOUR=8,20", "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "FREQ=WEEKLY;BYMONTH=11",
    ],
)  # fmt: skip
def test_what_graph_cannot_say_is_refused(text: str) -> None:
    with pytest.raises(ItemRefused) as caught:
        pattern(rule(text), date(2026, 11, 5))
    assert caught.value.reason == "recurrence"


@pytest.mark.parametrize(
    ("until", "last"),
    [
        ("20261231T235959Z", "2026-12-31"),  # an hour into the next day in Rome, before it begins
        ("20261203T075959Z", "2026-12-02"),  # a second before the occurrence begins
        ("20261203T080000Z", "2026-12-03"),
        ("20261203", "2026-12-03"),
    ],
)
def test_the_end_is_the_last_day_on_which_something_begins(until: str, last: str) -> None:
    start = datetime(2026, 11, 5, 9, tzinfo=ROME)
    found = bounds(rule(f"FREQ=DAILY;UNTIL={until}"), start, "W. Europe Standard Time")
    assert found["endDate"] == last
    days = takewhile(lambda each: each <= date.fromisoformat(last), meant({"type": "daily", "interval": 1}, start.date()))  # fmt: skip
    asked = occurs(rule(f"FREQ=DAILY;UNTIL={until}"), start)
    assert all(
        asked(start.replace(year=each.year, month=each.month, day=each.day)) for each in days
    )


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("Europe/Berlin", "W. Europe Standard Time"),
        ("Europe/Rome", "W. Europe Standard Time"),
        ("Europe/Lisbon", "GMT Standard Time"),
        ("America/New_York", "Eastern Standard Time"),
        ("Asia/Calcutta", "India Standard Time"),
        ("UTC", "UTC"),
        ("Antarctica/Troll", None),
    ],
)
def test_zones_are_told_in_words_of_exchange(name: str, windows: str | None) -> None:
    assert zones.windows(ZoneInfo(name), datetime(2026, 7, 1, tzinfo=UTC)) == windows
