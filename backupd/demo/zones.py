"""Exchange's names of the time zones that the written content uses."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

CUSTOM = "tzone://Microsoft/Custom"
"""What Outlook writes when a client brought its own definition; nobody can tell what it means."""

_IANA = WINDOWS_TO_OLSON | {
    "UTC": "UTC",
    "GMT Standard Time": "Europe/London",
    "Romance Standard Time": "Europe/Brussels",
    "W. Europe Standard Time": "Europe/Berlin",
    "Central European Standard Time": "Europe/Warsaw",
    "GTB Standard Time": "Europe/Athens",
    "Middle East Standard Time": "Asia/Beirut",
    "Eastern Standard Time": "America/New_York",
    "India Standard Time": "Asia/Kolkata",
}


def zone(name: str) -> tzinfo:
    """A zone by Exchange's or the IANA name; UTC for one that nobody knows."""
    try:
        return ZoneInfo(_IANA.get(name, name))
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def is_known(name: str) -> bool:
    """Whether a client may ask for times in this zone."""
    return name in _IANA or name in available_timezones()


def graph_time(moment: datetime, name: str = "UTC") -> dict[str, str]:
    """A moment as Graph's dateTimeTimeZone, with the seven-digit fraction it always has."""
    local = moment.astimezone(zone(name))
    return {"dateTime": local.strftime("%Y-%m-%dT%H:%M:%S.%f") + "0", "timeZone": name}


def parse_time(value: dict[str, str]) -> datetime:
    """The moment that a dateTimeTimeZone names."""
    text = value["dateTime"][: len("2026-11-02T08:00:00")]
    return datetime.fromisoformat(text).replace(tzinfo=zone(value["timeZone"]))


def at(day: date, hour: float, name: str) -> datetime:
    """A wall-clock time in a zone."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone(name))
    return midnight.replace(hour=int(hour)) + timedelta(minutes=round(hour % 1 * 60))
