"""Time zones in the words of Exchange: Windows names, which not every zone has one of."""

from __future__ import annotations

from datetime import MAXYEAR, UTC, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

YEARS = 5
"""For how long two zones must show the same time to be taken for one."""
_UTC = "UTC"
_COMMON = (
    "W. Europe Standard Time",
    "GMT Standard Time",
    "FLE Standard Time",
    "Eastern Standard Time",
    "Central Standard Time",
    "Mountain Standard Time",
    "Pacific Standard Time",
    "China Standard Time",
)
"""Zones that are taken first where several show the same time."""


def zone(name: str) -> tzinfo | None:
    """The rules of a zone by its Windows or IANA name; None for one that nobody knows."""
    if name.upper() in {"UTC", "TZONE://MICROSOFT/UTC", "ETC/UTC"}:
        return UTC
    try:
        return ZoneInfo(WINDOWS_TO_OLSON.get(name, name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def windows(rules: tzinfo, when: datetime) -> str | None:
    """The Windows name of a zone, or of one that shows the same time around `when` and for some years.

    None when there is no such zone.
    """
    key = getattr(rules, "key", None)
    if rules is UTC or key in {"UTC", "Etc/UTC", "Zulu", "Etc/Zulu"}:
        return _UTC
    if isinstance(rules, ZoneInfo):
        return _named(rules, when.year)
    return _twin(rules, when.year)


@lru_cache(maxsize=512)
def _named(rules: ZoneInfo, year: int) -> str | None:
    return _inverse().get(rules.key) or _twin(rules, year)


@cache
def _inverse() -> dict[str, str]:
    return {olson: name for name, olson in reversed(WINDOWS_TO_OLSON.items())}


def _twin(rules: tzinfo, year: int) -> str | None:
    year = max(2, min(year, MAXYEAR - YEARS - 1))
    shown = _shown(rules, year)
    for name in (*_COMMON, *WINDOWS_TO_OLSON):
        if _shown_by(name, year) == shown:
            return name
    return None


@lru_cache(maxsize=2048)
def _shown_by(name: str, year: int) -> tuple[timedelta | None, ...]:
    rules = zone(name)
    return _shown(rules, year) if rules else ()


def _shown(rules: tzinfo, year: int) -> tuple[timedelta | None, ...]:
    """The offsets in each week of some years: switches happen on weekends, whichever."""
    first = datetime(year, 1, 1, 12, tzinfo=UTC)
    midweek = first + timedelta(days=(2 - first.weekday()) % 7)
    weeks = (midweek + timedelta(weeks=each) for each in range(52 * YEARS))
    return tuple(each.astimezone(rules).utcoffset() for each in weeks)
