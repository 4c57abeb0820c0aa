"""Zone names as Exchange writes them, and the definitions that go into a calendar."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from dateutil import tz
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

from sources.graph import zones


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("w. europe standard time ", "Europe/Berlin"),
        ("Europe/Rome", "Europe/Rome"),
        ("europe/rome", "Europe/Rome"),
        ("Pacific Standard Time", "America/Los_Angeles"),
        ("UTC", "UTC"),
        ("Etc/UTC", "UTC"),
        ("Coordinated Universal Time", "UTC"),
        ("tzone://Microsoft/Utc", "UTC"),
        ("tzone://Microsoft/W. Europe Standard Time", "Europe/Berlin"),
    ],
)
def test_a_name_that_is_known_becomes_its_iana_name(written: str, meant: str) -> None:
    assert zones.iana(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "tzone://Microsoft/Custom",
        "Customized Time Zone",
        "",
        "/",
        "Europe",
        "../../etc/passwd",
        "(UTC+01:00) Amsterdam, Berlin, Bern",
        "Mars/Olympus\x00",
        "x" * 100_000,
    ],
)
def test_a_name_that_nobody_knows_is_none(written: str) -> None:
    assert zones.iana(written) is None


def test_every_windows_zone_has_rules() -> None:
    for name in WINDOWS_TO_OLSON:
        found = zones.iana(name)
        assert found is not None
        assert zones.zone(found).utcoffset(datetime(2026, 1, 1)) is not None  # noqa: DTZ001 - wall time


@pytest.mark.parametrize(
    ("start", "first_day", "expected"),
    [
        ("2026-11-02T22:30:00", date(2026, 11, 3), "Etc/GMT-2"),
        ("2026-11-02T23:59:59", date(2026, 11, 3), "Etc/GMT-1"),
        ("2026-11-02T01:00:00", date(2026, 11, 1), "Etc/GMT+2"),
        ("2026-11-02T08:00:00", date(2026, 11, 2), "UTC"),
        ("2026-11-02T08:00:00", None, "UTC"),
        ("2026-11-02T08:00:00", date(2026, 12, 24), "UTC"),
        ("2026-11-02T01:00:00", date(2026, 11, 3), "UTC"),  # no zone is 23 hours east
    ],
)
def test_a_stand_in_keeps_the_day_that_the_series_names(
    start: str, first_day: date | None, expected: str
) -> None:
    assert zones.stand_in(datetime.fromisoformat(start).replace(tzinfo=UTC), first_day) == expected


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001 - made aware below
    st.integers(-1, 1),
)
def test_a_stand_in_other_than_utc_always_lands_on_the_day(naive: datetime, days: int) -> None:
    start = naive.replace(tzinfo=UTC)
    wanted = start.date() + timedelta(days=days)
    name = zones.stand_in(start, wanted)
    assert name == "UTC" or start.astimezone(zones.zone(name)).date() == wanted


ZONES = [
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Asia/Kolkata",
    "Africa/Casablanca",
    "Etc/GMT-2",
]


@pytest.mark.parametrize("name", ZONES)
def test_a_definition_says_what_the_zone_does_at_every_hour(name: str) -> None:
    calendar = Calendar()
    calendar.add_component(zones.definition(name, 2025, 2027))
    defined = tz.tzical(io.StringIO(calendar.to_ical().decode())).get(name)
    truth = ZoneInfo(name)
    when = datetime(2025, 1, 2, tzinfo=UTC)
    while when.year < 2028:
        wall = when.astimezone(truth)
        if wall.fold == 0:  # the hour that comes twice has one name and two answers
            assert wall.replace(tzinfo=defined).utcoffset() == wall.utcoffset(), wall
        when += timedelta(hours=1 if wall.day > 20 or wall.day < 8 else 12)


def test_definitions_reach_the_ends_of_the_calendar() -> None:
    for first, last in ((2, 3), (9990, 9998)):
        assert b"BEGIN:STANDARD" in zones.definition("Europe/Berlin", first, last).to_ical()


def test_every_zone_can_be_defined() -> None:
    for name in sorted(available_timezones())[::7]:
        assert f"TZID:{name}".encode() in zones.definition(name, 2026, 2027).to_ical()
