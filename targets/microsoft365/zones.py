"""Time zones in the words of Exchange: Windows names, which not every zone has one of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

YEARS = 5
"""For how long two zones must show the same time to be taken for one."""
_UTC = "UTC"


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
    first = datetime(max(2, min(year, 9990)), 1, 1, 12, tzinfo=UTC)
    few = [first + timedelta(days=each) for each in (0, 90, 181, 271, 365)]
    many = [first + timedelta(days=each) for each in range(365 * YEARS)]
    for name in WINDOWS_TO_OLSON:
        other = zone(name)
        if other is not None and all(
            _offset(each, rules) == _offset(each, other) for part in (few, many) for each in part
        ):
            return name
    return None


def _offset(instant: datetime, rules: tzinfo) -> timedelta | None:
    return instant.astimezone(rules).utcoffset()
