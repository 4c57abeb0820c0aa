"""Series: every occurrence is where Graph means it, over clock changes and in every zone."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from graph_events import (
    BERLIN,
    components,
    event,
    first_days,
    lines,
    occurrences,
    only,
    said,
    series,
)
from graph_patterns import ANY_PATTERN, PATTERNS, Pattern, meant
from hypothesis import given, settings
from hypothesis import strategies as st

from sources.graph.ical import event_to_ics


@pytest.mark.parametrize(
    "pattern", PATTERNS, ids=lambda each: "-".join(map(str, each.values()))[:40]
)
def test_a_pattern_recurs_on_the_days_that_graph_means(pattern: Pattern) -> None:
    assert first_days(series(pattern), 30) == list(islice(meant(pattern, date(2026, 3, 2)), 30))


ZONES = st.sampled_from(
    [
        BERLIN,
        "Pacific Standard Time",
        "AUS Eastern Standard Time",
        "India Standard Time",
        "UTC",
        "Asia/Tokyo",
    ]
)
IANA = {
    BERLIN: "Europe/Berlin",
    "Pacific Standard Time": "America/Los_Angeles",
    "AUS Eastern Standard Time": "Australia/Sydney",
    "India Standard Time": "Asia/Kolkata",
}


@given(
    ANY_PATTERN,
    ZONES,
    st.dates(date(2015, 1, 1), date(2040, 1, 1)),
    st.integers(4 * 60, 24 * 60 - 1),
    st.integers(1, 25),
)
@settings(max_examples=250)
def test_every_series_happens_at_the_instants_that_graph_means(
    pattern: Pattern, zone: str, start: date, minute: int, count: int
) -> None:
    rules = ZoneInfo(IANA.get(zone, zone))
    wall = datetime(start.year, start.month, start.day, minute // 60, minute % 60, tzinfo=rules)
    source = series(
        pattern,
        {
            "type": "numbered",
            "numberOfOccurrences": count,
            "startDate": start.isoformat(),
            "recurrenceTimeZone": zone,
        },
        start={
            "dateTime": wall.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.0000000"),
            "timeZone": "UTC",
        },
        end=None,
        originalStartTimeZone=zone,
    )
    (master,) = components(event_to_ics(source))
    days = list(islice(meant(pattern, start), count))
    wanted = [datetime.combine(each, wall.timetz()).astimezone(UTC) for each in days]
    assert [each.astimezone(UTC) for each in occurrences(master)] == wanted
    assert master["DTSTART"].dt.astimezone(UTC) == wanted[0]  # DTSTART is always an occurrence


@given(ANY_PATTERN, st.dates(date(2026, 1, 1), date(2026, 12, 31)), st.integers(0, 800))
def test_an_end_date_is_the_whole_of_that_day_where_the_series_lives(
    pattern: Pattern, start: date, days: int
) -> None:
    end = start + timedelta(days=days)
    source = series(
        pattern,
        {"type": "endDate", "startDate": start.isoformat(), "endDate": end.isoformat()},
        start={"dateTime": f"{start}T23:30:00", "timeZone": BERLIN},
        end={"dateTime": f"{start}T23:45:00", "timeZone": BERLIN},
    )
    (master,) = components(event_to_ics(source))
    wanted = [each for each in islice(meant(pattern, start), 900) if each <= end]
    if wanted:  # a series without any occurrence keeps its DTSTART and says no more
        assert [each.date() for each in occurrences(master)] == wanted
    assert (
        master["RRULE"]["UNTIL"][0].tzinfo is UTC
        or str(master["RRULE"]["UNTIL"][0].tzinfo) == "UTC"
    )


def test_a_series_keeps_its_wall_time_over_both_clock_changes() -> None:
    pattern = {
        "type": "weekly",
        "interval": 1,
        "daysOfWeek": ["monday"],
        "firstDayOfWeek": "monday",
    }
    (master,) = components(event_to_ics(series(pattern)))
    found = list(islice(occurrences(master), 40))
    assert {each.strftime("%H:%M") for each in found} == {"09:00"}
    assert {each.astimezone(UTC).hour for each in found} == {7, 8}


def test_a_whole_day_series_has_dates_everywhere() -> None:
    source = series(
        {"type": "absoluteYearly", "interval": 1, "dayOfMonth": 2, "month": 3},
        {"type": "endDate", "endDate": "2030-03-02"},
        isAllDay=True,
        start={"dateTime": "2026-03-02T00:00:00.0000000", "timeZone": "UTC"},
        end={"dateTime": "2026-03-03T00:00:00.0000000", "timeZone": "UTC"},
        cancelledOccurrences=["OID.AAMkAG=.2027-03-02"],
        exceptionOccurrences=[
            {
                "originalStart": "2028-03-02T00:00:00Z",
                "start": {"dateTime": "2028-03-05T00:00:00", "timeZone": "UTC"},
                "end": {"dateTime": "2028-03-06T00:00:00", "timeZone": "UTC"},
            }
        ],
    )
    written = lines(source)
    assert "DTSTART;VALUE=DATE:20260302" in written
    assert "RRULE:FREQ=YEARLY;UNTIL=20300302;BYMONTHDAY=2;BYMONTH=3" in written
    assert "EXDATE;VALUE=DATE:20270302" in written
    assert "RECURRENCE-ID;VALUE=DATE:20280302" in written
    assert "DTSTART;VALUE=DATE:20280305" in written
    assert not any("TZID" in each for each in written)
    assert first_days(source, 9) == [date(year, 3, 2) for year in (2026, 2028, 2029, 2030)]


def test_whole_days_given_as_another_zones_midnight_keep_their_date() -> None:
    source = event(
        isAllDay=True,
        start={"dateTime": "2026-07-01T22:00:00", "timeZone": "UTC"},
        end={"dateTime": "2026-07-03T22:00:00", "timeZone": "UTC"},
    )
    assert "DTSTART;VALUE=DATE:20260702" in lines(source)
    assert "DTEND;VALUE=DATE:20260704" in lines(source)


@pytest.mark.parametrize("end", [None, {"dateTime": "2026-03-02T00:00:00", "timeZone": "UTC"}])
def test_a_whole_day_without_an_end_of_its_own_lasts_one_day(end: Any) -> None:
    written = lines(event(isAllDay=True, start={"dateTime": "2026-03-02T00:00:00"}, end=end))
    assert "DTSTART;VALUE=DATE:20260302" in written
    assert "DTEND;VALUE=DATE:20260303" in written


def test_a_cancelled_occurrence_is_excluded_at_its_own_time_and_zone() -> None:
    source = series(
        {"type": "daily", "interval": 1},
        cancelledOccurrences=["OID.AAMkAG=.2026-03-30", "OID.AAMkAG=.2026-03-28", "nonsense"],
    )
    written = lines(source)
    assert "EXDATE;TZID=Europe/Berlin:20260328T090000" in written
    assert "EXDATE;TZID=Europe/Berlin:20260330T090000" in written
    assert "X-BACKUPD-NOTE:a cancelled occurrence could not be read" in written
    days = first_days(source, 60)
    assert date(2026, 3, 29) in days
    assert not {date(2026, 3, 28), date(2026, 3, 30)} & set(days)


def moved(day: str, to: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "exception",
        "originalStart": f"{day}Z",
        "start": {"dateTime": f"{to}:00:00.0000000", "timeZone": "UTC"},
        "end": {"dateTime": f"{to}:30:00.0000000", "timeZone": "UTC"},
    } | fields


def test_a_moved_occurrence_replaces_exactly_one_that_the_rule_makes() -> None:
    source = series(
        {"type": "weekly", "interval": 1, "daysOfWeek": ["monday"]},
        exceptionOccurrences=[
            moved("2026-04-06T07:00:00", "2026-04-07T13", subject="Budget (Tuesday)"),
            moved(
                "2026-03-09T08:00:00",
                "2026-03-09T20",
                originalStartTimeZone="Pacific Standard Time",
            ),
        ],
    )
    master, winter, summer = components(event_to_ics(source))
    made = set(islice(occurrences(master), 20))
    for override in (winter, summer):
        assert override["RECURRENCE-ID"].dt in made
        assert override["RECURRENCE-ID"].params["TZID"] == "Europe/Berlin"
        assert override["UID"] == master["UID"]
        assert "RRULE" not in override
    assert winter["DTSTART"].dt == datetime(2026, 3, 9, 20, tzinfo=UTC)
    assert winter["DTSTART"].params["TZID"] == "America/Los_Angeles"
    assert winter["SUMMARY"] == "Budget"  # an exception that is silent takes from its series
    assert summer["SUMMARY"] == "Budget (Tuesday)"


def test_every_zone_that_is_used_is_defined_once() -> None:
    source = series(
        {"type": "weekly", "interval": 1, "daysOfWeek": ["monday"]},
        exceptionOccurrences=[
            moved(
                "2026-03-09T08:00:00",
                "2026-03-09T20",
                originalStartTimeZone="Pacific Standard Time",
            )
        ],
    )
    written = lines(source)
    assert [each for each in written if each.startswith("TZID:")] == [
        "TZID:America/Los_Angeles",
        "TZID:Europe/Berlin",
    ]


def test_the_occurrence_name_wins_over_the_original_start() -> None:
    source = series(
        {"type": "daily", "interval": 1},
        exceptionOccurrences=[
            moved("2026-03-09T23:30:00", "2026-03-09T20", occurrenceId="OID.x.2026-03-09")
        ],
    )
    assert "RECURRENCE-ID;TZID=Europe/Berlin:20260309T090000" in lines(source)


def test_of_two_exceptions_for_one_occurrence_the_latest_counts() -> None:
    twins = [
        moved(
            "2026-03-09T08:00:00",
            "2026-03-09T10",
            subject="new",
            lastModifiedDateTime="2026-02-03T00:00:00Z",
        ),
        moved(
            "2026-03-09T08:00:00",
            "2026-03-09T11",
            subject="old",
            lastModifiedDateTime="2026-02-02T00:00:00Z",
        ),
    ]
    for order in (twins, twins[::-1]):
        found = components(
            event_to_ics(series({"type": "daily", "interval": 1}, exceptionOccurrences=order))
        )
        assert [str(each["SUMMARY"]) for each in found] == ["Budget", "new"]


def test_a_series_whose_given_start_is_no_occurrence_begins_at_its_first() -> None:
    pattern = {
        "type": "relativeMonthly",
        "interval": 2,
        "daysOfWeek": ["sunday"],
        "index": "first",
    }
    (master,) = components(event_to_ics(series(pattern)))
    assert master["DTSTART"].dt == datetime(2026, 5, 3, 9, tzinfo=ZoneInfo("Europe/Berlin"))
    assert master["DTEND"].dt == datetime(2026, 5, 3, 10, 30, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize("zone", ["tzone://Microsoft/Custom", "Customized Time Zone", ""])
def test_a_series_in_a_zone_that_nobody_knows_keeps_its_weekday(zone: str) -> None:
    source = series(
        {"type": "weekly", "interval": 1, "daysOfWeek": ["tuesday"]},
        {"startDate": "2026-03-03", "recurrenceTimeZone": zone},
        originalStartTimeZone="tzone://Microsoft/Custom",
        start={"dateTime": "2026-03-02T22:30:00", "timeZone": "UTC"},
        end={"dateTime": "2026-03-02T23:30:00", "timeZone": "UTC"},
        cancelledOccurrences=["OID.AAMkAG=.2026-03-10"],
    )
    (master,) = components(event_to_ics(source))
    found = [each.astimezone(UTC) for each in islice(occurrences(master), 2)]
    assert found == [
        datetime(2026, 3, 2, 22, 30, tzinfo=UTC),
        datetime(2026, 3, 16, 22, 30, tzinfo=UTC),
    ]
    assert "the time zone tzone://Microsoft/Custom is unknown" in str(master["X-BACKUPD-NOTE"])


def test_a_single_event_in_an_unknown_zone_is_said_in_utc() -> None:
    written = lines(
        event(originalStartTimeZone="tzone://Microsoft/Custom", originalEndTimeZone=None)
    )
    assert "DTSTART:20260302T080000Z" in written
    assert "X-BACKUPD-NOTE:the time zone tzone://Microsoft/Custom is unknown" in written


def test_microsofts_utc_is_utc() -> None:
    assert "DTSTART:20260302T080000Z" in lines(event(originalStartTimeZone="tzone://Microsoft/Utc"))


def test_times_that_come_in_a_local_zone_mean_the_same_instant() -> None:
    source = event(
        start={"dateTime": "2026-03-02T00:00:00.0000000", "timeZone": "Pacific Standard Time"}
    )
    assert "DTSTART;TZID=Europe/Berlin:20260302T090000" in lines(source)


def test_the_hour_that_comes_twice_is_said_in_utc() -> None:
    source = event(
        start={"dateTime": "2026-10-25T01:30:00", "timeZone": "UTC"},
        end={"dateTime": "2026-10-25T02:30:00", "timeZone": "UTC"},
    )
    assert "DTSTART:20261025T013000Z" in lines(source)


UNCLEAR: list[tuple[Any, str]] = [
    ({"pattern": {"type": "lunar"}, "range": {"type": "noEnd"}}, "pattern type lunar"),
    ({"pattern": None, "range": {"type": "noEnd"}}, "pattern type missing"),
    ({"pattern": {"type": "daily"}, "range": None}, "range type missing"),
    (
        {"pattern": {"type": "daily"}, "range": {"type": "numbered", "numberOfOccurrences": 0}},
        "range type numbered",
    ),
    (
        {"pattern": {"type": "daily"}, "range": {"type": "endDate", "endDate": "2026-01-01"}},
        "it ends before it begins",
    ),
    (
        {"pattern": {"type": "daily", "interval": 10**30}, "range": {"type": "noEnd"}},
        f"interval {10**30}",
    ),
    ({"pattern": {"type": "daily", "interval": -1}, "range": {"type": "noEnd"}}, "interval -1"),
    (
        {"pattern": {"type": "weekly", "daysOfWeek": ["funday"]}, "range": {"type": "noEnd"}},
        "day of week funday",
    ),
    (
        {"pattern": {"type": "relativeMonthly", "index": "first"}, "range": {"type": "noEnd"}},
        "no day of week",
    ),
    (
        {
            "pattern": {"type": "relativeMonthly", "daysOfWeek": ["monday"], "index": "fifth"},
            "range": {"type": "noEnd"},
        },
        "index fifth",
    ),
    (
        {"pattern": {"type": "absoluteMonthly", "dayOfMonth": 32}, "range": {"type": "noEnd"}},
        "day of month 32",
    ),
    ({"pattern": {"type": "absoluteYearly", "month": 13}, "range": {"type": "noEnd"}}, "month 13"),
]


@pytest.mark.parametrize(("recurrence", "why"), UNCLEAR)
def test_a_rule_that_cannot_be_said_is_kept_as_graph_has_it(recurrence: Any, why: str) -> None:
    found = only(event(recurrence=recurrence))
    assert "RRULE" not in found
    assert json.loads(said(found, "X-BACKUPD-RECURRENCE")) == recurrence
    assert found["X-BACKUPD-NOTE"] == f"only the first occurrence is here: {why}"


def test_zero_month_and_day_are_the_defaults_that_mean_nothing() -> None:
    pattern = {
        "type": "weekly",
        "interval": 1,
        "month": 0,
        "dayOfMonth": 0,
        "daysOfWeek": ["monday"],
        "index": "first",
    }
    assert "RRULE:FREQ=WEEKLY;BYDAY=MO;WKST=SU" in lines(series(pattern))


def test_every_recurrence_that_graph_ever_showed_us_becomes_a_rule(corpus: Path) -> None:
    fragments = json.loads((corpus / "graph-json" / "event__recurrence-fragments.json").read_text())
    whole = [each.get("recurrence", each) for each in fragments]
    patterns = [each["pattern"] for each in whole if "pattern" in each]
    ranges = [each["range"] for each in whole if "range" in each]
    assert (len(patterns), len(ranges)) == (12, 5)
    for pattern in patterns:
        named = pattern | {"daysOfWeek": [each.lower() for each in pattern.get("daysOfWeek", [])]}
        assert first_days(series(pattern), 20) == list(islice(meant(named, date(2026, 3, 2)), 20))
    for bounds in ranges:
        start = {"dateTime": f"{bounds['startDate']}T08:00:00", "timeZone": "UTC"}
        assert "RRULE" in only(series(patterns[0], bounds, start=start, end=None))
